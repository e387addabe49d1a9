//! XREADGROUP.

use super::claim::{Claim, propagate_claim, propagate_group_id, seen_consumer};
use super::id::{self, c_text};
use super::read::Streams;
use super::wait::{ReadWords, no_group, parse, wait};
use super::{reply_entry, reply_id};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::value::stream::{ConsumerId, Delivery, Stream, StreamId, next_id};

/// What a consumer asks for.
#[derive(Debug, Clone, Copy)]
enum From {
    /// What nobody got yet.
    New,
    /// What it has got after this id.
    History(StreamId),
}

const DOLLAR: CommandError = CommandError::fixed(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of \
     this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would \
     just return an empty result set.",
);

/// Checks keys, groups and ids, in this order for each key.
fn wanted(ctx: &mut Context<'_>, words: &ReadWords<'_>, group: &[u8]) -> CommandResult<Vec<From>> {
    let mut wanted = Vec::with_capacity(words.keys.len());
    for (key, word) in words.keys.iter().zip(words.ids) {
        let stream = ctx.db.read::<Stream>(key)?;
        if stream.and_then(|stream| stream.group(group)).is_none() {
            return Err(no_group(key, group));
        }
        wanted.push(match c_text(word) {
            b"$" => return Err(DOLLAR),
            b">" => From::New,
            // The largest id stands for `>` inside Redis.
            _ => match next_id(id::strict(word, 0)?) {
                Some(start) => From::History(start),
                None => From::New,
            },
        });
    }
    Ok(wanted)
}

/// `XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key
/// ...] id [id ...]`
pub(super) fn xreadgroup(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let words = parse(args, true, Some(ctx))?;
    let Some((group, name)) = words.group else {
        return Err(CommandError::fixed(
            "ERR Missing GROUP option for XREADGROUP",
        ));
    };
    let wanted = wanted(ctx, &words, group)?;
    for key in words.keys {
        ctx.db.read::<Stream>(key)?;
        // From here on nothing fails.
        ctx.db.write::<Stream>(key)?;
    }
    ctx.propagate_nothing();
    let mut streams = Streams::new();
    for (key, from) in words.keys.iter().zip(wanted) {
        let is_served = match from {
            From::History(_) => true,
            From::New => has_new(ctx, key, group)?,
        };
        let (consumer, created) = seen_consumer(ctx, key, group, name)?;
        // Claims of what is delivered create it elsewhere. Redis tells only if there is none for
        // NOACK, and who gets nothing stays unknown to its replicas.
        let claims = is_served && matches!(from, From::New) && !words.no_ack;
        if created && !claims {
            ctx.propagate(&[b"XGROUP", b"CREATECONSUMER", key, group, name]);
        }
        let Some(consumer) = consumer.filter(|_| is_served) else {
            continue;
        };
        streams.begin(&mut ctx.reply, key);
        match from {
            From::History(start) => history(ctx, key, group, consumer, start, words.count)?,
            From::New => deliver(ctx, key, &words, (group, name), consumer)?,
        }
        ctx.db.effect.dirty += 1;
    }
    if !streams.finish(&mut ctx.reply) {
        wait(ctx, &words, true, None);
    }
    Ok(())
}

/// Whether there is something that the group has not delivered.
fn has_new(ctx: &mut Context<'_>, key: &[u8], group: &[u8]) -> CommandResult<bool> {
    let Some(stream) = super::peek(ctx, key)? else {
        return Ok(false);
    };
    let Some(group) = stream.group(group) else {
        return Ok(false);
    };
    Ok(!stream.is_empty() && stream.last_entry_id() > group.last_id)
}

/// Delivers new entries and propagates that.
fn deliver(
    ctx: &mut Context<'_>,
    key: &[u8],
    words: &ReadWords<'_>,
    (group, name): (&[u8], &[u8]),
    consumer: ConsumerId,
) -> CommandResult {
    let now_ms = ctx.now_ms();
    let how = Delivery {
        group,
        consumer,
        count: words.count,
        no_ack: words.no_ack,
        now_ms,
    };
    let start = ctx.reply.deferred();
    let reply: &mut Reply<'_> = &mut ctx.reply;
    let mut delivered = Vec::new();
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        return Ok(());
    };
    stream.deliver(&how, |entry, last_id| {
        reply_entry(reply, entry);
        delivered.push((entry.id, last_id));
    });
    let read = stream
        .group(group)
        .map(|group| (group.last_id, group.entries_read));
    ctx.reply.finish_array(start, delivered.len());
    if !words.no_ack {
        for (id, last_id) in delivered {
            let text = id::IdText::new(id);
            let claim = Claim {
                id: text.as_bytes().into(),
                consumer: name.into(),
                delivery_time_ms: now_ms,
                delivery_count: 1,
            };
            propagate_claim(ctx, key, group, last_id, &claim);
        }
    } else if let (false, Some((last_id, entries_read))) = (delivered.is_empty(), read) {
        propagate_group_id(ctx, key, group, last_id, entries_read);
    }
    Ok(())
}

/// Replies with what the consumer has got and not acknowledged; that counts as a delivery.
fn history(
    ctx: &mut Context<'_>,
    key: &[u8],
    group: &[u8],
    consumer: ConsumerId,
    start: StreamId,
    count: usize,
) -> CommandResult {
    let now_ms = ctx.now_ms();
    let deferred = ctx.reply.deferred();
    let reply: &mut Reply<'_> = &mut ctx.reply;
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        return Ok(());
    };
    let pending = stream
        .group(group)
        .and_then(|group| group.consumer(consumer));
    let count = if count == 0 { usize::MAX } else { count };
    let ids: Vec<StreamId> = pending
        .into_iter()
        .flat_map(|consumer| consumer.pending_from(start).take(count))
        .collect();
    for &id in &ids {
        let Some(entry) = stream.entry(id) else {
            reply.array(2);
            reply_id(reply, id);
            reply.null_array();
            continue;
        };
        reply_entry(reply, &entry);
        if let Some(group) = stream.group_mut(group) {
            group.redeliver(id, now_ms);
        }
    }
    ctx.reply.finish_array(deferred, ids.len());
    Ok(())
}
