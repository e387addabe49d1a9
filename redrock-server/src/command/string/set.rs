//! SET and its relatives.

use super::expire_time::{self, Base, Unit};
use super::reply_string;
use crate::command::args::is_word;
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::keyspace::db::Expiry;
use crate::notify::Class;

/// `NX` or `XX`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Absent,
    Present,
}

/// The options of SET, or those of GETEX.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options<'a> {
    condition: Option<Condition>,
    get: bool,
    keep_ttl: bool,
    /// `PERSIST`
    pub(super) persist: bool,
    /// The expiry's word and argument.
    time: Option<(Time, &'a [u8])>,
}

/// `EX`, `PX`, `EXAT` or `PXAT`
pub(super) type Time = (Unit, Base);

/// Which command's options are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Set,
    GetEx,
}

impl<'a> Options<'a> {
    /// Reads options from the argument after the fixed ones on. Contradicting or unknown ones are
    /// `-ERR syntax error`; the same one may come again, and the last one counts.
    pub(super) fn parse(words: &[&'a [u8]], dialect: Dialect) -> CommandResult<Self> {
        let set = dialect == Dialect::Set;
        let mut options = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if set && is_word(word, "nx") && options.condition != Some(Condition::Present) {
                options.condition = Some(Condition::Absent);
            } else if set && is_word(word, "xx") && options.condition != Some(Condition::Absent) {
                options.condition = Some(Condition::Present);
            } else if set && is_word(word, "get") {
                options.get = true;
            } else if set && is_word(word, "keepttl") && options.time.is_none() {
                options.keep_ttl = true;
            } else if !set && is_word(word, "persist") && options.time.is_none() {
                options.persist = true;
            } else if let Some(time) = time_word(word)
                && !options.keep_ttl
                && !options.persist
                && options.time.is_none_or(|(earlier, _)| earlier == time)
            {
                options.time = Some((time, words.next().ok_or(CommandError::Syntax)?));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// The expiry in unix ms, if one was given.
    pub(super) fn expire_ms(&self, now_ms: i64, command: &str) -> CommandResult<Option<i64>> {
        let Some(((unit, base), arg)) = self.time else {
            return Ok(None);
        };
        expire_time::parse_positive(arg, unit, base, now_ms, command).map(Some)
    }
}

fn time_word(word: &[u8]) -> Option<Time> {
    const WORDS: [(&str, Time); 4] = [
        ("ex", (Unit::Seconds, Base::Now)),
        ("px", (Unit::Milliseconds, Base::Now)),
        ("exat", (Unit::Seconds, Base::Epoch)),
        ("pxat", (Unit::Milliseconds, Base::Epoch)),
    ];
    WORDS
        .into_iter()
        .find(|(name, _)| is_word(word, name))
        .map(|(_, time)| time)
}

/// SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]
pub(super) fn set(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    // The hottest command of all: without options nothing is parsed or looked up.
    if args.len() == 3 {
        store(ctx, args.at(1), args.at(2), Expiry::Clear)?;
        ctx.reply.ok();
        return Ok(());
    }
    set_with_options(ctx, args)
}

fn set_with_options(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = Options::parse(args.from(3), Dialect::Set)?;
    let expire = options.expire_ms(ctx.now_ms(), "set")?;
    let (key, value) = (args.at(1), args.at(2));
    let blocked = match options.condition {
        None => false,
        Some(Condition::Absent) => ctx.db.exists(key)?,
        Some(Condition::Present) => !ctx.db.exists(key)?,
    };
    if options.get {
        match ctx.db.read_string(key)? {
            Some(old) => reply_string(&mut ctx.reply, old),
            None => ctx.reply.null(),
        }
    } else if blocked {
        ctx.reply.null();
    } else {
        ctx.reply.ok();
    }
    if blocked {
        return Ok(());
    }
    match expire {
        Some(ms) => {
            store_until(ctx, key, value, ms)?;
            if !matches!(options.time, Some(((Unit::Milliseconds, Base::Epoch), _))) {
                propagate_until(ctx, key, value, ms);
            }
        }
        None => {
            store(
                ctx,
                key,
                value,
                if options.keep_ttl {
                    Expiry::Keep
                } else {
                    Expiry::Clear
                },
            )?;
            if options.get {
                propagate_without_get(ctx, args);
            }
        }
    }
    Ok(())
}

fn store(ctx: &mut Context<'_>, key: &[u8], value: &[u8], expiry: Expiry) -> CommandResult {
    ctx.db.set_string(key, value, expiry)?;
    ctx.changed(key, Class::STRING, "set");
    Ok(())
}

fn store_until(ctx: &mut Context<'_>, key: &[u8], value: &[u8], expire_ms: i64) -> CommandResult {
    store(ctx, key, value, Expiry::At(expire_ms))?;
    ctx.notify(key, Class::GENERIC, "expire");
    Ok(())
}

/// Every expiry leaves as the absolute time it means here.
fn propagate_until(ctx: &mut Context<'_>, key: &[u8], value: &[u8], expire_ms: i64) {
    let mut digits = itoa::Buffer::new();
    ctx.propagate(&[
        b"SET",
        key,
        value,
        b"PXAT",
        digits.format(expire_ms).as_bytes(),
    ]);
}

/// GET changes nothing and would only make a replica answer.
fn propagate_without_get(ctx: &mut Context<'_>, args: &Args<'_>) {
    let (fixed, options) = args.all().split_at_checked(3).unwrap_or_default();
    let options = options.iter().filter(|word| !is_word(word, "get"));
    let command: Vec<&[u8]> = fixed.iter().chain(options).copied().collect();
    ctx.propagate(&command);
}

/// SETNX key value
pub(super) fn setnx(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let exists = ctx.db.exists(args.at(1))?;
    if !exists {
        store(ctx, args.at(1), args.at(2), Expiry::Clear)?;
    }
    ctx.reply.int(i64::from(!exists));
    Ok(())
}

/// SETEX key seconds value
pub(super) fn setex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    set_for(ctx, args, Unit::Seconds, "setex")
}

/// PSETEX key milliseconds value
pub(super) fn psetex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    set_for(ctx, args, Unit::Milliseconds, "psetex")
}

fn set_for(ctx: &mut Context<'_>, args: &Args<'_>, unit: Unit, command: &str) -> CommandResult {
    let (key, value) = (args.at(1), args.at(3));
    let ms = expire_time::parse_positive(args.at(2), unit, Base::Now, ctx.now_ms(), command)?;
    store_until(ctx, key, value, ms)?;
    propagate_until(ctx, key, value, ms);
    ctx.reply.ok();
    Ok(())
}

/// GETSET key value
pub(super) fn getset(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, value) = (args.at(1), args.at(2));
    match ctx.db.read_string(key)? {
        Some(old) => reply_string(&mut ctx.reply, old),
        None => ctx.reply.null(),
    }
    store(ctx, key, value, Expiry::Clear)?;
    ctx.propagate(&[b"SET", key, value]);
    Ok(())
}

