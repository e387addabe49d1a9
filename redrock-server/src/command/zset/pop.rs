//! ZPOPMIN, ZPOPMAX, ZMPOP and their blocking forms.
//!
//! When a key becomes ready the same words run again, so a blocking command is its plain form
//! with the wish to wait added. What it did is propagated as ZPOPMIN or ZPOPMAX.

use super::super::list::timeout::parse_deadline;
use super::super::{Args, CommandError, CommandResult, Context};
use super::{integer_from, removed};
use crate::net::client::BlockRequest;
use crate::value::ObjectType;
use crate::value::zset::ZSet;

/// Which end elements are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            Self::Min => "zpopmin",
            Self::Max => "zpopmax",
        }
    }

    fn command(self) -> &'static [u8] {
        match self {
            Self::Min => b"ZPOPMIN",
            Self::Max => b"ZPOPMAX",
        }
    }
}

/// The form of the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Members and scores in one array.
    Flat,
    /// An array of pairs.
    Pairs,
    /// Key, member, score.
    KeyFlat,
    /// The key and an array of pairs.
    KeyPairs,
}

/// Takes up to `count` (at least one) elements from a set that is there, replies, and returns
/// how many they were.
fn pop(
    ctx: &mut Context<'_>,
    key: &[u8],
    end: End,
    count: usize,
    shape: Shape,
) -> CommandResult<usize> {
    let Some(set) = ctx.db.write::<ZSet>(key)? else {
        return Err(CommandError::NoSuchKey);
    };
    let len = set.len();
    let count = count.min(len);
    let reply = &mut ctx.reply;
    match shape {
        Shape::Flat => reply.array(2 * count),
        Shape::Pairs => reply.array(count),
        Shape::KeyFlat => {
            reply.array(2 * count + 1);
            reply.bulk(key);
        }
        Shape::KeyPairs => {
            reply.array(2);
            reply.bulk(key);
            reply.array(count);
        }
    }
    let ranks = if end == End::Max {
        len - count..len
    } else {
        0..count
    };
    for (member, score) in set.range(ranks.clone(), end == End::Max) {
        if matches!(shape, Shape::Pairs | Shape::KeyPairs) {
            reply.array(2);
        }
        reply.item(member);
        reply.double(score);
    }
    set.remove_ranks(ranks);
    removed(ctx, key, end.event(), count);
    Ok(count)
}

/// The first of some keys that exists; `-WRONGTYPE` if it is no sorted set.
fn first_set<'a>(ctx: &mut Context<'_>, keys: &[&'a [u8]]) -> CommandResult<Option<&'a [u8]>> {
    for &key in keys {
        match ctx.db.presence(key)? {
            None => {}
            Some(found) if found.object_type == ObjectType::ZSet => return Ok(Some(key)),
            Some(_) => return Err(CommandError::WrongType),
        }
    }
    Ok(None)
}

/// Waits for one of `keys`, or answers as after a timeout where blocking is not allowed.
fn wait(ctx: &mut Context<'_>, keys: &[&[u8]], deadline_ms: Option<i64>) {
    if ctx.client.deny_blocking {
        ctx.reply.null_array();
        return;
    }
    ctx.client.block = Some(BlockRequest {
        keys: keys.iter().map(|key| key.to_vec()).collect(),
        deadline_ms,
        on_timeout: |reply| reply.null_array(),
        wants: ObjectType::ZSet,
        or_gone: false,
        again: None,
    });
}

fn pop_one_key(ctx: &mut Context<'_>, args: &Args<'_>, end: End) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = match args.get(2) {
        Some(text) => Some(integer_from(
            text,
            0,
            "ERR value is out of range, must be positive",
        )?),
        None => None,
    };
    let Some(key) = first_set(ctx, &[args.at(1)])? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let shape = if count.is_some() && ctx.reply.is_resp3() {
        Shape::Pairs
    } else {
        Shape::Flat
    };
    match count {
        Some(0) => ctx.reply.array(0),
        _ => {
            pop(ctx, key, end, count.unwrap_or(1) as usize, shape)?;
        }
    }
    Ok(())
}

/// `ZPOPMIN key [count]`
pub(super) fn zpopmin(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    pop_one_key(ctx, args, End::Min)
}

/// `ZPOPMAX key [count]`
pub(super) fn zpopmax(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    pop_one_key(ctx, args, End::Max)
}

fn blocking_pop(ctx: &mut Context<'_>, args: &Args<'_>, end: End) -> CommandResult {
    let last = args.len() - 1;
    let deadline_ms = parse_deadline(args.at(last), ctx.now_ms())?;
    let keys = args.all().get(1..last).unwrap_or_default();
    match first_set(ctx, keys)? {
        None => wait(ctx, keys, deadline_ms),
        Some(key) => {
            pop(ctx, key, end, 1, Shape::KeyFlat)?;
            ctx.propagate(&[end.command(), key]);
        }
    }
    Ok(())
}

/// `BZPOPMIN key [key ...] timeout`
pub(super) fn bzpopmin(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    blocking_pop(ctx, args, End::Min)
}

/// `BZPOPMAX key [key ...] timeout`
pub(super) fn bzpopmax(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    blocking_pop(ctx, args, End::Max)
}

/// `numkeys key [key ...] MIN|MAX [COUNT count]`
struct MultiPop<'a> {
    keys: &'a [&'a [u8]],
    end: End,
    count: usize,
}

impl<'a> MultiPop<'a> {
    fn parse(args: &Args<'a>, count_at: usize) -> CommandResult<Self> {
        let message = "ERR numkeys should be greater than 0";
        let key_count = integer_from(args.at(count_at), 1, message)? as usize;
        let end_at = key_count.saturating_add(count_at + 1);
        let keys = args
            .all()
            .get(count_at + 1..end_at)
            .ok_or(CommandError::Syntax)?;
        let end = match () {
            () if args.is(end_at, "min") => End::Min,
            () if args.is(end_at, "max") => End::Max,
            () => return Err(CommandError::Syntax),
        };
        let (mut count, mut at) = (None, end_at + 1);
        while at < args.len() {
            if count.is_some() || !args.is(at, "count") || at + 1 >= args.len() {
                return Err(CommandError::Syntax);
            }
            let message = "ERR count should be greater than 0";
            count = Some(integer_from(args.at(at + 1), 1, message)? as usize);
            at += 2;
        }
        Ok(Self {
            keys,
            end,
            count: count.unwrap_or(1),
        })
    }

    fn run(&self, ctx: &mut Context<'_>, key: &[u8]) -> CommandResult {
        let count = pop(ctx, key, self.end, self.count, Shape::KeyPairs)?;
        let mut digits = itoa::Buffer::new();
        ctx.propagate(&[self.end.command(), key, digits.format(count).as_bytes()]);
        Ok(())
    }
}

/// `ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]`
pub(super) fn zmpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let wanted = MultiPop::parse(args, 1)?;
    match first_set(ctx, wanted.keys)? {
        Some(key) => wanted.run(ctx, key),
        None => {
            ctx.reply.null_array();
            Ok(())
        }
    }
}

/// `BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]`
pub(super) fn bzmpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let wanted = MultiPop::parse(args, 2)?;
    let deadline_ms = parse_deadline(args.at(1), ctx.now_ms())?;
    match first_set(ctx, wanted.keys)? {
        Some(key) => wanted.run(ctx, key),
        None => {
            wait(ctx, wanted.keys, deadline_ms);
            Ok(())
        }
    }
}
