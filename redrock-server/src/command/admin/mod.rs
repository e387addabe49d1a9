//! Commands of the admin family: the server, its clients and its statistics.

mod absent;
mod acl;
mod client;
mod commands;
pub mod config;
mod debug;
mod failover;
mod introspection;
mod latency;
mod memory;
pub(super) mod persistence;
mod replication;
mod service;
mod slowlog;

use super::table::Spec;
use super::{Args, CommandError, CommandResult, Context};

pub(crate) use client::line as client_line;
pub(crate) use commands::{ACL_CATEGORIES, categories, keys_with_access};

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    acl::ACL,
    absent::ASKING,
    absent::CLUSTER,
    absent::MODULE,
    absent::READONLY,
    absent::READWRITE,
    client::CLIENT,
    commands::COMMAND,
    config::CONFIG,
    debug::DEBUG,
    failover::FAILOVER,
    introspection::INFO,
    introspection::LOLWUT,
    introspection::MONITOR,
    introspection::TIME,
    latency::LATENCY,
    memory::MEMORY,
    persistence::BGREWRITEAOF,
    persistence::BGSAVE,
    persistence::SAVE,
    replication::PSYNC,
    replication::REPLCONF,
    replication::REPLICAOF,
    replication::SLAVEOF,
    replication::SYNC,
    replication::WAIT,
    replication::WAITAOF,
    service::LASTSAVE,
    service::ROLE,
    service::SHUTDOWN,
    slowlog::SLOWLOG,
];

/// Writes a container's help: its head line, `lines`, and those of HELP itself.
pub(super) fn help(ctx: &mut Context<'_>, name: &str, lines: &[&str]) -> CommandResult {
    ctx.reply.array(lines.len() + 3);
    ctx.reply.simple(&format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for line in lines {
        ctx.reply.simple(line);
    }
    ctx.reply.simple("HELP");
    ctx.reply.simple("    Prints this help.");
    Ok(())
}

/// The error for a subcommand that exists in no such form.
pub(super) fn unknown_form(name: &str, args: &Args<'_>) -> CommandError {
    let shown = args.at(1).get(..128).unwrap_or(args.at(1));
    let rest = format!("'. Try {name} HELP.");
    let start: &[u8] = b"ERR unknown subcommand or wrong number of arguments for '";
    CommandError::Bytes([start, shown, rest.as_bytes()].concat())
}
