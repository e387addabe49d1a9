//! XCLAIM and XAUTOCLAIM, and how what became pending is propagated.

use super::id::{self, IdText};
use super::{no_group, reply_entry, reply_id};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::stream::{ConsumerId, Group, ID_MIN, Pending, Stream, StreamId, next_id};
use redrock_rdb::number::parse_i64;
use std::borrow::Cow;

/// An entry that became pending, as XCLAIM tells it.
pub(super) struct Claim<'a> {
    /// Its id, as the client wrote it where it did.
    pub(super) id: Cow<'a, [u8]>,
    /// Whose it is.
    pub(super) consumer: Cow<'a, [u8]>,
    /// Unix ms.
    pub(super) delivery_time_ms: i64,
    pub(super) delivery_count: u64,
}

impl<'a> Claim<'a> {
    fn new(id: Cow<'a, [u8]>, consumer: &'a [u8], pending: &Pending) -> Self {
        Self {
            id,
            consumer: consumer.into(),
            delivery_time_ms: pending.delivery_time_ms,
            delivery_count: pending.delivery_count,
        }
    }

    /// An entry that is pending no more since it is gone: its last owner is told.
    fn of_gone(id: Cow<'a, [u8]>, group: &Group, pending: &Pending) -> Self {
        Self {
            id,
            consumer: group.name_of(pending).to_vec().into(),
            delivery_time_ms: pending.delivery_time_ms,
            delivery_count: pending.delivery_count,
        }
    }
}

/// Propagates `XCLAIM ... FORCE JUSTID LASTID`, which has the same effect however often it runs.
pub(super) fn propagate_claim(
    ctx: &mut Context<'_>,
    key: &[u8],
    group: &[u8],
    last_id: StreamId,
    claim: &Claim<'_>,
) {
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    ctx.propagate(&[
        b"XCLAIM",
        key,
        group,
        &claim.consumer,
        b"0",
        &claim.id,
        b"TIME",
        time.format(claim.delivery_time_ms).as_bytes(),
        b"RETRYCOUNT",
        count.format(claim.delivery_count as i64).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        IdText::new(last_id).as_bytes(),
    ]);
}

/// Propagates a group's last id where no claim does.
pub(super) fn propagate_group_id(
    ctx: &mut Context<'_>,
    key: &[u8],
    group: &[u8],
    last_id: StreamId,
    entries_read: Option<u64>,
) {
    let entries_read = entries_read.map_or(-1, |read| read as i64);
    ctx.propagate(&[
        b"XGROUP",
        b"SETID",
        key,
        group,
        IdText::new(last_id).as_bytes(),
        b"ENTRIESREAD",
        itoa::Buffer::new().format(entries_read).as_bytes(),
    ]);
}

/// Finds a consumer, or creates it (true), and notes that it was seen.
pub(super) fn seen_consumer(
    ctx: &mut Context<'_>,
    key: &[u8],
    group: &[u8],
    name: &[u8],
) -> CommandResult<(Option<ConsumerId>, bool)> {
    let now_ms = ctx.now_ms();
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        return Ok((None, false));
    };
    let Some(group) = stream.group_mut(group) else {
        return Ok((None, false));
    };
    let found = group.find_consumer(name);
    let consumer = found.unwrap_or_else(|| group.create_consumer(name, now_ms));
    if let Some(consumer) = group.consumer_mut(consumer) {
        consumer.seen_time_ms = now_ms;
    }
    if found.is_none() {
        consumer_created(ctx, key);
    }
    Ok((Some(consumer), found.is_none()))
}

/// Tells of a consumer that came into being.
pub(super) fn consumer_created(ctx: &mut Context<'_>, key: &[u8]) {
    ctx.db.effect.dirty += 1;
    ctx.notify(key, Class::STREAM, "xgroup-createconsumer");
}

/// What XCLAIM asks for.
struct ClaimWords {
    min_idle_ms: i64,
    ids: Vec<StreamId>,
    delivery_time_ms: i64,
    delivery_count: Option<u64>,
    force: bool,
    just_ids: bool,
    last_id: StreamId,
}

