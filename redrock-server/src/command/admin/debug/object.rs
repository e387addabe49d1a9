//! DEBUG OBJECT, LISTPACK, QUICKLIST, SDSLEN: one value from inside.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::hot::entry::Entry;
use crate::value::{ValueRef, codec};
use redrock_rdb::object::{Target, transcode};
use std::fmt::Write as _;

/// Longest string with the encoding `embstr`.
const EMBEDDED_BYTES_MAX: usize = 44;

/// What DEBUG OBJECT tells of a value.
struct Facts {
    address: usize,
    encoding: &'static str,
    idle_s: u32,
    serialized_bytes: usize,
    /// Nodes, elements and bytes of a quicklist.
    list: Option<(usize, usize, usize)>,
    /// Length of a string that is none of Redis's integers.
    string_bytes: Option<usize>,
}

/// Which keys are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that other commands see.
    Visible,
    /// Those past their time too, as long as they are in memory.
    Present,
}

/// An entry with its value, if it is in memory.
fn find<'c>(ctx: &'c mut Context<'_>, key: &[u8]) -> Option<(&'c Entry, ValueRef<'c>)> {
    let index = ctx.db.index();
    let table = &ctx.db.keyspace().database(index)?.table;
    let entry = table.find_value(table.hash(key), key)?;
    Some((entry, entry.value()?))
}

/// A value in memory, or loaded. `-ERR no such key` if there is none.
fn facts(ctx: &mut Context<'_>, key: &[u8], which: Which) -> CommandResult<Facts> {
    let rdb = &ctx.config.snapshot;
    let target = Target {
        version: u16::try_from(rdb.rdb_version).unwrap_or(10),
        compress: rdb.compress,
    };
    // A look through the database deletes a key past its time, or loads a cold one.
    let in_memory = which == Which::Present && find(ctx, key).is_some();
    if !in_memory && ctx.db.peek(key)?.is_none() {
        return Err(CommandError::NoSuchKey);
    }
    let policy = ctx.db.keyspace().access;
    let Some((entry, value)) = find(ctx, key) else {
        return Err(CommandError::NoSuchKey);
    };
    let mut record = Vec::new();
    codec::encode(value, &mut record);
    let mut saved = Vec::new();
    if let Some((object_type, payload)) = record.split_first() {
        transcode(*object_type, payload, target, &mut saved)
            .map_err(|error| CommandError::text(format!("ERR {error}")))?;
    }
    let (mut list_facts, mut string_bytes) = (None, None);
    let encoding = match value {
        ValueRef::Int(_) => "int",
        ValueRef::Str(bytes) => {
            string_bytes = Some(bytes.len());
            let embedded = entry.share().is_none() && bytes.len() <= EMBEDDED_BYTES_MAX;
            if embedded { "embstr" } else { "raw" }
        }
        ValueRef::List(list) => {
            list_facts = list
                .node_count()
                .map(|nodes| (nodes, list.len(), list.content_bytes()));
            list.encoding()
        }
        ValueRef::Set(set) => set.encoding(),
        ValueRef::ZSet(zset) => zset.encoding(),
        ValueRef::Hash(hash) => hash.encoding(),
        ValueRef::Stream(_) => "stream",
    };
    Ok(Facts {
        address: entry.key().as_ptr() as usize,
        encoding,
        idle_s: policy.idle_seconds(entry.access()),
        // As it would be saved; the type byte is not counted.
        serialized_bytes: saved.len(),
        list: list_facts,
        string_bytes,
    })
}

pub(super) fn object(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(2);
    let facts = facts(ctx, key, Which::Present)?;
    let clock = ctx.db.keyspace().access.clock_seconds;
    let mut text = format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
        facts.address,
        facts.encoding,
        facts.serialized_bytes,
        clock.wrapping_sub(facts.idle_s) & 0xff_ffff,
        idle_s = facts.idle_s,
    );
    if let Some((nodes, elements, bytes)) = facts.list {
        // Writing to a string can't fail.
        let _ = write!(
            text,
            " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} \
             ql_uncompressed_size:{bytes}",
            elements as f64 / nodes.max(1) as f64,
            ctx.config.limits.list_listpack_size,
            u8::from(ctx.config.limits.list_compress_depth != 0),
        );
    }
    ctx.reply.simple(&text);
    Ok(())
}

pub(super) fn listpack(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let facts = facts(ctx, args.at(2), Which::Visible)?;
    if facts.encoding != "listpack" {
        return Err(CommandError::fixed("ERR Not a listpack encoded object."));
    }
    tracing::info!("DEBUG LISTPACK: {} bytes", facts.serialized_bytes);
    ctx.reply.simple("Listpack structure printed on stdout");
    Ok(())
}

pub(super) fn quicklist(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some((nodes, elements, bytes)) = facts(ctx, args.at(2), Which::Visible)?.list else {
        return Err(CommandError::fixed("ERR Not a quicklist encoded object."));
    };
    tracing::info!("DEBUG QUICKLIST: {nodes} nodes, {elements} elements, {bytes} bytes");
    ctx.reply.simple("Quicklist structure printed on stdout");
    Ok(())
}

pub(super) fn sdslen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(2);
    let Some(bytes) = facts(ctx, key, Which::Present)?.string_bytes else {
        return Err(CommandError::fixed("ERR Not an sds encoded string."));
    };
    ctx.reply.simple(&format!(
        "key_sds_len:{0}, key_sds_avail:0, key_zmalloc: {0}, val_sds_len:{bytes}, val_sds_avail:0, \
         val_zmalloc: {bytes}",
        key.len()
    ));
    Ok(())
}
