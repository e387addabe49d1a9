//! Commands of sorted sets.

mod add;
mod combine;
mod pop;
mod random;
mod range;
mod read;
mod remove;
mod scan;
mod specs;
#[cfg(test)]
mod tests;

pub(super) use add::zadd;
pub use specs::COMMANDS;

use super::{CommandError, CommandResult, Context, Reply};
use crate::keyspace::db::Expiry;
use crate::notify::Class;
use crate::value::Object;
use crate::value::zset::{Elements, ZSet};
use redrock_rdb::number::parse_i64;

const BAD_SCORE_RANGE: CommandError = CommandError::fixed("ERR min or max is not a float");
const BAD_LEX_RANGE: CommandError =
    CommandError::fixed("ERR min or max not valid string range item");

/// An integer of at least `min`; anything else is the error `message`.
fn integer_from(text: &[u8], min: i64, message: &'static str) -> CommandResult<i64> {
    parse_i64(text)
        .filter(|n| *n >= min)
        .ok_or(CommandError::fixed(message))
}

/// Header of `count` elements: with scores, RESP2 lists both in one array, RESP3 has a pair each.
fn elements_header(reply: &mut Reply<'_>, count: usize, with_scores: bool) {
    let flat = with_scores && !reply.is_resp3();
    reply.array(if flat { 2 * count } else { count });
}

/// One element of a reply begun with [`elements_header`].
fn element(
    reply: &mut Reply<'_>,
    (member, score): (redrock_rdb::listpack::LpValue<'_>, f64),
    with_scores: bool,
) {
    if with_scores && reply.is_resp3() {
        reply.array(2);
    }
    reply.item(member);
    if with_scores {
        reply.double(score);
    }
}

/// All of some elements.
fn elements(reply: &mut Reply<'_>, elements: Elements<'_>, with_scores: bool) {
    elements_header(reply, elements.len(), with_scores);
    elements.for_each(|one| element(reply, one, with_scores));
}

/// What a key keeps after elements were removed from it: says so, and deletes it when empty.
fn removed(ctx: &mut Context<'_>, key: &[u8], event: &'static str, count: usize) {
    if count == 0 {
        return;
    }
    ctx.changed(key, Class::ZSET, event);
    ctx.db.effect.dirty += count as u64 - 1;
    if ctx.db.remove_if_empty(key) {
        ctx.notify(key, Class::GENERIC, "del");
    }
}

/// Stores a result in place of whatever `key` held, or deletes the key if there is none, and
/// answers the number of elements.
pub(super) fn store(
    ctx: &mut Context<'_>,
    key: &[u8],
    result: ZSet,
    event: &'static str,
) -> CommandResult {
    let count = result.len();
    if count > 0 {
        ctx.db
            .set_object(key, Object::ZSet(result), Expiry::Clear)?;
        ctx.changed(key, Class::ZSET, event);
        ctx.db.signal_ready(key);
    } else if ctx.db.remove(key)? {
        ctx.changed(key, Class::GENERIC, "del");
    }
    ctx.reply.len_int(count);
    Ok(())
}