fn parse_claim(args: &Args<'_>, now_ms: i64) -> CommandResult<ClaimWords> {
    let integer = |at: usize, what: &str| {
        let error = || CommandError::text(format!("ERR Invalid {what} argument for XCLAIM"));
        parse_i64(args.at(at)).ok_or_else(error)
    };
    let min_idle_ms = integer(4, "min-idle-time")?.max(0);
    let ids: Vec<_> = args
        .from(5)
        .iter()
        .map_while(|word| id::strict(word, 0).ok())
        .collect();
    let mut at = 5 + ids.len();
    let mut words = ClaimWords {
        min_idle_ms,
        ids,
        delivery_time_ms: now_ms,
        delivery_count: None,
        force: false,
        just_ids: false,
        last_id: ID_MIN,
    };
    while at < args.len() {
        let more = at + 1 < args.len();
        if args.is(at, "force") {
            words.force = true;
        } else if args.is(at, "justid") {
            words.just_ids = true;
        } else if more && args.is(at, "idle") {
            at += 1;
            words.delivery_time_ms = now_ms.wrapping_sub(integer(at, "IDLE option")?);
        } else if more && args.is(at, "time") {
            at += 1;
            words.delivery_time_ms = integer(at, "TIME option")?;
        } else if more && args.is(at, "retrycount") {
            at += 1;
            words.delivery_count = u64::try_from(integer(at, "RETRYCOUNT option")?).ok();
        } else if more && args.is(at, "lastid") {
            at += 1;
            words.last_id = id::strict(args.at(at), 0)?;
        } else {
            let text = "ERR Unrecognized XCLAIM option '{}'";
            return Err(super::quoting(text, &[args.at(at)]));
        }
        at += 1;
    }
    // A clock that is wrong is no reason to fail.
    if words.delivery_time_ms < 0 || words.delivery_time_ms > now_ms {
        words.delivery_time_ms = now_ms;
    }
    Ok(words)
}

/// `XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-ms] [RETRYCOUNT count]
/// [FORCE] [JUSTID] [LASTID id]`
pub(super) fn xclaim(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, group_name, name) = (args.at(1), args.at(2), args.at(3));
    let now_ms = ctx.now_ms();
    let stream = ctx.db.read::<Stream>(key)?;
    if stream.and_then(|stream| stream.group(group_name)).is_none() {
        return Err(no_group(key, group_name));
    }
    let words = parse_claim(args, now_ms)?;
    let mut last_id_changed = false;
    if let Some(group) = ctx
        .db
        .write::<Stream>(key)?
        .and_then(|stream| stream.group_mut(group_name))
        && words.last_id > group.last_id
    {
        group.last_id = words.last_id;
        last_id_changed = true;
    }
    ctx.propagate_nothing();
    let (Some(consumer), _) = seen_consumer(ctx, key, group_name, name)? else {
        return Ok(());
    };
    let start = ctx.reply.deferred();
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        return Ok(());
    };
    let (mut replied, mut claims) = (0, Vec::new());
    for (&id, word) in words.ids.iter().zip(args.from(5)) {
        let mut changed = match claim_one(stream, group_name, consumer, id, &words, now_ms) {
            Claiming::Nothing => continue,
            Claiming::Gone(claim) => claim,
            Claiming::Claimed(pending) => {
                replied += 1;
                match stream.entry(id) {
                    Some(entry) if !words.just_ids => reply_entry(&mut ctx.reply, &entry),
                    _ => reply_id(&mut ctx.reply, id),
                }
                Claim::new(Cow::Borrowed(b""), name, &pending)
            }
        };
        changed.id = Cow::Borrowed(word);
        claims.push(changed);
    }
    let group = stream.group(group_name);
    let (last_id, entries_read) = group.map_or((ID_MIN, None), |g| (g.last_id, g.entries_read));
    ctx.reply.finish_array(start, replied);
    ctx.db.effect.dirty += claims.len() as u64;
    for claim in &claims {
        propagate_claim(ctx, key, group_name, last_id, claim);
    }
    if last_id_changed && claims.is_empty() {
        propagate_group_id(ctx, key, group_name, last_id, entries_read);
        ctx.db.effect.dirty += 1;
    }
    Ok(())
}

/// What became of one entry.
enum Claiming<'a> {
    Nothing,
    /// The entry is no longer there, and no longer pending.
    Gone(Claim<'a>),
    Claimed(Pending),
}

fn claim_one<'a>(
    stream: &mut Stream,
    group_name: &[u8],
    consumer: ConsumerId,
    id: StreamId,
    words: &ClaimWords,
    now_ms: i64,
) -> Claiming<'a> {
    let exists = stream.entry(id).is_some();
    let Some(group) = stream.group_mut(group_name) else {
        return Claiming::Nothing;
    };
    let found = group.pending(id).copied();
    if !exists {
        return match group.acknowledge(id) {
            Some(pending) => Claiming::Gone(Claim::of_gone(Cow::Borrowed(b""), group, &pending)),
            None => Claiming::Nothing,
        };
    }
    let before = match found {
        Some(pending) if now_ms.saturating_sub(pending.delivery_time_ms) < words.min_idle_ms => {
            return Claiming::Nothing;
        }
        Some(pending) => pending.delivery_count,
        None if words.force => 1,
        None => return Claiming::Nothing,
    };
    let pending = Pending {
        delivery_time_ms: words.delivery_time_ms,
        delivery_count: match words.delivery_count {
            Some(count) => count,
            None => before.wrapping_add(u64::from(!words.just_ids)),
        },
        consumer,
    };
    group.assign(id, pending);
    if let Some(consumer) = group.consumer_mut(consumer) {
        consumer.active_time_ms = now_ms;
    }
    Claiming::Claimed(pending)
}

