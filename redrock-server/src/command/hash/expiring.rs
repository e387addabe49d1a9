//! HGETEX, HSETEX and HGETDEL. They leave as what Redis 7.4 knows: HSET, HPEXPIREAT, HPERSIST and
//! HDEL.

use super::expire::{
    BAD_COUNT, check_allowed, fields, fields_deleted, parse_time, persist_fields,
    propagate_deletion, propagate_persist, propagate_time,
};
use super::peek_as;
use crate::command::args::is_word;
use crate::command::string::expire_time::{self, Base, Unit};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::hash::{Found, Hash};
use hashbrown::HashSet;
use redrock_rdb::number::parse_i64;

/// Writes the values of fields, each `once` if it is deleted then; those that are there, in order
/// and without repetition.
fn reply_values<'f>(
    ctx: &mut Context<'_>,
    key: &[u8],
    fields: &[&'f [u8]],
    once: bool,
) -> CommandResult<Vec<&'f [u8]>> {
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = peek_as::<Hash>(&mut ctx.db, key)?;
    let (mut present, mut seen) = (Vec::new(), HashSet::new());
    ctx.reply.array(fields.len());
    for field in fields {
        let value = hash.and_then(|hash| hash.lookup(field, cutoff_ms).value());
        let first = value.is_some() && seen.insert(*field);
        match value {
            Some(value) if first || !once => ctx.reply.item(value),
            _ => ctx.reply.null(),
        }
        if first {
            present.push(*field);
        }
    }
    Ok(present)
}

/// `HGETDEL key FIELDS numfields field [field ...]`
pub(super) fn hgetdel(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    check_allowed(ctx)?;
    let key = args.at(1);
    peek_as::<Hash>(&mut ctx.db, key)?;
    let fields = fields(args, 2, BAD_COUNT)?;
    ctx.db.expire_named(key, fields)?;
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = peek_as::<Hash>(&mut ctx.db, key)?;
    let is_live = |field: &&[u8]| {
        let found = hash.map(|hash| hash.lookup(field, cutoff_ms));
        matches!(found, Some(Found::Live(..)))
    };
    // Nothing to delete leaves the entry untouched, and with it its copy on disk.
    if !fields.iter().any(is_live) {
        ctx.reply.array(fields.len());
        fields.iter().for_each(|_| ctx.reply.null());
        return Ok(());
    }
    let Some(hash) = ctx.db.write::<Hash>(key)? else {
        return Err(CommandError::NoSuchKey);
    };
    // The last field with a time may be among them.
    let timed = hash.is_timed();
    let mut deleted = Vec::new();
    ctx.reply.array(fields.len());
    for field in fields {
        match hash.lookup(field, cutoff_ms).value() {
            Some(value) => {
                ctx.reply.item(value);
                hash.remove(field);
                deleted.push(*field);
            }
            None => ctx.reply.null(),
        }
    }
    if timed {
        ctx.db.fields_changed(key);
    }
    propagate_deletion(ctx, key, &deleted);
    fields_deleted(ctx, key, deleted.len());
    Ok(())
}

/// What HGETEX does to the times of what it reads.
enum Change {
    Nothing,
    Persist,
    At(i64),
}

/// The words that give a time.
fn time_word(word: &[u8]) -> Option<(Unit, Base)> {
    [
        ("ex", (Unit::Seconds, Base::Now)),
        ("px", (Unit::Milliseconds, Base::Now)),
        ("exat", (Unit::Seconds, Base::Epoch)),
        ("pxat", (Unit::Milliseconds, Base::Epoch)),
    ]
    .into_iter()
    .find(|(name, _)| is_word(word, name))
    .map(|(_, kind)| kind)
}

