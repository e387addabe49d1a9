//! ZADD and ZINCRBY.

use super::super::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::zset::{AddRule, Added, ZSet};

const NOT_A_NUMBER: CommandError = CommandError::fixed("ERR resulting score is not a number (NaN)");

/// ZADD's words before the scores.
struct Options {
    rule: AddRule,
    count_changed: bool,
    /// Index of the first score.
    first: usize,
}

impl Options {
    fn parse(args: &Args<'_>, increment: bool) -> CommandResult<Self> {
        let mut rule = AddRule {
            increment,
            ..AddRule::default()
        };
        let (mut count_changed, mut first) = (false, 2);
        while first < args.len() {
            match Word::of(args.at(first)) {
                Word::Nx => rule.only_new = true,
                Word::Xx => rule.only_present = true,
                Word::Ch => count_changed = true,
                Word::Incr => rule.increment = true,
                Word::Gt => rule.only_greater = true,
                Word::Lt => rule.only_less = true,
                Word::Other => break,
            }
            first += 1;
        }
        let rest = args.len() - first;
        if rest == 0 || !rest.is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        let AddRule {
            only_new,
            only_greater,
            only_less,
            ..
        } = rule;
        if only_new && rule.only_present {
            return Err(CommandError::fixed(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if (only_new && (only_greater || only_less)) || (only_greater && only_less) {
            return Err(CommandError::fixed(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if rule.increment && rest > 2 {
            return Err(CommandError::fixed(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(Self {
            rule,
            count_changed,
            first,
        })
    }
}

/// An option, or the first score.
enum Word {
    Nx,
    Xx,
    Ch,
    Incr,
    Gt,
    Lt,
    Other,
}

impl Word {
    /// Recognises an option without comparing each score with all of them.
    fn of(arg: &[u8]) -> Self {
        let mut lower = [0; 4];
        let Some(text) = lower.get_mut(..arg.len()) else {
            return Self::Other;
        };
        text.copy_from_slice(arg);
        text.make_ascii_lowercase();
        match &*text {
            b"nx" => Self::Nx,
            b"xx" => Self::Xx,
            b"ch" => Self::Ch,
            b"incr" => Self::Incr,
            b"gt" => Self::Gt,
            b"lt" => Self::Lt,
            _ => Self::Other,
        }
    }
}

fn add(ctx: &mut Context<'_>, args: &Args<'_>, increment: bool) -> CommandResult {
    let Options {
        rule,
        count_changed,
        first,
    } = Options::parse(args, increment)?;
    let pairs = args.from(first).chunks_exact(2);
    let count = pairs.len();
    let mut scores = Vec::with_capacity(count);
    for at in (first..args.len()).step_by(2) {
        scores.push(args.double(at)?);
    }

    let (key, limits) = (args.at(1), &ctx.config.limits);
    let set = if rule.only_present {
        ctx.db.write::<ZSet>(key)?
    } else {
        Some(ctx.db.write_or_create::<ZSet>(key)?)
    };
    let (mut added, mut updated, mut result, mut created) = (0, 0, None, false);
    if let Some(set) = set {
        created = set.len() == 0;
        set.prepare(
            count,
            if created { args.at(first + 1).len() } else { 0 },
            limits,
        );
        for (score, pair) in scores.into_iter().zip(pairs) {
            let [_, member] = pair else { continue };
            match set.add(score, member, rule, limits) {
                Added::New(score) => (added, result) = (added + 1, Some(score)),
                Added::Updated(score) => (updated, result) = (updated + 1, Some(score)),
                Added::Same(score) => result = Some(score),
                Added::Refused => {}
                // Only the single pair of an increment can get here: nothing has changed.
                Added::NotANumber => return Err(NOT_A_NUMBER),
            }
        }
    }
    if added + updated > 0 {
        ctx.changed(
            key,
            Class::ZSET,
            if rule.increment { "zincr" } else { "zadd" },
        );
        ctx.db.effect.dirty += added + updated - 1;
    }
    if created {
        ctx.db.signal_ready(key);
    }
    match (rule.increment, result) {
        (true, Some(score)) => ctx.reply.double(score),
        (true, None) => ctx.reply.null(),
        (false, _) => ctx.reply.int(
            (if count_changed {
                added + updated
            } else {
                added
            }) as i64,
        ),
    }
    Ok(())
}

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]`
pub(in crate::command) fn zadd(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    add(ctx, args, false)
}

/// `ZINCRBY key increment member`
pub(super) fn zincrby(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    add(ctx, args, true)
}
