//! PFADD, PFCOUNT and PFMERGE.

use super::{make_raw, peek, read};
use crate::command::{Args, CommandResult, Context, registry};
use crate::keyspace::db::Expiry;
use crate::notify::Class;
use crate::value::Object;
use crate::value::hyperloglog::{self, Encoding, Merged, Pattern};

/// Growth that is charged to memory: what an entry of any command may take is not.
const CHARGED_BYTES_MIN: usize = 4096;

fn charge_growth(ctx: &Context<'_>, before: usize, after: usize) {
    let growth = after.saturating_sub(before);
    if growth >= CHARGED_BYTES_MIN {
        ctx.server.charge(growth as u64);
    }
}

/// A new key with one that is made elsewhere.
fn create(ctx: &mut Context<'_>, key: &[u8], bytes: Vec<u8>) -> CommandResult {
    charge_growth(ctx, 0, bytes.len());
    ctx.db.set_object(key, Object::Raw(bytes), Expiry::Clear)
}

/// `PFADD key [element [element ...]]`
pub(super) fn pfadd(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, elements) = (args.at(1), args.from(2));
    let sparse_bytes_max = ctx.config.streams.hll_sparse_bytes_max;
    let mut patterns = elements.iter().map(|element| Pattern::of(element));
    let mut updated = 0;
    match peek(&mut ctx.db, key)? {
        None => {
            let mut bytes = hyperloglog::empty();
            updated += 1;
            for pattern in patterns {
                updated += u64::from(hyperloglog::add(&mut bytes, pattern, sparse_bytes_max)?);
            }
            hyperloglog::invalidate(&mut bytes);
            create(ctx, key, bytes)?;
        }
        Some((bytes, encoding)) => {
            // Most elements are no news: those before the first that is are not written.
            let first = loop {
                match patterns.next() {
                    Some(pattern) if hyperloglog::would_change(bytes, pattern)? => {
                        break Some(pattern);
                    }
                    Some(_) => {}
                    None => break None,
                }
            };
            if let Some(first) = first {
                // What turns out to be damaged later stays as it was.
                let old =
                    (encoding == Encoding::Sparse && patterns.len() > 0).then(|| bytes.to_vec());
                let before = bytes.len();
                let bytes = ctx.db.string_mut(key)?;
                for pattern in std::iter::once(first).chain(patterns) {
                    match hyperloglog::add(bytes, pattern, sparse_bytes_max) {
                        Ok(changed) => updated += u64::from(changed),
                        Err(error) => {
                            if let Some(old) = old {
                                *bytes = old;
                            }
                            return Err(error.into());
                        }
                    }
                }
                hyperloglog::invalidate(bytes);
                let after = bytes.len();
                charge_growth(ctx, before, after);
            } else {
                make_raw(&mut ctx.db, key)?;
            }
        }
    }
    if updated > 0 {
        ctx.changed(key, Class::STRING, "pfadd");
        ctx.db.effect.dirty += updated - 1;
    }
    ctx.reply.int(i64::from(updated > 0));
    Ok(())
}

/// Whether PFCOUNT, which is no write, may write the cardinality that it has computed. Redis
/// always does; here the copies of a read-only replica stay their master's, and what refuses or
/// holds back writes is not passed by. The answer is the same.
fn may_cache(ctx: &mut Context<'_>) -> bool {
    if ctx.client.is_replay() {
        return true;
    }
    let gate = registry::find_original(b"pfadd").map(|spec| ctx.server.gate(spec));
    let snapshot = ctx.db.keyspace().snapshot.as_ref();
    matches!(gate, Some(Ok(()))) && snapshot.is_none_or(|snapshot| snapshot.has_room())
}

/// `PFCOUNT key [key ...]`
pub(super) fn pfcount(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let keys = args.from(1);
    let &[key] = keys else {
        let mut union = Merged::default();
        for key in keys {
            if let Some((bytes, _)) = read(&mut ctx.db, key)? {
                union.merge(bytes)?;
            }
        }
        ctx.reply.int(union.count() as i64);
        return Ok(());
    };
    let Some((bytes, _)) = read(&mut ctx.db, key)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let cached = hyperloglog::cached_count(bytes);
    let count = match cached {
        Some(count) => count,
        None => hyperloglog::count(bytes)?,
    };
    if may_cache(ctx) {
        if cached.is_some() {
            make_raw(&mut ctx.db, key)?;
        } else {
            hyperloglog::cache_count(ctx.db.string_mut(key)?, count);
            // As in Redis a change without an event.
            ctx.db.signal(key);
            ctx.db.effect.dirty += 1;
        }
    }
    ctx.reply.int(count as i64);
    Ok(())
}

/// `PFMERGE destination [source [source ...]]`
pub(super) fn pfmerge(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let destination = args.at(1);
    let sparse_bytes_max = ctx.config.streams.hll_sparse_bytes_max;
    let mut union = Merged::default();
    let mut dense = false;
    for key in args.from(1) {
        if let Some((bytes, encoding)) = read(&mut ctx.db, key)? {
            dense |= encoding == Encoding::Dense;
            union.merge(bytes)?;
        }
    }
    let raise = |bytes: &mut Vec<u8>| -> CommandResult {
        if dense {
            hyperloglog::make_dense(bytes)?;
        }
        for pattern in union.patterns() {
            hyperloglog::add(bytes, pattern, sparse_bytes_max)?;
        }
        hyperloglog::invalidate(bytes);
        Ok(())
    };
    match peek(&mut ctx.db, destination)?.map(|(bytes, _)| bytes.len()) {
        None => {
            let mut bytes = hyperloglog::empty();
            raise(&mut bytes)?;
            create(ctx, destination, bytes)?;
        }
        Some(before) => {
            // Merged above, so that it is not damaged.
            let bytes = ctx.db.string_mut(destination)?;
            raise(bytes)?;
            let after = bytes.len();
            charge_growth(ctx, before, after);
        }
    }
    ctx.changed(destination, Class::STRING, "pfadd");
    ctx.reply.ok();
    Ok(())
}
