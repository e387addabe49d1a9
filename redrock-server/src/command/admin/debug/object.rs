//! DEBUG OBJECT, LISTPACK, QUICKLIST, SDSLEN: one value from inside.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::value::{ValueRef, codec};
use std::fmt::Write as _;

/// Longest string with the encoding `embstr`.
const EMBEDDED_BYTES_MAX: usize = 44;

/// What DEBUG OBJECT tells of a value.
struct Facts {
    address: usize,
    encoding: &'static str,
    serialized_bytes: usize,
    /// Nodes, elements and bytes of a quicklist.
    list: Option<(usize, usize, usize)>,
    /// Length of a string that is none of Redis's integers.
    string_bytes: Option<usize>,
}

/// A value in memory, or loaded. `-ERR no such key` if there is none.
fn facts(ctx: &mut Context<'_>, key: &[u8]) -> CommandResult<Facts> {
    if ctx.db.peek(key)?.is_none() {
        return Err(CommandError::NoSuchKey);
    }
    let index = ctx.db.index();
    let table = ctx
        .db
        .keyspace()
        .database(index)
        .map(|database| &database.table);
    let entry = table.and_then(|table| table.find(table.hash(key), key));
    let Some((entry, value)) = entry.and_then(|entry| Some((entry, entry.value()?))) else {
        return Err(CommandError::NoSuchKey);
    };
    let mut record = Vec::new();
    codec::encode(value, &mut record);
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
                .map(|nodes| (nodes, list.len(), list.memory_bytes()));
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
        // The type byte is not counted.
        serialized_bytes: record.len() - 1,
        list: list_facts,
        string_bytes,
    })
}

pub(super) fn object(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(2);
    let facts = facts(ctx, key)?;
    let (idle_s, _) = ctx.db.access(key).unwrap_or_default();
    let clock = ctx.db.keyspace().access.clock_seconds;
    let mut text = format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
        facts.address,
        facts.encoding,
        facts.serialized_bytes,
        clock.wrapping_sub(idle_s) & 0xff_ffff,
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
    let facts = facts(ctx, args.at(2))?;
    if facts.encoding != "listpack" {
        return Err(CommandError::fixed("ERR Not a listpack encoded object."));
    }
    tracing::info!("DEBUG LISTPACK: {} bytes", facts.serialized_bytes);
    ctx.reply.simple("Listpack structure printed on stdout");
    Ok(())
}

pub(super) fn quicklist(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some((nodes, elements, bytes)) = facts(ctx, args.at(2))?.list else {
        return Err(CommandError::fixed("ERR Not a quicklist encoded object."));
    };
    tracing::info!("DEBUG QUICKLIST: {nodes} nodes, {elements} elements, {bytes} bytes");
    ctx.reply.simple("Quicklist structure printed on stdout");
    Ok(())
}

pub(super) fn sdslen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(2);
    let Some(bytes) = facts(ctx, key)?.string_bytes else {
        return Err(CommandError::fixed("ERR Not an sds encoded string."));
    };
    ctx.reply.simple(&format!(
        "key_sds_len:{0}, key_sds_avail:0, key_zmalloc: {0}, val_sds_len:{bytes}, val_sds_avail:0, \
         val_zmalloc: {bytes}",
        key.len()
    ));
    Ok(())
}
