//! What a command meets before it runs, and a reply that is too long after it: checks, CLIENT
//! PAUSE, MULTI.

use super::Wait;
use crate::acl;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::reply::Reply;
use crate::command::table::{Spec, flag};
use crate::config::{Allowed, Config};
use crate::net::client::Client;
use crate::net::memory::ReplyLimit;
use crate::server::Server;
use crate::state::PauseMode;
use std::sync::atomic::Ordering;

/// What becomes of a client whose command's reply is too long. What the command changed stays.
pub(super) fn refuse_reply(server: &Server, client: &Client, limit: ReplyLimit, out: &mut Vec<u8>) {
    out.shrink_to(64 << 10);
    if limit.closes {
        server.close_for_output(&client.shared, limit.bytes as u64);
        return;
    }
    let error = CommandError::text(server.client_memory.refusal("the reply"));
    server.stats.error(&error);
    Reply::new(out, client.resp3).error(&error.resp());
}

/// The reply to a queued command. That too gives the table of tracked keys occasion to shrink; of a
/// client that is not tracked it does not take the lock.
pub(super) fn reply_queued(server: &Server, config: &Config, client: &Client, out: &mut Vec<u8>) {
    if client.shared.tracking.load(Ordering::Relaxed) != 0 {
        if let Some(mut keyspace) = server.keyspace_unless_busy() {
            keyspace.limit_tracking(server, config.memory.tracking_keys_max);
        }
        client.take_pushes(out);
    }
    Reply::new(out, client.resp3).simple("QUEUED");
}

/// Queues a command of a transaction; false if it is not one.
pub(super) fn queue(
    config: &Config,
    client: &mut Client,
    spec: &'static Spec,
    flags: u32,
    argv: &[&[u8]],
) -> bool {
    const AT_ONCE: [&str; 6] = ["exec", "discard", "multi", "watch", "quit", "reset"];
    let Some(transaction) = &mut client.transaction else {
        return false;
    };
    if AT_ONCE.contains(&spec.name) {
        return false;
    }
    // What will not run anyway takes no memory.
    if !transaction.failed && !client.watch_dirty.load(Ordering::Relaxed) {
        transaction.push(spec, flags, argv);
    }
    if transaction.bytes > config.network.query_buffer_bytes_max {
        tracing::warn!(
            client = client.shared.id,
            "transaction beyond client-query-buffer-limit"
        );
        client.close_after_reply = true;
    }
    true
}

/// Whether CLIENT PAUSE holds a command back.
pub(super) fn is_paused(server: &Server, client: &Client, spec: &Spec) -> bool {
    const MAY_WRITE: u32 = flag::WRITE | flag::MAY_REPLICATE;
    match server.state.pause.mode(crate::clock::unix_ms()) {
        PauseMode::None => false,
        PauseMode::All => true,
        PauseMode::Write => {
            spec.has(MAY_WRITE)
                || spec.name == "exec"
                    && client
                        .transaction
                        .as_ref()
                        .is_some_and(|transaction| transaction.flags & MAY_WRITE != 0)
        }
    }
}

/// Whether this client may run a protected command (`enable-debug-command`). Modules don't exist
/// here, so MODULE is never allowed.
fn is_allowed(config: &Config, client: &Client, spec: &'static Spec) -> bool {
    spec.name == "debug"
        && match config.security.debug_command {
            Allowed::No => false,
            Allowed::Yes => true,
            Allowed::Local => client.is_local(),
        }
}

/// What a command may allocate, roughly: its arguments and an entry.
pub(super) fn memory_charge(argv: &[&[u8]]) -> u64 {
    64 + argv.iter().map(|arg| arg.len() as u64).sum::<u64>()
}

/// What a command must wait for that would write, or take so many bytes of memory.
pub(super) fn waits_for_memory(
    server: &Server,
    client: &mut Client,
    flags: u32,
    charge: u64,
) -> Option<Wait> {
    if flags & flag::WRITE != 0 && server.memory.tier_is_behind() {
        return Some(Wait::Tier);
    }
    if flags & flag::DENYOOM == 0 {
        return None;
    }
    if !std::mem::take(&mut client.was_slowed)
        && let Some(wait) = server.memory.pace.wait(charge)
    {
        client.was_slowed = true;
        return Some(Wait::Pace(wait));
    }
    (!server.memory.admit(charge)).then_some(Wait::Memory)
}

/// All that can refuse a command before it runs; `as_said` is its record as its script makes it.
pub(super) fn check(
    server: &Server,
    config: &Config,
    client: &Client,
    spec: &'static Spec,
    as_said: &Spec,
    args: &Args<'_>,
) -> Result<(), CommandError> {
    if !spec.arity_ok(args.len()) {
        return Err(CommandError::Arity(spec.name.to_owned()));
    }
    if !client.authenticated && !spec.has(flag::NO_AUTH) && server.acl.password_needed() {
        return Err(CommandError::fixed("NOAUTH Authentication required."));
    }
    if spec.has(flag::PROTECTED) && !is_allowed(config, client, spec) {
        let name = spec.name.split('|').next().unwrap_or_default();
        return Err(CommandError::text(format!(
            "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", \
             you can run it from a local connection, otherwise you need to set this option in the \
             configuration file, and then restart the server.",
            name.to_ascii_uppercase()
        )));
    }
    if client.transaction.is_some() && spec.has(flag::NO_MULTI) {
        return Err(CommandError::fixed(
            "ERR Command not allowed inside a transaction",
        ));
    }
    if client.account.is_restricted() {
        acl::check::enforce(server, config, client, spec, args)?;
    }
    if !client.resp3
        && client.subscription_count() + client.shard_channels.len() > 0
        && !matches!(
            spec.name,
            "subscribe"
                | "unsubscribe"
                | "psubscribe"
                | "punsubscribe"
                | "ssubscribe"
                | "sunsubscribe"
                | "ping"
                | "quit"
                | "reset"
        )
    {
        return Err(CommandError::text(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            spec.name
        )));
    }
    if spec.name == "exec"
        && let Some(transaction) = &client.transaction
    {
        transaction
            .specs
            .iter()
            .try_for_each(|spec| server.gate(spec))?;
        // As what they queued said: a script may say that it writes.
        let mut queued = *spec;
        queued.flags |= transaction.flags & flag::WRITE;
        return server.gate(&queued);
    }
    server.gate(as_said)
}
