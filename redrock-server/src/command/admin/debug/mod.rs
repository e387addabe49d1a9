//! DEBUG, as test suites use it. Gated by `enable-debug-command`.
//!
//! What would need a part of Redis that does not exist here is answered like an unknown
//! subcommand, so that a test that needs it fails clearly.

mod digest;
mod fill;
mod object;
mod protocol;
mod reload;
mod tables;

use super::persistence::later;
use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::hot::entry::Entry;
use crate::keyspace::position::POSITION_END;
use crate::keyspace::tiering::scan::ScanRequest;
use crate::replication::identity::change_for_debugging;
use crate::value::codec;
use digest::Digest;
use redrock_daemon::size::parse_size;
use redrock_rdb::number::parse_i64;
use std::sync::atomic::{AtomicBool, Ordering};

/// DEBUG.
pub(super) const DEBUG: Spec = Spec::new(
    "debug",
    -2,
    flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::PROTECTED,
    debug,
)
.group(Group::Server)
.doc("1.0.0", "A container for debugging commands.");

fn debug(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    // DEBUG does not count as an access.
    ctx.db.touch = false;
    let name = args.at(1).to_ascii_lowercase();
    let flags = &ctx.server.state;
    match (name.as_slice(), args.len()) {
        (b"help", 2) => help(ctx),
        (b"sleep", 3) => sleep(ctx, args),
        (b"object", 3) => object::object(ctx, args),
        (b"listpack", 3) => object::listpack(ctx, args),
        (b"quicklist", 3 | 4) => object::quicklist(ctx, args),
        (b"sdslen", 3) => object::sdslen(ctx, args),
        (b"digest", 2) => dataset_digest(ctx),
        (b"digest-value", _) => value_digests(ctx, args),
        (b"htstats", 3..) => tables::htstats(ctx, args),
        (b"htstats-key", 3..) => tables::htstats_key(ctx, args),
        (b"reload", _) => reload::reload(ctx, args),
        (b"loadaof", 2) => reload::load_append_only(ctx),
        (b"replicate", 3..) => replicate(ctx, args),
        (b"populate", 3..=5) => fill::populate(ctx, args),
        (b"protocol", 3) => protocol::protocol(ctx, args),
        (b"error", 3) => {
            let text: Vec<u8> = args.at(2).to_vec();
            ctx.reply.error(&text);
            Ok(())
        }
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.at(2)));
            ok(ctx)
        }
        // Leaking for real would serve nobody.
        (b"leak" | b"aof-flush-sleep" | b"drop-cluster-packet-filter", 3) => ok(ctx),
        (b"replybuffer", 4) => ok(ctx),
        (b"stringmatch-test", 2) => string_match_test(ctx),
        (b"stringmatch-len", 4) => {
            let matches = crate::value::glob::matches(args.at(2), args.at(3), false);
            ctx.reply.int(matches.into());
            Ok(())
        }
        (b"set-active-expire", 3) => switch(ctx, args, &ctx.server.expiry.enabled),
        (b"pause-cron", 3) => switch(ctx, args, &flags.cron_paused),
        (b"set-skip-checksum-validation", 3) => switch(ctx, args, &flags.skip_checksums),
        (b"set-disable-deny-scripts", 3) => switch(ctx, args, &ctx.server.scripting.may_run_all),
        (b"quicklist-packed-threshold", 3) => packed_threshold(ctx, args),
        (b"config-rewrite-force-all", 2) => super::config::rewrite_with(ctx, true),
        (b"change-repl-id", 2) => change_replication_id(ctx),
        (b"structsize", 2) => {
            ctx.reply.bulk(tables::struct_sizes().as_bytes());
            Ok(())
        }
        (b"jmap", 2) => ok(ctx),
        (b"segfault" | b"panic" | b"assert" | b"oom", _) => crash(args.at(1)),
        _ => Err(super::unknown_form("DEBUG", args)),
    }
}

/// As in Redis without a second id: whoever knows the old one needs a full sync.
fn change_replication_id(ctx: &mut Context<'_>) -> CommandResult {
    tracing::info!("Changing replication IDs after receiving DEBUG change-repl-id");
    let server = ctx.server.handle()?;
    later(ctx, async move {
        let work = move || change_for_debugging(&server);
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => Ok("OK".to_owned()),
            Ok(Err(error)) => Err(format!("ERR {error}")),
            Err(error) => Err(format!("ERR {error}")),
        }
    })
}

