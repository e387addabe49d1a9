//! COMMAND GETKEYS and GETKEYSANDFLAGS; what a command does with which keys.

use super::facts::{self, BeginSearch, FindKeys, KeyFacts};
use crate::acl::check::KeyUse;
use crate::command::table::{KeySpec, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context, registry};
use redrock_rdb::number::parse_i64;
use std::borrow::Cow;

/// A key's argument index and its flags.
type Found = (usize, Flags);

type Flags = Cow<'static, [&'static str]>;

pub(super) fn getkeys(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let found = find(args)?;
    ctx.reply.array(found.len());
    for (at, _) in found {
        ctx.reply.bulk(args.at(at + 2));
    }
    Ok(())
}

pub(super) fn getkeysandflags(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let found = find(args)?;
    ctx.reply.array(found.len());
    for (at, flags) in found {
        ctx.reply.array(2);
        ctx.reply.bulk(args.at(at + 2));
        ctx.reply.set(flags.len());
        for name in flags.iter() {
            ctx.reply.simple(name);
        }
    }
    Ok(())
}

/// The keys of a command, and whether their values are read and written, as access control sees
/// it. None if the arguments contradict the command's specification: it answers an error then.
pub(crate) fn keys_with_access(spec: &'static Spec, args: &Args<'_>) -> Vec<KeyUse> {
    let facts = facts::of(spec.name);
    let found = keys_of(spec, &facts.keys, args).unwrap_or_default();
    let uses = |(at, flags): Found| {
        let writes = ["insert", "delete", "update"];
        let written = flags.iter().any(|flag| writes.contains(flag));
        (at, flags.contains(&"access"), written)
    };
    found.into_iter().map(uses).collect()
}

/// The keys of the command that follows the subcommand.
fn find(args: &Args<'_>) -> CommandResult<Vec<Found>> {
    let command = Args::new(args.from(2));
    let Ok(spec) = registry::resolve(&command) else {
        return Err(CommandError::fixed("ERR Invalid command specified"));
    };
    let facts = facts::of(spec.name);
    if facts.keys.iter().all(|key| key.has("not_key")) && matches!(spec.keys, KeySpec::None) {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    if !spec.arity_ok(command.len()) {
        return Err(CommandError::fixed(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    match keys_of(spec, &facts.keys, &command) {
        Some(found) if !found.is_empty() => Ok(found),
        _ if spec.has(flag::NO_MANDATORY_KEYS) => Ok(Vec::new()),
        _ => Err(CommandError::fixed(
            "ERR Invalid arguments specified for command",
        )),
    }
}

/// `None`: the arguments contradict the specification.
fn keys_of(spec: &Spec, keys: &'static [KeyFacts], command: &Args<'_>) -> Option<Vec<Found>> {
    let uncertain = |key: &KeyFacts| {
        matches!(key.begin, BeginSearch::Unknown)
            || matches!(key.find, FindKeys::Unknown)
            || key.has("incomplete")
            || key.has("variable_flags")
    };
    if !keys.is_empty() && !keys.iter().any(uncertain) {
        let mut found = Vec::new();
        for key in keys {
            match by_facts(key, command) {
                Some(keys) => found.extend(keys),
                None => return by_number(&spec.keys, command),
            }
        }
        return Some(found);
    }
    // What dispatch itself uses; a key behind the first is what the last record describes.
    let mut found: Vec<Found> = Vec::new();
    spec.keys.visit(command, |at| {
        let key = if found.is_empty() {
            keys.first()
        } else {
            keys.last()
        };
        found.push((
            at,
            key.map(|key| flags_of(spec, key, command))
                .unwrap_or_default(),
        ));
    });
    Some(found)
}

/// What Redis falls back to where a number of keys is none: it reads the number as C's `atoi` does,
/// and says nothing of how keys are used.
fn by_number(keys: &KeySpec, command: &Args<'_>) -> Option<Vec<Found>> {
    let KeySpec::Counted { count_at, also } = *keys else {
        return None;
    };
    let text = command.get(count_at)?.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let end = digits.iter().position(|byte| !byte.is_ascii_digit());
    let count = parse_i64(digits.get(..end.unwrap_or(digits.len()))?)?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
    let first = count_at + 1;
    if count > command.len().saturating_sub(first) {
        return None;
    }
    let found = (first..first + count).chain((also > 0).then_some(also));
    Some(found.map(|at| (at, Flags::default())).collect())
}

/// The flags of a key whose use depends on the arguments.
fn flags_of(spec: &Spec, key: &'static KeyFacts, command: &Args<'_>) -> Flags {
    let word = |name: &str| (1..command.len()).any(|i| command.is(i, name));
    match spec.name {
        "set" if !(3..command.len()).any(|i| command.is(i, "get")) => {
            Cow::Borrowed(&["OW", "update"])
        }
        "set" => Cow::Borrowed(&["RW", "access", "update"]),
        "bitfield" if !word("set") && !word("incrby") => Cow::Borrowed(&["RO", "access"]),
        "bitfield" => Cow::Borrowed(&["RW", "access", "update"]),
        _ if !key.has("incomplete") => Cow::Borrowed(&key.flags),
        _ => key
            .flags
            .iter()
            .copied()
            .filter(|name| *name != "incomplete")
            .collect(),
    }
}

/// The keys of one specification; `None` as above.
fn by_facts(key: &'static KeyFacts, command: &Args<'_>) -> Option<Vec<Found>> {
    if key.has("not_key") {
        return Some(Vec::new());
    }
    let count = command.len() as i64;
    let first = match key.begin {
        BeginSearch::Index(index) => index as i64,
        BeginSearch::Keyword(word, from) if from >= 0 => {
            let at =
                (from as usize..command.len().saturating_sub(1)).find(|&i| command.is(i, word));
            match at {
                Some(at) => at as i64 + 1,
                None => return Some(Vec::new()),
            }
        }
        BeginSearch::Keyword(word, from) => {
            let start = (count + from).max(0) as usize;
            match (1..=start).rev().find(|&i| command.is(i, word)) {
                Some(at) => at as i64 + 1,
                None => return Some(Vec::new()),
            }
        }
        BeginSearch::Unknown => return Some(Vec::new()),
    };
    let (first, last, step) = match key.find {
        FindKeys::Range(last, step, _) if last >= 0 => (first, first + last, step),
        FindKeys::Range(-1, step, limit) if limit > 1 => {
            (first, first + (count - first) / limit as i64 - 1, step)
        }
        FindKeys::Range(last, step, _) => (first, count + last, step),
        FindKeys::KeyNum(at, offset, step) => {
            let number = command
                .get((first + at as i64) as usize)
                .and_then(parse_i64);
            let number = number.filter(|n| *n >= 0)?;
            let start = first + offset as i64;
            let keys = number.saturating_sub(1).saturating_mul(step as i64);
            (
                start,
                start
                    .saturating_add(keys)
                    .saturating_sub(i64::from(number == 0)),
                step,
            )
        }
        FindKeys::Unknown => return Some(Vec::new()),
    };
    if last >= count {
        return None;
    }
    let range = first..=last;
    let found = range
        .step_by(step.max(1))
        .map(|at| (at as usize, Cow::Borrowed(&key.flags[..])));
    Some(found.collect())
}
