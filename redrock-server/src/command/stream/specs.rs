//! The records of the stream commands.

use super::super::table::flag::{
    BLOCKING, DENYOOM, FAST, LOADING, MOVABLE_KEYS, READONLY, STALE, WRITE,
};
use super::super::table::{Group, Handler, KeySpec, Spec};
use super::{ack, add, claim, edit, group, info, range, read, read_group, wait};

/// The key of a subcommand.
const SECOND: KeySpec = KeySpec::Range {
    first: 2,
    last: 2,
    step: 1,
};
/// The first half of what follows STREAMS.
const STREAMS: KeySpec = KeySpec::Custom(wait::key_positions);

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::Stream)
        .keys(KeySpec::ONE)
}

const fn sub(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    spec(name, arity, flags, handler).keys(SECOND)
}

const XGROUP: &[Spec] = &[
    sub("xgroup|create", -5, WRITE | DENYOOM, group::create)
        .doc("5.0.0", "Creates a consumer group."),
    sub(
        "xgroup|createconsumer",
        5,
        WRITE | DENYOOM,
        group::createconsumer,
    )
    .doc("6.2.0", "Creates a consumer in a consumer group."),
    sub("xgroup|delconsumer", 5, WRITE, group::delconsumer)
        .doc("5.0.0", "Deletes a consumer from a consumer group."),
    sub("xgroup|destroy", 4, WRITE, group::destroy).doc("5.0.0", "Destroys a consumer group."),
    spec("xgroup|help", 2, LOADING | STALE, group::help)
        .keys(KeySpec::None)
        .doc(
            "5.0.0",
            "Returns helpful text about the different subcommands.",
        ),
    sub("xgroup|setid", -5, WRITE, group::setid)
        .doc("5.0.0", "Sets the last-delivered ID of a consumer group."),
];

const XINFO: &[Spec] = &[
    sub("xinfo|consumers", 4, READONLY, info::consumers).doc(
        "5.0.0",
        "Returns a list of the consumers in a consumer group.",
    ),
    sub("xinfo|groups", 3, READONLY, info::groups).doc(
        "5.0.0",
        "Returns a list of the consumer groups of a stream.",
    ),
    spec("xinfo|help", 2, LOADING | STALE, info::help)
        .keys(KeySpec::None)
        .doc(
            "5.0.0",
            "Returns helpful text about the different subcommands.",
        ),
    sub("xinfo|stream", -3, READONLY, info::stream)
        .doc("5.0.0", "Returns information about a stream."),
];

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("xack", -4, WRITE | FAST, ack::xack)
        .doc("5.0.0", "Returns the number of messages that were successfully acknowledged by the consumer group member of a stream."),
    spec("xadd", -5, WRITE | DENYOOM | FAST, add::xadd)
        .doc("5.0.0", "Appends a new message to a stream. Creates the key if it doesn't exist."),
    spec("xautoclaim", -6, WRITE | FAST, claim::xautoclaim)
        .doc("6.2.0", "Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered to as consumer group member."),
    spec("xclaim", -6, WRITE | FAST, claim::xclaim)
        .doc("5.0.0", "Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered a consumer group member."),
    spec("xdel", -3, WRITE | FAST, edit::xdel)
        .doc("5.0.0", "Returns the number of messages after removing them from a stream."),
    spec("xgroup", -2, 0, group::help)
        .keys(KeySpec::None)
        .sub(XGROUP)
        .doc("5.0.0", "A container for consumer groups commands."),
    spec("xinfo", -2, 0, info::help)
        .keys(KeySpec::None)
        .sub(XINFO)
        .doc("5.0.0", "A container for stream introspection commands."),
    spec("xlen", 2, READONLY | FAST, range::xlen)
        .doc("5.0.0", "Return the number of messages in a stream."),
    spec("xpending", -3, READONLY, ack::xpending)
        .doc("5.0.0", "Returns the information and entries from a stream consumer group's pending entries list."),
    spec("xrange", -4, READONLY, range::xrange)
        .doc("5.0.0", "Returns the messages from a stream within a range of IDs."),
    spec("xread", -4, READONLY | BLOCKING | MOVABLE_KEYS, read::xread)
        .keys(STREAMS)
        .doc("5.0.0", "Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a message is available otherwise."),
    spec("xreadgroup", -7, WRITE | BLOCKING | MOVABLE_KEYS, read_group::xreadgroup)
        .keys(STREAMS)
        .doc("5.0.0", "Returns new or historical messages from a stream for a consumer in a group. Blocks until a message is available otherwise."),
    spec("xrevrange", -4, READONLY, range::xrevrange)
        .doc("5.0.0", "Returns the messages from a stream within a range of IDs in reverse order."),
    spec("xsetid", -3, WRITE | DENYOOM | FAST, edit::xsetid)
        .doc("5.0.0", "An internal command for replicating stream values."),
    spec("xtrim", -4, WRITE, add::xtrim)
        .doc("5.0.0", "Deletes messages from the beginning of a stream."),
];