fn ok(ctx: &mut Context<'_>) -> CommandResult {
    ctx.reply.ok();
    Ok(())
}

/// Ends the process at once, as a crash would: that is what these subcommands are for.
fn crash(what: &[u8]) -> ! {
    tracing::error!("DEBUG {} called: aborting", String::from_utf8_lossy(what));
    std::process::abort()
}

/// Stops the server for a while, all clients included.
fn sleep(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let seconds = crate::value::number::parse_double(args.at(2)).unwrap_or(0.0);
    let seconds = if seconds.is_finite() {
        seconds.clamp(0.0, 86_400.0)
    } else {
        0.0
    };
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    ok(ctx)
}

fn switch(ctx: &mut Context<'_>, args: &Args<'_>, flag: &AtomicBool) -> CommandResult {
    flag.store(parse_i64(args.at(2)).unwrap_or(0) != 0, Ordering::Relaxed);
    ok(ctx)
}

/// Nodes of lists are packed by `list-max-listpack-size` alone; the threshold is only checked.
fn packed_threshold(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let bytes = parse_size(args.at(2)).filter(|bytes| *bytes < 4 << 30);
    if bytes.is_none() {
        return Err(CommandError::fixed(
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        ));
    }
    ok(ctx)
}

/// Redis fuzzes its glob matcher here to see whether it crashes.
fn string_match_test(ctx: &mut Context<'_>) -> CommandResult {
    for _ in 0..10_000 {
        let text: [u8; 32] = rand::random();
        let pattern: [u8; 32] = rand::random();
        let length = usize::from(text[0]) % 32;
        crate::value::glob::matches(pattern.get(..length).unwrap_or(&[]), &text, false);
    }
    ctx.reply
        .simple("Apparently Redis did not crash: test passed");
    Ok(())
}

/// Puts words into the stream as if they were a command that changed something. There is one
/// stream: log and replicas both get it.
fn replicate(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let index = ctx.db.index();
    ctx.db.effect.replace(index, args.from(2));
    ok(ctx)
}

fn value_digests(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let keys = args.from(2);
    let mut digests = Vec::with_capacity(keys.len());
    for key in keys {
        let mut digest = Digest::default();
        // Expired keys that are still there count, as in Redis.
        if let Some((_, table)) = table(ctx, ctx.db.index())
            && let Some(entry) = table.find_value(table.hash(key), key)
            && let Some(value) = entry.value()
        {
            digest.value(value, entry.has_expire());
        } else if let Some(presence) = ctx.db.presence(key)?
            && let Some(value) = ctx.db.peek(key)?
        {
            digest.value(value, presence.expire.is_some());
        }
        digests.push(digest);
    }
    ctx.reply.array(digests.len());
    for digest in digests {
        ctx.reply.simple(&digest.hex());
    }
    Ok(())
}

/// A database's keys and those of them in memory.
fn table<'c>(
    ctx: &'c mut Context<'_>,
    index: usize,
) -> Option<(u64, &'c crate::keyspace::hot::HotTable)> {
    let database = ctx.db.keyspace().database(index)?;
    Some((database.keys, &database.table))
}

/// The digest of all databases. Values on disk are read in order; nothing else runs meanwhile, as
/// in Redis.
fn dataset_digest(ctx: &mut Context<'_>) -> CommandResult {
    let mut digest = Digest::default();
    for index in 0..ctx.db.keyspace().database_count() {
        let Some((keys, table)) = table(ctx, index) else {
            continue;
        };
        if keys == 0 {
            continue;
        }
        digest.mix(&(index as u32).to_be_bytes());
        if keys == table.len() as u64 && ctx.db.keyspace().tiering.is_none() {
            ctx.db.keyspace().for_each_key(index, |found| {
                if let Some(value) = found.value() {
                    digest.key(found.key(), value, found.expire().is_some());
                }
            });
        } else {
            tiered_digest(ctx, index, &mut digest)?;
        }
    }
    ctx.reply.simple(&digest.hex());
    Ok(())
}

/// Values in hand at once, so that a digest keeps to the memory bound.
const DIGEST_STEP_BYTES: usize = 1 << 20;

