//! HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT, HPERSIST, and what tells of times: HTTL, HPTTL,
//! HEXPIRETIME, HPEXPIRETIME. Fields' times leave as HPEXPIREAT, what is over as HDEL.

use super::peek_as;
use crate::command::args::is_word;
use crate::command::string::expire_time::{self, Base, Unit};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::hash::{Found, Hash};
use redrock_rdb::number::parse_i64;

/// The latest time of a field, unix ms: Redis keeps the two bits above for itself
/// (`HFE_MAX_ABS_TIME_MSEC`).
const TIME_MS_MAX: i64 = (1 << 46) - 1;

const NO_FIELD: i64 = -2;
const NO_TIME: i64 = -1;
const CONDITION_NOT_MET: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

/// Refuses the commands of this family where the files that are written can't hold what they do.
/// What a log or a master says is done in any case.
pub(in crate::command) fn check_allowed(ctx: &mut Context<'_>) -> CommandResult {
    let obeyed = ctx.client.obeyed;
    let gate = &ctx.db.keyspace().field_expiry;
    if gate.is_allowed() {
        return Ok(());
    }
    if obeyed {
        gate.warn_unsaved();
        return Ok(());
    }
    let version = ctx.config.snapshot.rdb_version;
    Err(CommandError::text(format!(
        "ERR fields of hashes expire only with rdb-version 12: files of rdb-version {version} \
         can't hold them"
    )))
}

