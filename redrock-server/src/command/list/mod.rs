//! Commands of the list family.
//!
//! A key that comes into being as a list is announced with `signal_ready`, as Redis's `dbAdd`
//! does: clients only ever wait for keys that do not exist, so pushes to a list that is already
//! there wake nobody.

mod blocking;
mod edit;
mod moves;
mod pop;
mod push;
mod read;
pub mod timeout;

use super::args::is_word;
use super::table::{Group, KeySpec, Spec, flag};
use super::{CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::list::{End, List};

const BLPOP_KEYS: KeySpec = KeySpec::Range {
    first: 1,
    last: -2,
    step: 1,
};
const LMPOP_KEYS: KeySpec = KeySpec::Counted {
    count_at: 1,
    also: 0,
};
const BLMPOP_KEYS: KeySpec = KeySpec::Counted {
    count_at: 2,
    also: 0,
};

const PUSH: u32 = flag::WRITE | flag::DENYOOM | flag::FAST;
const POP: u32 = flag::WRITE | flag::FAST;
const GROW: u32 = flag::WRITE | flag::DENYOOM;
const BLOCKING_POP: u32 = flag::WRITE | flag::BLOCKING;
const BLOCKING_MOVE: u32 = flag::WRITE | flag::DENYOOM | flag::BLOCKING;

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    Spec::new("blmove", 6, BLOCKING_MOVE, blocking::blmove)
        .group(Group::List)
        .keys(KeySpec::TWO)
        .doc(
            "6.2.0",
            "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.",
        ),
    Spec::new("blmpop", -5, BLOCKING_POP, blocking::blmpop)
        .group(Group::List)
        .keys(BLMPOP_KEYS)
        .doc(
            "7.0.0",
            "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
    Spec::new("blpop", -3, BLOCKING_POP, blocking::blpop)
        .group(Group::List)
        .keys(BLPOP_KEYS)
        .doc(
            "2.0.0",
            "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
    Spec::new("brpop", -3, BLOCKING_POP, blocking::brpop)
        .group(Group::List)
        .keys(BLPOP_KEYS)
        .doc(
            "2.0.0",
            "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
    Spec::new("brpoplpush", 4, BLOCKING_MOVE, blocking::brpoplpush)
        .group(Group::List)
        .keys(KeySpec::TWO)
        .doc(
            "2.2.0",
            "Pops an element from a list, pushes it to another list and returns it. Block until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
    Spec::new("lindex", 3, flag::READONLY, read::lindex)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("1.0.0", "Returns an element from a list by its index."),
    Spec::new("linsert", 5, GROW, edit::linsert)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("2.2.0", "Inserts an element before or after another element in a list."),
    Spec::new("llen", 2, flag::READONLY | flag::FAST, read::llen)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("1.0.0", "Returns the length of a list."),
    Spec::new("lmove", 5, GROW, moves::lmove).group(Group::List).keys(KeySpec::TWO).doc(
        "6.2.0",
        "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.",
    ),
    Spec::new("lmpop", -4, flag::WRITE, pop::lmpop).group(Group::List).keys(LMPOP_KEYS).doc(
        "7.0.0",
        "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.",
    ),
    Spec::new("lpop", -2, POP, pop::lpop).group(Group::List).keys(KeySpec::ONE).doc(
        "1.0.0",
        "Returns the first elements in a list after removing it. Deletes the list if the last element was popped.",
    ),
    Spec::new("lpos", -3, flag::READONLY, read::lpos)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("6.0.6", "Returns the index of matching elements in a list."),
    Spec::new("lpush", -3, PUSH, push::lpush).group(Group::List).keys(KeySpec::ONE).doc(
        "1.0.0",
        "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
    ),
    Spec::new("lpushx", -3, PUSH, push::lpushx)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("2.2.0", "Prepends one or more elements to a list only when the list exists."),
    Spec::new("lrange", 4, flag::READONLY, read::lrange)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("1.0.0", "Returns a range of elements from a list."),
    Spec::new("lrem", 4, flag::WRITE, edit::lrem).group(Group::List).keys(KeySpec::ONE).doc(
        "1.0.0",
        "Removes elements from a list. Deletes the list if the last element was removed.",
    ),
    Spec::new("lset", 4, GROW, edit::lset)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("1.0.0", "Sets the value of an element in a list by its index."),
    Spec::new("ltrim", 4, flag::WRITE, edit::ltrim).group(Group::List).keys(KeySpec::ONE).doc(
        "1.0.0",
        "Removes elements from both ends a list. Deletes the list if all elements were trimmed.",
    ),
    Spec::new("rpop", -2, POP, pop::rpop).group(Group::List).keys(KeySpec::ONE).doc(
        "1.0.0",
        "Returns and removes the last elements of a list. Deletes the list if the last element was popped.",
    ),
    Spec::new("rpoplpush", 3, GROW, moves::rpoplpush)
        .group(Group::List)
        .keys(KeySpec::TWO)
        .doc(
            "1.2.0",
            "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.",
        ),
    Spec::new("rpush", -3, PUSH, push::rpush).group(Group::List).keys(KeySpec::ONE).doc(
        "1.0.0",
        "Appends one or more elements to a list. Creates the key if it doesn't exist.",
    ),
    Spec::new("rpushx", -3, PUSH, push::rpushx)
        .group(Group::List)
        .keys(KeySpec::ONE)
        .doc("2.2.0", "Appends an element to a list only when the list exists."),
];

/// The argument `LEFT` or `RIGHT`.
fn parse_end(arg: &[u8]) -> CommandResult<End> {
    if is_word(arg, "right") {
        Ok(End::Tail)
    } else if is_word(arg, "left") {
        Ok(End::Head)
    } else {
        Err(CommandError::Syntax)
    }
}

/// The event of elements removed from an end.
fn pop_event(end: End) -> &'static str {
    match end {
        End::Head => "lpop",
        End::Tail => "rpop",
    }
}

/// The event of elements added at an end.
fn push_event(end: End) -> &'static str {
    match end {
        End::Head => "lpush",
        End::Tail => "rpush",
    }
}

/// The command that a blocking pop is propagated as.
fn pop_name(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

/// A client's inclusive range over `len` elements as first index and count; `None` if empty.
fn clamp_range(start: i64, stop: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_tail = |index: i64| {
        if index < 0 {
            index.saturating_add(len)
        } else {
            index
        }
    };
    let (start, stop) = (from_tail(start).max(0), from_tail(stop));
    if start > stop || start >= len {
        return None;
    }
    let count = stop.min(len - 1) - start + 1;
    Some((usize::try_from(start).ok()?, usize::try_from(count).ok()?))
}

/// Replies with the `count` elements at an end, outermost first, and removes them. Answers 0,
/// without a reply, if there is no such list.
fn pop_range(ctx: &mut Context<'_>, key: &[u8], end: End, count: usize) -> CommandResult<usize> {
    let Some(list) = ctx.db.write::<List>(key)? else {
        return Ok(0);
    };
    let len = list.len();
    let count = count.min(len);
    ctx.reply.array(count);
    list.items(end, 0)
        .take(count)
        .for_each(|item| ctx.reply.item(item));
    list.remove_range(if end == End::Head { 0 } else { len - count }, count);
    list.shrink(&ctx.config.limits);
    removed(ctx, key, end, count, count == len);
    Ok(count)
}

/// Replies with the element at an end and removes it. False, without a reply, if there is no
/// such list.
fn pop_one(ctx: &mut Context<'_>, key: &[u8], end: End) -> CommandResult<bool> {
    let Some(list) = ctx.db.write::<List>(key)? else {
        return Ok(false);
    };
    match list.end(end) {
        Some(item) => ctx.reply.item(item),
        None => ctx.reply.null(),
    }
    list.remove_end(end);
    list.shrink(&ctx.config.limits);
    let emptied = list.len() == 0;
    removed(ctx, key, end, 1, emptied);
    Ok(true)
}

/// Tells that `count` elements were removed from an end, and deletes the key if none is left.
fn removed(ctx: &mut Context<'_>, key: &[u8], end: End, count: usize, emptied: bool) {
    ctx.changed(key, Class::LIST, pop_event(end));
    ctx.db.effect.dirty += count.saturating_sub(1) as u64;
    if emptied {
        delete_if_empty(ctx, key);
    }
}

fn delete_if_empty(ctx: &mut Context<'_>, key: &[u8]) {
    if ctx.db.remove_if_empty(key) {
        ctx.notify(key, Class::GENERIC, "del");
    }
}