fn pairs<'a>(args: &Args<'a>, command: &str) -> CommandResult<Vec<(&'a [u8], &'a [u8])>> {
    let (pairs, rest) = args.from(1).as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::Arity(command.into()));
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

/// MSET key value [key value ...]
pub(super) fn mset(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    for (key, value) in pairs(args, "mset")? {
        store(ctx, key, value, Expiry::Clear)?;
    }
    ctx.reply.ok();
    Ok(())
}

/// MSETNX key value [key value ...]: all or, if one key exists, none.
pub(super) fn msetnx(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let pairs = pairs(args, "msetnx")?;
    for (key, _) in &pairs {
        if ctx.db.exists(key)? {
            ctx.reply.int(0);
            return Ok(());
        }
    }
    for (key, value) in pairs {
        store(ctx, key, value, Expiry::Clear)?;
    }
    ctx.reply.int(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(words: &'a str, dialect: Dialect) -> CommandResult<Options<'a>> {
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        Options::parse(&words, dialect)
    }

    #[test]
    fn options_that_contradict_are_syntax_errors() {
        for words in [
            "NX XX",
            "xx nx",
            "EX 1 PX 1",
            "EX 1 KEEPTTL",
            "KEEPTTL EX 1",
            "EX",
            "PXAT",
            "NX EX",
            "PERSIST",
            "EX 1 EXAT 1",
            "foo",
            "EX 1 2",
        ] {
            assert_eq!(
                parse(words, Dialect::Set),
                Err(CommandError::Syntax),
                "{words}"
            );
        }
        for words in ["NX", "GET", "KEEPTTL", "EX 1 PERSIST", "PERSIST PX 1", "PX"] {
            assert_eq!(
                parse(words, Dialect::GetEx),
                Err(CommandError::Syntax),
                "{words}"
            );
        }
    }

    #[test]
    fn an_option_may_come_again_and_the_last_one_counts() {
        let options = parse("ex 1 GeT EX 2 nx NX get", Dialect::Set).expect("valid options");
        assert_eq!(options.time, Some(((Unit::Seconds, Base::Now), &b"2"[..])));
        assert!(options.get);
        assert_eq!(options.condition, Some(Condition::Absent));
        assert_eq!(options.expire_ms(5, "set"), Ok(Some(2005)));
        assert!(parse("PERSIST persist", Dialect::GetEx).is_ok_and(|o| o.persist));
    }
}