/// The fields behind `FIELDS numfields`, which stand at argument `at`.
pub(super) fn fields<'a>(
    args: &Args<'a>,
    at: usize,
    bad_count: &'static str,
) -> CommandResult<&'a [&'a [u8]]> {
    if !args.is(at, "fields") {
        return Err(CommandError::fixed(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = parse_i64(args.at(at + 1)).filter(|count| *count >= 1);
    let count = count.ok_or(CommandError::fixed(bad_count))?;
    let fields = args.from(at + 2);
    if i64::try_from(fields.len()) != Ok(count) {
        return Err(CommandError::fixed(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(fields)
}

/// What most of the family says to a bad number of fields.
pub(super) const BAD_COUNT: &str = "ERR Number of fields must be a positive integer";

/// A time argument as unix ms; `name` is the command's.
pub(super) fn parse_time(
    ctx: &Context<'_>,
    arg: &[u8],
    (unit, base): (Unit, Base),
    name: &str,
) -> CommandResult<i64> {
    let count = parse_i64(arg).ok_or(CommandError::NotInteger)?;
    if count < 0 {
        return Err(CommandError::fixed("ERR invalid expire time, must be >= 0"));
    }
    let ms = match unit {
        Unit::Seconds if count > TIME_MS_MAX / 1000 => None,
        Unit::Seconds => Some(count * 1000),
        Unit::Milliseconds => Some(count),
    };
    let start = match base {
        Base::Now => ctx.now_ms(),
        Base::Epoch => 0,
    };
    ms.filter(|ms| *ms <= TIME_MS_MAX.saturating_sub(start))
        .map(|ms| ms + start)
        .ok_or_else(|| expire_time::invalid(name))
}

/// Propagates the time of fields.
pub(super) fn propagate_time(ctx: &mut Context<'_>, key: &[u8], ms: i64, fields: &[&[u8]]) {
    propagate_times(ctx, key, ms, None, fields);
}

fn propagate_times(
    ctx: &mut Context<'_>,
    key: &[u8],
    ms: i64,
    condition: Option<&[u8]>,
    fields: &[&[u8]],
) {
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut words: Vec<&[u8]> = vec![b"HPEXPIREAT", key, time.format(ms).as_bytes()];
    words.extend(condition);
    words.extend([&b"FIELDS"[..], count.format(fields.len()).as_bytes()]);
    words.extend(fields);
    ctx.propagate(&words);
}

/// Propagates the end of fields.
pub(super) fn propagate_deletion(ctx: &mut Context<'_>, key: &[u8], fields: &[&[u8]]) {
    let words: [&[u8]; 2] = [b"HDEL", key];
    ctx.propagate(&[&words, fields].concat());
}

/// When a time is set at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    NotExists,
    Exists,
    Greater,
    Less,
}

impl Condition {
    fn parse(word: &[u8]) -> Self {
        [
            ("nx", Self::NotExists),
            ("xx", Self::Exists),
            ("gt", Self::Greater),
            ("lt", Self::Less),
        ]
        .into_iter()
        .find(|(name, _)| is_word(word, name))
        .map_or(Self::Always, |(_, condition)| condition)
    }

    /// Whether a field that expires at `current` may expire at `new`. No time is infinite.
    fn allows(self, current: Option<i64>, new: i64) -> bool {
        match (self, current) {
            (Self::Always, _) | (Self::NotExists | Self::Less, None) => true,
            (Self::NotExists, Some(_)) | (Self::Exists | Self::Greater, None) => false,
            (Self::Exists, Some(_)) => true,
            (Self::Greater, Some(current)) => new > current,
            (Self::Less, Some(current)) => new < current,
        }
    }
}

/// A time to be given to fields.
struct Setting {
    at_ms: i64,
    condition: Condition,
    /// The time has come: fields are deleted instead.
    is_past: bool,
}

impl Setting {
    /// What becomes of a field with the given time.
    fn outcome(&self, time: Option<Option<i64>>) -> i64 {
        match time {
            None => NO_FIELD,
            Some(current) if !self.condition.allows(current, self.at_ms) => CONDITION_NOT_MET,
            Some(_) if self.is_past => DELETED,
            Some(_) => DONE,
        }
    }

    fn apply(&self, hash: &mut Hash, field: &[u8]) -> i64 {
        let outcome = self.outcome(hash.time_of(field));
        match outcome {
            DONE => {
                hash.set_time(field, Some(self.at_ms));
            }
            DELETED => {
                hash.remove(field);
            }
            _ => {}
        }
        outcome
    }
}

fn generic(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    (unit, base, name): (Unit, Base, &str),
) -> CommandResult {
    check_allowed(ctx)?;
    let key = args.at(1);
    let exists = peek_as::<Hash>(&mut ctx.db, key)?.is_some();
    let at_ms = parse_time(ctx, args.at(2), (unit, base), name)?;
    let condition = Condition::parse(args.at(3));
    let word = (condition != Condition::Always).then(|| args.at(3));
    let fields_at = 3 + usize::from(word.is_some());
    let bad_count = "ERR Parameter `numFields` should be greater than 0";
    let fields = fields(args, fields_at, bad_count)?;
    if exists {
        ctx.db.expire_named(key, fields)?;
    }
    let setting = Setting {
        at_ms,
        condition,
        is_past: expire_time::is_past(&mut ctx.db, at_ms),
    };
    let outcomes = set_times(ctx, key, &setting, fields)?;
    let with = |wanted: i64| -> Vec<&[u8]> {
        let both = fields.iter().zip(&outcomes);
        both.filter(|(_, outcome)| **outcome == wanted)
            .map(|(field, _)| *field)
            .collect()
    };
    let (done, deleted) = (with(DONE), with(DELETED));
    if !deleted.is_empty() {
        ctx.db.keyspace().stats.expired_fields += deleted.len() as u64;
        propagate_deletion(ctx, key, &deleted);
        fields_deleted(ctx, key, deleted.len());
    } else if !done.is_empty() {
        propagate_times(ctx, key, at_ms, word, &done);
        ctx.changed(key, Class::HASH, "hexpire");
        ctx.db.effect.dirty += done.len() as u64 - 1;
    }
    ctx.reply.array(outcomes.len());
    outcomes
        .into_iter()
        .for_each(|outcome| ctx.reply.int(outcome));
    Ok(())
}

/// Gives fields a time, one after the other; what became of each.
fn set_times(
    ctx: &mut Context<'_>,
    key: &[u8],
    setting: &Setting,
    fields: &[&[u8]],
) -> CommandResult<Vec<i64>> {
    let hash = peek_as::<Hash>(&mut ctx.db, key)?;
    let outcome = |field: &&[u8]| setting.outcome(hash.and_then(|hash| hash.time_of(field)));
    let outcomes: Vec<i64> = fields.iter().map(outcome).collect();
    // Nothing to do leaves the entry untouched, and with it its copy on disk.
    if !outcomes.iter().any(|outcome| *outcome > 0) {
        return Ok(outcomes);
    }
    let Some(hash) = ctx.db.write::<Hash>(key)? else {
        return Ok(outcomes);
    };
    let outcomes = fields
        .iter()
        .map(|field| setting.apply(hash, field))
        .collect();
    ctx.db.fields_changed(key);
    Ok(outcomes)
}

/// Tells of fields that were deleted, and removes a hash without any left.
pub(super) fn fields_deleted(ctx: &mut Context<'_>, key: &[u8], count: usize) {
    let emptied = ctx.db.remove_if_empty(key);
    ctx.changed(key, Class::HASH, "hdel");
    ctx.db.effect.dirty += (count as u64).saturating_sub(1);
    if emptied {
        ctx.notify(key, Class::GENERIC, "del");
    }
}

/// `HEXPIRE key seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]`
pub(super) fn hexpire(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Seconds, Base::Now, "hexpire"))
}

/// `HPEXPIRE key milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]`
pub(super) fn hpexpire(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Milliseconds, Base::Now, "hpexpire"))
}

/// `HEXPIREAT key unix-time-seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]`
pub(super) fn hexpireat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Seconds, Base::Epoch, "hexpireat"))
}