fn tiered_digest(ctx: &mut Context<'_>, index: usize, digest: &mut Digest) -> CommandResult {
    let keyspace = ctx.db.keyspace();
    let Some(store) = keyspace
        .tiering
        .as_ref()
        .map(|tiering| tiering.cold.clone())
    else {
        return Ok(());
    };
    let failed = |error: String| CommandError::text(format!("ERR {error}"));
    // Expired keys that are still there count, as in Redis.
    let mut request = ScanRequest {
        index,
        from: 0,
        count: 1024,
        record_bytes_max: Some(DIGEST_STEP_BYTES),
        now_ms: i64::MIN,
    };
    while request.from < POSITION_END {
        let Some(instant) = keyspace.begin_scan(&store, &request) else {
            return Ok(());
        };
        let (keys, next) = instant
            .finish(&request)
            .map_err(|error| failed(error.to_string()))?;
        for key in keys {
            let name = String::from_utf8_lossy(&key.key).into_owned();
            let Some(record) = &key.record else {
                // It was on its way to the tier: the read waits for it.
                let read = keyspace.load_blocking(index, &key.key);
                read.map_err(failed)?;
                let table = keyspace.database(index).map(|database| &database.table);
                let entry = table.and_then(|t| t.find_value(t.hash(&key.key), &key.key));
                let Some(value) = entry.and_then(Entry::value) else {
                    return Err(failed(format!("the tier has lost '{name}'")));
                };
                digest.key(&key.key, value, key.expire.is_some());
                continue;
            };
            let value =
                codec::decode(record).map_err(|error| failed(format!("{name}: {error}")))?;
            let entry = Entry::new(&key.key, value.as_new_value(), None);
            if let Some(value) = entry.value() {
                digest.key(&key.key, value, key.expire.is_some());
            }
        }
        request.from = next;
    }
    Ok(())
}

fn help(ctx: &mut Context<'_>) -> CommandResult {
    super::help(
        ctx,
        "DEBUG",
        &[
            "CHANGE-REPL-ID",
            "    Change the replication IDs of the instance.",
            "    Dangerous: should be used only for testing the replication subsystem.",
            "CONFIG-REWRITE-FORCE-ALL",
            "    Like CONFIG REWRITE but writes all configuration options, including",
            "    those that have their default values.",
            "DIGEST",
            "    Output a hex signature representing the current DB content.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Output a hex signature of the values of all the specified keys.",
            "ERROR <string>",
            "    Return a Redis protocol error with <string> as message. Useful for clients",
            "    unit tests to simulate Redis errors.",
            "LOG <message>",
            "    Write <message> to the server log.",
            "HTSTATS <dbid> [full]",
            "    Return hash table statistics of the specified Redis database.",
            "HTSTATS-KEY <key> [full]",
            "    Like HTSTATS but for the hash table stored at <key>'s value.",
            "LISTPACK <key>",
            "    Show low level info about the listpack encoding of <key>.",
            "LOADAOF",
            "    Flush the AOF buffers on disk and reload the AOF in memory.",
            "OBJECT <key>",
            "    Show low level info about `key` and associated value.",
            "PANIC",
            "    Crash the server simulating a panic.",
            "POPULATE <count> [<prefix>] [<size>]",
            "    Create <count> string keys named key:<num>. If <prefix> is specified then",
            "    it is used instead of the 'key' prefix. These are not propagated to",
            "    replicas.",
            "PROTOCOL <type>",
            "    Reply with a test value of the specified type. <type> can be: string,",
            "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
            "    true, false.",
            "QUICKLIST <key> [<0|1>]",
            "    Show low level info about the quicklist encoding of <key>.",
            "RELOAD [option ...]",
            "    Save the RDB on disk and reload it back to memory. Valid <option> values:",
            "    * MERGE: conflicting keys will be loaded from RDB.",
            "    * NOFLUSH: the existing database will not be removed before load, but",
            "      conflicting keys will generate an error.",
            "    * NOSAVE: the database will be loaded from an existing RDB file.",
            "REPLICATE <command> [<argument> ...]",
            "    Append a command to the log and the replicas' stream without running it.",
            "SDSLEN <key>",
            "    Show low level SDS string info representing `key` and value.",
            "SEGFAULT",
            "    Crash the server with sigsegv.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Setting it to 0 disables expiring keys in background when they are not",
            "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
            "    default.",
            "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
            "    Enables or disables checksum checks for RDB files and RESTORE's payload.",
            "SLEEP <seconds>",
            "    Stop the server for <seconds>. Decimals allowed.",
            "STRINGMATCH-LEN <pattern> <string>",
            "    Tell whether the glob-like pattern matches the string.",
        ],
    )
}