/// `HGETEX key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|
/// PERSIST] FIELDS numfields field [field ...]`
pub(super) fn hgetex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    check_allowed(ctx)?;
    let key = args.at(1);
    peek_as::<Hash>(&mut ctx.db, key)?;
    let (change, at) = match time_word(args.at(2)) {
        Some(kind) => {
            let at_ms = parse_time(ctx, args.at(3), kind, "hgetex")?;
            (Change::At(at_ms), 4)
        }
        None if args.is(2, "persist") => (Change::Persist, 3),
        None => (Change::Nothing, 2),
    };
    let fields = fields(args, at, BAD_COUNT)?;
    ctx.db.expire_named(key, fields)?;
    let is_past = matches!(change, Change::At(ms) if expire_time::is_past(&mut ctx.db, ms));
    let present = reply_values(ctx, key, fields, is_past)?;
    if present.is_empty() {
        return Ok(());
    }
    match change {
        Change::Nothing => Ok(()),
        Change::Persist => persist_read(ctx, key, &present),
        Change::At(_) if is_past => delete_read(ctx, key, &present),
        Change::At(ms) => {
            give_time(ctx, key, ms, &present)?;
            propagate_time(ctx, key, ms, &present);
            ctx.changed(key, Class::HASH, "hexpire");
            ctx.db.effect.dirty += present.len() as u64 - 1;
            Ok(())
        }
    }
}

fn persist_read(ctx: &mut Context<'_>, key: &[u8], present: &[&[u8]]) -> CommandResult {
    let outcomes = persist_fields(ctx, key, present)?;
    let changed: Vec<&[u8]> = (present.iter().zip(outcomes))
        .filter(|(_, outcome)| *outcome > 0)
        .map(|(field, _)| *field)
        .collect();
    if !changed.is_empty() {
        propagate_persist(ctx, key, &changed);
        ctx.changed(key, Class::HASH, "hpersist");
    }
    Ok(())
}

fn delete_read(ctx: &mut Context<'_>, key: &[u8], present: &[&[u8]]) -> CommandResult {
    let Some(hash) = ctx.db.write::<Hash>(key)? else {
        return Ok(());
    };
    let timed = hash.is_timed();
    present.iter().for_each(|field| {
        hash.remove(field);
    });
    if timed {
        ctx.db.fields_changed(key);
    }
    ctx.db.keyspace().stats.expired_fields += present.len() as u64;
    propagate_deletion(ctx, key, present);
    fields_deleted(ctx, key, present.len());
    Ok(())
}

/// Gives fields of a hash that is there a time.
fn give_time(ctx: &mut Context<'_>, key: &[u8], ms: i64, fields: &[&[u8]]) -> CommandResult {
    if let Some(hash) = ctx.db.write::<Hash>(key)? {
        for field in fields {
            hash.set_time(field, Some(ms));
        }
    }
    ctx.db.fields_changed(key);
    Ok(())
}

/// HSETEX's options.
#[derive(Default)]
struct Options<'a> {
    /// Only if none of the fields exists (`false`), or if all do (`true`).
    all_exist: Option<bool>,
    keep_time: bool,
    at_ms: Option<i64>,
    /// Fields and values in turn.
    items: &'a [&'a [u8]],
}

impl<'a> Options<'a> {
    fn parse(ctx: &Context<'_>, args: &Args<'a>) -> CommandResult<Self> {
        let arity = || CommandError::Arity("hsetex".into());
        let mut options = Self::default();
        let mut at = 2;
        while let Some(word) = args.get(at) {
            if is_word(word, "fields") {
                if at + 3 >= args.len() {
                    return Err(arity());
                }
                let count = parse_i64(args.at(at + 1)).filter(|count| *count >= 1);
                let count = count.and_then(|count| i32::try_from(count).ok());
                let count =
                    count.ok_or(CommandError::fixed("ERR invalid number of fields"))? as usize;
                options.items = args.from(at + 2);
                if options.items.len() != 2 * count {
                    return Err(arity());
                }
                return Ok(options);
            }
            at += options.option(ctx, args, at, word)?;
        }
        Err(arity())
    }