/// Pending entries that XAUTOCLAIM looks at for each that it may return.
const ATTEMPTS_PER_ENTRY: u64 = 10;
/// Largest COUNT.
const COUNT_MAX: i64 = i64::MAX / 16;

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`
pub(super) fn xautoclaim(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, group_name, name) = (args.at(1), args.at(2), args.at(3));
    let now_ms = ctx.now_ms();
    // Of another type is said after what is wrong with the words.
    ctx.db.read_any(key)?;
    let min_idle_ms = parse_i64(args.at(4)).ok_or(CommandError::fixed(
        "ERR Invalid min-idle-time argument for XAUTOCLAIM",
    ))?;
    let start = id::interval_start(args.at(5))?;
    let (count, just_ids) = autoclaim_options(args)?;
    let stream = super::peek(ctx, key)?;
    if stream.and_then(|stream| stream.group(group_name)).is_none() {
        return Err(no_group(key, group_name));
    }
    ctx.db.write::<Stream>(key)?;
    ctx.propagate_nothing();
    let (Some(consumer), _) = seen_consumer(ctx, key, group_name, name)? else {
        return Ok(());
    };
    let words = ClaimWords {
        min_idle_ms: min_idle_ms.max(0),
        ids: Vec::new(),
        delivery_time_ms: now_ms,
        delivery_count: None,
        force: false,
        just_ids,
        last_id: ID_MIN,
    };
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        return Ok(());
    };
    let found = autoclaim(stream, group_name, consumer, (start, count), &words, now_ms);
    ctx.reply.array(3);
    reply_id(&mut ctx.reply, found.cursor);
    ctx.reply.array(found.claimed.len());
    for &id in &found.claimed {
        match stream.entry(id) {
            Some(entry) if !just_ids => reply_entry(&mut ctx.reply, &entry),
            _ => reply_id(&mut ctx.reply, id),
        }
    }
    ctx.reply.array(found.gone.len());
    for &id in &found.gone {
        reply_id(&mut ctx.reply, id);
    }
    let last_id = stream
        .group(group_name)
        .map_or(ID_MIN, |group| group.last_id);
    ctx.db.effect.dirty += found.changes.len() as u64;
    for (id, pending, owner) in &found.changes {
        let text = IdText::new(*id);
        let owner = owner.as_deref().unwrap_or(name);
        let claim = Claim::new(Cow::Borrowed(text.as_bytes()), owner, pending);
        propagate_claim(ctx, key, group_name, last_id, &claim);
    }
    Ok(())
}

fn autoclaim_options(args: &Args<'_>) -> CommandResult<(u64, bool)> {
    let (mut count, mut just_ids) = (100, false);
    let mut at = 6;
    while at < args.len() {
        if at + 1 < args.len() && args.is(at, "count") {
            at += 1;
            let told = parse_i64(args.at(at)).filter(|n| (1..=COUNT_MAX).contains(n));
            count = told.ok_or(CommandError::fixed("ERR COUNT must be > 0"))?;
        } else if args.is(at, "justid") {
            just_ids = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    Ok((count.unsigned_abs(), just_ids))
}

/// What XAUTOCLAIM found.
#[derive(Default)]
struct Found {
    /// Where to go on; zero at the end.
    cursor: StreamId,
    claimed: Vec<StreamId>,
    gone: Vec<StreamId>,
    /// All of both in order, with the owner that is told if it is not the claiming consumer.
    changes: Vec<(StreamId, Pending, Option<Vec<u8>>)>,
}

fn autoclaim(
    stream: &mut Stream,
    group_name: &[u8],
    consumer: ConsumerId,
    (start, mut count): (StreamId, u64),
    words: &ClaimWords,
    now_ms: i64,
) -> Found {
    let mut found = Found::default();
    let next_pending = |stream: &Stream, from: Option<StreamId>| {
        let group = stream.group(group_name)?;
        group.pending_from(from?).next().map(|(id, _)| id)
    };
    let mut attempts = count.saturating_mul(ATTEMPTS_PER_ENTRY);
    let mut next = next_pending(stream, Some(start));
    while let Some(id) = next {
        if attempts == 0 || count == 0 {
            break;
        }
        attempts -= 1;
        let before = stream
            .group(group_name)
            .and_then(|group| group.pending(id))
            .copied();
        match claim_one(stream, group_name, consumer, id, words, now_ms) {
            Claiming::Nothing => {}
            Claiming::Gone(claim) => {
                count -= 1;
                found.gone.push(id);
                if let Some(pending) = before {
                    let owner = Some(claim.consumer.into_owned());
                    found.changes.push((id, pending, owner));
                }
            }
            Claiming::Claimed(pending) => {
                count -= 1;
                found.claimed.push(id);
                found.changes.push((id, pending, None));
            }
        }
        next = next_pending(stream, next_id(id));
    }
    found.cursor = next.unwrap_or(ID_MIN);
    found
}
