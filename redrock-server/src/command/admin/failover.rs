//! FAILOVER: what it is asked for. What follows is [`crate::replication::failover`].

use super::super::args::is_word;
use super::persistence::later;
use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::replication::failover::{self, Running, Wanted};
use crate::services::companion_error;

/// FAILOVER.
pub(super) const FAILOVER: Spec = Spec::new(
    "failover",
    -1,
    flag::ADMIN | flag::NOSCRIPT | flag::STALE,
    failover_command,
)
.group(Group::Server)
.doc(
    "6.2.0",
    "Starts a coordinated failover from a server to one of its replicas.",
);

/// Longest timeout that the agent takes, ms.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

fn parse(args: &Args<'_>) -> CommandResult<Wanted> {
    let mut wanted = Wanted::default();
    let mut port_is_wrong = false;
    let mut at = 1;
    while let Some(word) = args.get(at) {
        let more = args.len() - 1 - at;
        if is_word(word, "timeout") && more >= 1 && wanted.timeout_ms == 0 {
            wanted.timeout_ms = u64::try_from(args.int(at + 1)?)
                .ok()
                .filter(|ms| *ms > 0)
                .ok_or(CommandError::fixed(
                    "ERR FAILOVER timeout must be greater than 0",
                ))?;
            at += 1;
        } else if is_word(word, "to") && more >= 2 && wanted.to.is_none() {
            let port = u16::try_from(args.int(at + 2)?);
            port_is_wrong = port.is_err();
            let host = String::from_utf8_lossy(args.at(at + 1)).into_owned();
            wanted.to = Some((host, port.unwrap_or(0)));
            at += 2;
        } else if is_word(word, "force") && !wanted.force {
            wanted.force = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    if port_is_wrong && let Some((host, _)) = &mut wanted.to {
        // No replica listens there.
        host.clear();
    }
    Ok(wanted)
}

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]`
fn failover_command(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let services = ctx.server.services()?.clone();
    let server = ctx.server.handle()?;
    if args.len() == 2 && args.is(1, "abort") {
        if !server.is_failing_over() {
            return Err(CommandError::fixed("ERR No failover in progress."));
        }
        return later(ctx, async move {
            match failover::abort(&services, &server).await {
                Ok(_) => Ok("OK".to_owned()),
                Err(error) => Err(companion_error("replication agent", &error)),
            }
        });
    }
    let mut wanted = parse(args)?;
    if let Some(text) = failover::refusal(&server, &services, &wanted) {
        return Err(CommandError::fixed(text));
    }
    wanted.timeout_ms = wanted.timeout_ms.min(TIMEOUT_MS_MAX);
    let running = Running::begin(&server);
    let running = running.ok_or(CommandError::fixed("ERR FAILOVER already in progress."))?;
    later(ctx, async move {
        match failover::start(&services, running, wanted).await {
            Ok(_steps) => Ok("OK".to_owned()),
            Err(error) => Err(companion_error("replication agent", &error)),
        }
    })
}