    /// Takes one option; how many arguments it is.
    fn option(
        &mut self,
        ctx: &Context<'_>,
        args: &Args<'a>,
        at: usize,
        word: &[u8],
    ) -> CommandResult<usize> {
        let kind = time_word(word);
        if kind.is_some() || is_word(word, "keepttl") {
            if self.keep_time || self.at_ms.is_some() {
                return Err(CommandError::fixed(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            let Some(kind) = kind else {
                self.keep_time = true;
                return Ok(1);
            };
            let Some(time) = args.get(at + 1) else {
                return Err(CommandError::fixed("ERR missing expire time"));
            };
            self.at_ms = Some(parse_time(ctx, time, kind, "hsetex")?);
            return Ok(2);
        }
        let all_exist = is_word(word, "fxx");
        if !all_exist && !is_word(word, "fnx") {
            let text = [b"ERR unknown argument: ", word].concat();
            return Err(CommandError::Bytes(text));
        }
        if self.all_exist.replace(all_exist).is_some() {
            return Err(CommandError::fixed(
                "ERR Only one of FXX or FNX arguments can be specified",
            ));
        }
        Ok(1)
    }

    fn fields(&self) -> Vec<&'a [u8]> {
        let pairs = self.items.chunks_exact(2);
        pairs.filter_map(|pair| pair.first().copied()).collect()
    }

    /// Whether the condition on what is there is met.
    fn is_met(&self, ctx: &mut Context<'_>, key: &[u8]) -> CommandResult<bool> {
        let Some(wanted) = self.all_exist else {
            return Ok(true);
        };
        let cutoff_ms = ctx.db.field_cutoff();
        let hash = peek_as::<Hash>(&mut ctx.db, key)?;
        let exists = |field: &[u8]| {
            let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
            matches!(found, Found::Live(..))
        };
        Ok(self
            .fields()
            .into_iter()
            .all(|field| exists(field) == wanted))
    }
}

/// `HSETEX key [FNX|FXX] [EX seconds|PX milliseconds|EXAT unix-time-seconds|
/// PXAT unix-time-milliseconds|KEEPTTL] FIELDS numfields field value [field value ...]`
pub(super) fn hsetex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    check_allowed(ctx)?;
    let key = args.at(1);
    let options = Options::parse(ctx, args)?;
    let mut fields = options.fields();
    peek_as::<Hash>(&mut ctx.db, key)?;
    ctx.db.expire_named(key, &fields)?;
    if !options.is_met(ctx, key)? {
        ctx.reply.int(0);
        return Ok(());
    }
    let limits = &ctx.config.limits;
    let hash = ctx.db.write_or_create::<Hash>(key)?;
    hash.prepare(options.items, limits);
    for pair in options.items.chunks_exact(2) {
        if let [field, value] = pair {
            match options.keep_time {
                true => hash.set_keeping_time(field, value, limits),
                false => hash.set(field, value, limits),
            };
        }
    }
    let mut seen = HashSet::new();
    fields.retain(|field| seen.insert(*field));
    let kept: Vec<(i64, &[u8])> = fields
        .iter()
        .filter_map(|field| Some((hash.time_of(field)??, *field)))
        .collect();
    ctx.db.fields_changed(key);
    ctx.changed(key, Class::HASH, "hset");
    ctx.db.effect.dirty += fields.len() as u64 - 1;
    ctx.reply.int(1);
    if let Some(ms) = options.at_ms
        && expire_time::is_past(&mut ctx.db, ms)
    {
        return delete_read(ctx, key, &fields);
    }
    let words: [&[u8]; 2] = [b"HSET", key];
    ctx.propagate(&[&words, options.items].concat());
    if let Some(ms) = options.at_ms {
        give_time(ctx, key, ms, &fields)?;
        propagate_time(ctx, key, ms, &fields);
        ctx.notify(key, Class::HASH, "hexpire");
    }
    for (ms, field) in kept {
        propagate_time(ctx, key, ms, &[field]);
    }
    Ok(())
}