/// `HPEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]`
pub(super) fn hpexpireat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Milliseconds, Base::Epoch, "hpexpireat"))
}

/// `HPERSIST key FIELDS numfields field [field ...]`
pub(super) fn hpersist(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    check_allowed(ctx)?;
    let key = args.at(1);
    peek_as::<Hash>(&mut ctx.db, key)?;
    let fields = fields(args, 2, BAD_COUNT)?;
    let outcomes = persist_fields(ctx, key, fields)?;
    let changed: Vec<&[u8]> = (fields.iter().zip(&outcomes))
        .filter(|(_, outcome)| **outcome == DONE)
        .map(|(field, _)| *field)
        .collect();
    if !changed.is_empty() {
        propagate_persist(ctx, key, &changed);
        ctx.changed(key, Class::HASH, "hpersist");
    }
    ctx.reply.array(outcomes.len());
    outcomes
        .into_iter()
        .for_each(|outcome| ctx.reply.int(outcome));
    Ok(())
}

/// Ends fields' times, one after the other; what became of each.
pub(super) fn persist_fields(
    ctx: &mut Context<'_>,
    key: &[u8],
    fields: &[&[u8]],
) -> CommandResult<Vec<i64>> {
    let cutoff_ms = ctx.db.field_cutoff();
    let outcome = |hash: Option<&Hash>, field: &[u8]| {
        let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
        match found {
            Found::Absent | Found::Over => NO_FIELD,
            Found::Live(_, None) => NO_TIME,
            Found::Live(_, Some(_)) => DONE,
        }
    };
    let hash = peek_as::<Hash>(&mut ctx.db, key)?;
    let outcomes: Vec<i64> = fields.iter().map(|field| outcome(hash, field)).collect();
    if !outcomes.contains(&DONE) {
        return Ok(outcomes);
    }
    let Some(hash) = ctx.db.write::<Hash>(key)? else {
        return Ok(outcomes);
    };
    let persist = |field: &&[u8]| {
        let outcome = outcome(Some(hash), field);
        if outcome == DONE {
            hash.set_time(field, None);
        }
        outcome
    };
    let outcomes = fields.iter().map(persist).collect();
    ctx.db.fields_changed(key);
    Ok(outcomes)
}

/// Propagates that fields expire no more.
pub(super) fn propagate_persist(ctx: &mut Context<'_>, key: &[u8], fields: &[&[u8]]) {
    let mut count = itoa::Buffer::new();
    let count = count.format(fields.len()).as_bytes();
    let words: [&[u8]; 4] = [b"HPERSIST", key, b"FIELDS", count];
    ctx.propagate(&[&words, fields].concat());
}

fn times(ctx: &mut Context<'_>, args: &Args<'_>, unit: Unit, base: Base) -> CommandResult {
    check_allowed(ctx)?;
    let cutoff_ms = ctx.db.field_cutoff();
    let start = match base {
        Base::Now => ctx.now_ms(),
        Base::Epoch => 0,
    };
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    let fields = fields(args, 2, BAD_COUNT)?;
    ctx.reply.array(fields.len());
    for field in fields {
        let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
        ctx.reply.int(match (found, unit) {
            (Found::Absent | Found::Over, _) => NO_FIELD,
            (Found::Live(_, None), _) => NO_TIME,
            (Found::Live(_, Some(ms)), Unit::Milliseconds) => ms - start,
            (Found::Live(_, Some(ms)), Unit::Seconds) => (ms - start + 999) / 1000,
        });
    }
    Ok(())
}

/// `HTTL key FIELDS numfields field [field ...]`
pub(super) fn httl(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    times(ctx, args, Unit::Seconds, Base::Now)
}

/// `HPTTL key FIELDS numfields field [field ...]`
pub(super) fn hpttl(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    times(ctx, args, Unit::Milliseconds, Base::Now)
}

/// `HEXPIRETIME key FIELDS numfields field [field ...]`
pub(super) fn hexpiretime(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    times(ctx, args, Unit::Seconds, Base::Epoch)
}

/// `HPEXPIRETIME key FIELDS numfields field [field ...]`
pub(super) fn hpexpiretime(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    times(ctx, args, Unit::Milliseconds, Base::Epoch)
}
