//! MIGRATE: what it is asked for. The transfer itself is [`crate::migrate`].

use crate::command::args::is_word;
use crate::command::dispatch::Deferred;
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::migrate::{self, Job, Latch};
use std::sync::atomic::Ordering;
use std::time::Duration;

const TIMEOUT_MS: i64 = 1000;

/// Argument indexes of the keys (Redis's `migrateGetKeys`).
pub(super) fn keys(args: &Args<'_>) -> Vec<usize> {
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "keys") && args.at(3).is_empty() {
            return (at + 1..args.len()).collect();
        }
        at += match () {
            () if args.is(at, "auth") => 2,
            () if args.is(at, "auth2") => 3,
            () => 1,
        };
    }
    vec![3]
}

/// Everything but the keys.
struct Options {
    copy: bool,
    replace: bool,
    login: Option<(Option<Vec<u8>>, Vec<u8>)>,
    /// Where the keys are.
    keys: std::ops::Range<usize>,
}

fn options(args: &Args<'_>) -> CommandResult<Options> {
    let mut options = Options {
        copy: false,
        replace: false,
        login: None,
        keys: 3..4,
    };
    let mut at = 6;
    while let Some(word) = args.get(at) {
        let more = args.len() - 1 - at;
        if is_word(word, "copy") {
            options.copy = true;
        } else if is_word(word, "replace") {
            options.replace = true;
        } else if is_word(word, "auth") && more >= 1 {
            options.login = Some((None, args.at(at + 1).to_vec()));
            at += 1;
        } else if is_word(word, "auth2") && more >= 2 {
            let user = args.at(at + 1).to_vec();
            options.login = Some((Some(user), args.at(at + 2).to_vec()));
            at += 2;
        } else if is_word(word, "keys") {
            if !args.at(3).is_empty() {
                return Err(CommandError::fixed(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the \
                     empty string",
                ));
            }
            options.keys = at + 1..args.len();
            break;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

/// `MIGRATE host port key|"" destination-db timeout [COPY] [REPLACE] [AUTH password |
/// AUTH2 username password] [KEYS key [key ...]]`
pub(super) fn migrate(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = options(args)?;
    let timeout_ms = args.int(5)?;
    let database = args.int(4)?;
    let named = args.all().get(options.keys).unwrap_or_default();
    let mut keys = Vec::new();
    for key in named {
        if ctx.db.exists(key)? {
            keys.push(key.to_vec());
        }
    }
    let stats = &mut ctx.db.keyspace().stats;
    stats.hits += keys.len() as u64;
    stats.misses += (named.len() - keys.len()) as u64;
    if keys.is_empty() {
        ctx.reply.simple("NOKEY");
        return Ok(());
    }
    if ctx.client.deny_blocking || ctx.client.is_replay() {
        // Nothing waits for another server with the keyspace held.
        return Err(CommandError::fixed(
            "ERR MIGRATE is not allowed in transactions and scripts",
        ));
    }
    let timeout_ms = if timeout_ms <= 0 {
        TIMEOUT_MS
    } else {
        timeout_ms
    };
    let job = Job {
        host: String::from_utf8_lossy(args.at(1)).into_owned(),
        port: std::str::from_utf8(args.at(2))
            .ok()
            .and_then(|port| port.parse().ok())
            // As in Redis no error of its own: nobody listens there.
            .unwrap_or(0),
        database,
        timeout: Duration::from_millis(timeout_ms.unsigned_abs()),
        copy: options.copy,
        replace: options.replace,
        login: options.login,
        source: ctx.db.index(),
        keys,
        feed: ctx.server.state.feed.load(Ordering::Acquire),
    };
    start(ctx, job)
}

/// Latches the keys; the rest is a task, which goes on if the client leaves.
fn start(ctx: &mut Context<'_>, job: Job) -> CommandResult {
    let services = ctx.server.services()?.clone();
    let server = ctx.server.handle()?;
    let (resp3, shared) = (ctx.client.resp3, ctx.client.shared.clone());
    ctx.db
        .keyspace()
        .latches
        .take(job.keys.iter().map(Vec::as_slice));
    let transfer = services.handle.spawn(migrate::run(Latch::new(server, job)));
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        let done = transfer.await;
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, resp3);
        match done {
            Ok(done) => {
                shared.late_offset.fetch_max(done.offset, Ordering::AcqRel);
                match done.result {
                    Ok(()) => reply.ok(),
                    Err(error) => reply.error(&error),
                }
            }
            Err(error) => reply.error(format!("ERR the transfer failed: {error}").as_bytes()),
        }
        out
    })));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(command: &str) -> Vec<usize> {
        let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        keys(&Args::new(&argv))
    }

    #[test]
    fn keys_stand_at_the_third_place_or_behind_the_word() {
        assert_eq!(found("MIGRATE h 1 k 0 0 COPY"), [3]);
        assert_eq!(found("MIGRATE h 1  0 0 COPY KEYS a b"), [8, 9]);
        assert_eq!(found("MIGRATE h 1  0 0 AUTH KEYS KEYS a"), [9]);
        assert_eq!(found("MIGRATE h 1  0 0 AUTH2 KEYS KEYS KEYS a"), [10]);
        assert_eq!(found("MIGRATE h 1 k 0 0 KEYS a"), [3]);
    }
}
