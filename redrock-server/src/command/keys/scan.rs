//! SCAN, KEYS and RANDOMKEY.

use super::cold_scan;
use crate::command::hash::scan::{Allowed, ScanOptions, parse_cursor, reply_items};
use crate::command::{Args, CommandResult, Context};
use crate::keyspace::ExpireMode;
use crate::keyspace::expire::has_passed;
use crate::keyspace::position::POSITION_END;
use crate::value::glob;
use redrock_rdb::listpack::LpValue;

/// Expired keys that RANDOMKEY comes across before it answers one all the same.
const RANDOM_TRIES_MAX: usize = 100;

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(super) fn scan(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args.at(1))?;
    let allowed = Allowed {
        with_type: true,
        ..Allowed::default()
    };
    let options = ScanOptions::parse(args, 2, allowed)?;
    walks(ctx);
    let db = ctx.db.index();
    if ctx.db.keyspace().has_keys_on_disk_only(db) {
        return cold_scan::scan_keys(ctx, cursor, &options);
    }
    let step = ctx.db.keyspace().scan_step(db, cursor, options.count);
    let mut keys = Vec::with_capacity(step.keys.len());
    for key in step.keys {
        if !options.matches(LpValue::Str(&key)) {
            continue;
        }
        let Some(found) = ctx.db.presence(&key)? else {
            continue;
        };
        let name = found.object_type.name().as_bytes();
        if options
            .type_name
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
        {
            keys.push(key);
        }
    }
    let items: Vec<LpValue<'_>> = keys.iter().map(|key| LpValue::Str(key)).collect();
    let next = if step.next >= POSITION_END {
        0
    } else {
        step.next
    };
    reply_items(&mut ctx.reply, next, &items);
    Ok(())
}

/// What expires on the way is propagated key by key, unless a transaction is around it.
fn walks(ctx: &mut Context<'_>) {
    if !ctx.client.deny_blocking {
        ctx.db.effect.separate();
    }
}

/// `KEYS pattern`
pub(super) fn keys(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let pattern = args.at(1);
    let (db, now_ms) = (ctx.db.index(), ctx.now_ms());
    if ctx.db.keyspace().has_keys_on_disk_only(db) {
        return cold_scan::keys(ctx, pattern);
    }
    let start = ctx.reply.deferred();
    let mut count = 0;
    let reply = &mut ctx.reply;
    let keyspace = ctx.db.keyspace();
    let hides = keyspace.expire_mode != ExpireMode::Ignore;
    keyspace.for_each_key(db, |found| {
        let expired = hides && has_passed(found.expire(), now_ms);
        if !expired && (pattern == b"*" || glob::matches(pattern, found.key(), false)) {
            reply.bulk(found.key());
            count += 1;
        }
    });
    ctx.reply.finish_array(start, count);
    Ok(())
}

/// `RANDOMKEY`
pub(super) fn randomkey(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    walks(ctx);
    let db = ctx.db.index();
    if ctx.db.keyspace().has_keys_on_disk_only(db) {
        return cold_scan::random_key(ctx);
    }
    let mut hidden = 0;
    let chosen = loop {
        let Some(key) = ctx.db.keyspace().random_hot_key(db).map(<[u8]>::to_vec) else {
            break None;
        };
        let before = ctx.db.len();
        let exists = ctx.db.exists(&key)?;
        // On a replica, or while clients are paused, nothing expires, and all keys may be past their time.
        hidden += usize::from(!exists && ctx.db.len() == before);
        if exists || hidden >= RANDOM_TRIES_MAX {
            break Some(key);
        }
    };
    ctx.reply.opt_bulk(chosen.as_deref());
    Ok(())
}
