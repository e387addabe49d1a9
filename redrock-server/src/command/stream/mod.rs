//! Commands of streams.
//!
//! Who waits in XREAD or XREADGROUP runs again when the stream gets an entry; XREADGROUP also when
//! its group or its key goes. Consumer groups propagate what a delivery did, as XCLAIM and XGROUP
//! SETID, never the command itself.

mod ack;
mod add;
mod claim;
mod edit;
mod group;
mod id;
mod info;
mod range;
mod read;
mod read_group;
mod specs;
#[cfg(test)]
mod tests;
mod wait;

pub use specs::COMMANDS;

use super::{CommandError, CommandResult, Context, Reply};
use crate::config::Config;
use crate::value::ValueRef;
use crate::value::stream::{Entry, NodeLimits, Stream, StreamId};
use id::IdText;

/// When a node is full, as configured.
fn node_limits(config: &Config) -> NodeLimits {
    NodeLimits {
        bytes_max: config.streams.node_bytes_max,
        entries_max: config.streams.node_entries_max,
    }
}

/// Replies with an entry: its id, and its fields and values in turn.
fn reply_entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    reply.bulk(IdText::new(entry.id).as_bytes());
    reply.array(usize::try_from(entry.field_count.saturating_mul(2)).unwrap_or(usize::MAX));
    for (field, value) in entry.pairs() {
        reply.item(field);
        reply.item(value);
    }
}

fn reply_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(IdText::new(id).as_bytes());
}

/// An error that quotes words of the request, which stand at `{}`.
fn quoting(text: &str, words: &[&[u8]]) -> CommandError {
    let mut words = words.iter();
    let mut parts = text.split("{}");
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        out.extend_from_slice(words.next().copied().unwrap_or_default());
        out.extend_from_slice(part.as_bytes());
    }
    CommandError::Bytes(out)
}

/// What Redis answers where it takes subcommands apart itself.
fn subcommand_syntax(container: &str, subcommand: &[u8]) -> CommandError {
    let shown = subcommand.get(..128).unwrap_or(subcommand);
    let text = format!(
        "ERR unknown subcommand or wrong number of arguments for '{{}}'. Try {container} HELP."
    );
    quoting(&text, &[shown])
}

/// The stream at a key as a write looks it up: no statistics.
fn peek<'c>(ctx: &'c mut Context<'_>, key: &[u8]) -> CommandResult<Option<&'c Stream>> {
    match ctx.db.peek(key)? {
        None => Ok(None),
        Some(ValueRef::Stream(stream)) => Ok(Some(stream)),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// What is said where a group must be there.
fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let text = "NOGROUP No such key '{}' or consumer group '{}'";
    quoting(text, &[key, group])
}

fn help(ctx: &mut Context<'_>, lines: &[&str]) {
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.simple(line));
}
