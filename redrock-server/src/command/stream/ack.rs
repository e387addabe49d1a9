//! XACK and XPENDING.

use super::edit::ids_from;
use super::{id, no_group, reply_id};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::value::stream::{Consumer, Group, ID_MIN, Pending, Stream, StreamId};

/// `XACK key group id [id ...]`
pub(super) fn xack(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, group) = (args.at(1), args.at(2));
    let stream = ctx.db.read::<Stream>(key)?;
    if stream.and_then(|stream| stream.group(group)).is_none() {
        ctx.reply.int(0);
        return Ok(());
    }
    let ids = ids_from(args, 3)?;
    let mut acknowledged = 0;
    if let Some(group) = ctx
        .db
        .write::<Stream>(key)?
        .and_then(|stream| stream.group_mut(group))
    {
        for id in ids {
            acknowledged += u64::from(group.acknowledge(id).is_some());
        }
    }
    ctx.reply.int(acknowledged as i64);
    ctx.db.effect.dirty += acknowledged;
    Ok(())
}

/// A range of pending entries.
struct Wanted<'a> {
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

fn parse<'a>(args: &Args<'a>) -> CommandResult<Option<Wanted<'a>>> {
    if args.len() == 3 {
        return Ok(None);
    }
    if !(6..=9).contains(&args.len()) {
        return Err(CommandError::Syntax);
    }
    let (mut at, mut min_idle_ms) = (3, 0);
    if args.is(3, "idle") {
        min_idle_ms = args.int(4)?;
        if args.len() < 8 {
            return Err(CommandError::Syntax);
        }
        at = 5;
    }
    let count = usize::try_from(args.int(at + 2)?).unwrap_or(0);
    Ok(Some(Wanted {
        min_idle_ms,
        start: id::interval_start(args.at(at))?,
        end: id::interval_stop(args.at(at + 1))?,
        count,
        consumer: args.get(at + 3),
    }))
}

/// `XPENDING key group [[IDLE min-idle-time] start end count [consumer]]`
pub(super) fn xpending(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let wanted = parse(args)?;
    let (key, name) = (args.at(1), args.at(2));
    let now_ms = ctx.now_ms();
    let stream = ctx.db.read::<Stream>(key)?;
    let Some(group) = stream.and_then(|stream| stream.group(name)) else {
        return Err(no_group(key, name));
    };
    match wanted {
        None => summary(&mut ctx.reply, group),
        Some(wanted) => entries(&mut ctx.reply, group, &wanted, now_ms),
    }
    Ok(())
}

fn summary(reply: &mut Reply<'_>, group: &Group) {
    reply.array(4);
    reply.len_int(group.pending_count());
    let first = group.pending_from(ID_MIN).next().map(|(id, _)| id);
    let (Some(first), Some(last)) = (first, group.last_pending()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let busy = |consumer: &&Consumer| consumer.pending_count() > 0;
    reply.array(group.consumers().filter(busy).count());
    for consumer in group.consumers().filter(busy) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_count() as i64);
    }
}

fn entries(reply: &mut Reply<'_>, group: &Group, wanted: &Wanted<'_>, now_ms: i64) {
    let start = reply.deferred();
    let mut written = 0;
    let mut visit = |id: StreamId, pending: &Pending| {
        if id > wanted.end || written == wanted.count {
            return false;
        }
        let idle_ms = now_ms.saturating_sub(pending.delivery_time_ms);
        if wanted.min_idle_ms != 0 && idle_ms < wanted.min_idle_ms {
            return true;
        }
        written += 1;
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.name_of(pending));
        reply.int(idle_ms.max(0));
        reply.int(pending.delivery_count as i64);
        true
    };
    match wanted.consumer {
        None => {
            group
                .pending_from(wanted.start)
                .all(|(id, pending)| visit(id, pending));
        }
        Some(name) => {
            let consumer = group.find_consumer(name).and_then(|id| group.consumer(id));
            consumer
                .into_iter()
                .flat_map(|consumer| consumer.pending_from(wanted.start))
                .all(|id| group.pending(id).is_none_or(|pending| visit(id, pending)));
        }
    }
    reply.finish_array(start, written);
}
