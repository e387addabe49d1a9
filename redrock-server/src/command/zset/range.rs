//! ZRANGE, ZRANGESTORE and the older range commands.

use super::super::{Args, CommandError, CommandResult, Context};
use super::{BAD_LEX_RANGE, BAD_SCORE_RANGE, elements, store};
use crate::value::zset::{LexRange, ScoreRange, ZSet};
use std::ops::Range;

/// A part of a sorted set.
pub(super) enum Span<'a> {
    /// First and last rank; negative ones count from the end.
    Rank(i64, i64),
    /// A range of scores.
    Score(ScoreRange),
    /// A range of members.
    Lex(LexRange<'a>),
}

impl Span<'_> {
    /// The ranks from the lowest score. `reverse`: a span of ranks counts from the highest.
    pub(super) fn ranks(&self, set: &ZSet, reverse: bool) -> Range<usize> {
        match self {
            Self::Score(range) => set.ranks_by_score(range),
            Self::Lex(range) => set.ranks_by_lex(range),
            &Self::Rank(first, last) => {
                let len = set.len() as i64;
                let absolute = |rank: i64| {
                    if rank < 0 {
                        len.saturating_add(rank)
                    } else {
                        rank
                    }
                };
                let first = absolute(first).max(0);
                let last = absolute(last).min(len - 1);
                if first > last {
                    return 0..0;
                }
                let (first, end) = (first as usize, last as usize + 1);
                let len = set.len();
                if reverse {
                    len - end..len - first
                } else {
                    first..end
                }
            }
        }
    }
}

/// What the bounds of a range command are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A parsed range command.
struct Query<'a> {
    key: &'a [u8],
    span: Span<'a>,
    reverse: bool,
    with_scores: bool,
    /// Offset and count of LIMIT; a negative count is no limit.
    limit: (i64, i64),
}

impl<'a> Query<'a> {
    /// Parses from the key at `first` on. `by` and `reverse` are fixed by the older commands, and
    /// options of ZRANGE otherwise. The order of checks is Redis's.
    fn parse(
        args: &Args<'a>,
        first: usize,
        storing: bool,
        by: Option<By>,
        reverse: Option<bool>,
    ) -> CommandResult<Self> {
        let (mut chosen, mut direction) = (by, reverse);
        let (mut with_scores, mut limit) = (false, (0, -1));
        let mut at = first + 3;
        while at < args.len() {
            if !storing && args.is(at, "withscores") {
                with_scores = true;
            } else if args.is(at, "limit") && at + 2 < args.len() {
                limit = (args.int(at + 1)?, args.int(at + 2)?);
                at += 2;
            } else if direction.is_none() && args.is(at, "rev") {
                direction = Some(true);
            } else if chosen.is_none() && args.is(at, "bylex") {
                chosen = Some(By::Lex);
            } else if chosen.is_none() && args.is(at, "byscore") {
                chosen = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        let by = chosen.unwrap_or(By::Rank);
        let reverse = direction.unwrap_or(false);
        if by == By::Rank && limit.1 != -1 {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Lex && with_scores {
            return Err(CommandError::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let swapped = reverse && by != By::Rank;
        let (low, high) = if swapped {
            (first + 2, first + 1)
        } else {
            (first + 1, first + 2)
        };
        let (min, max) = (args.at(low), args.at(high));
        let span = match by {
            By::Rank => Span::Rank(args.int(low)?, args.int(high)?),
            By::Score => Span::Score(ScoreRange::parse(min, max).ok_or(BAD_SCORE_RANGE)?),
            By::Lex => Span::Lex(LexRange::parse(min, max).ok_or(BAD_LEX_RANGE)?),
        };
        Ok(Self {
            key: args.at(first),
            span,
            reverse,
            with_scores,
            limit,
        })
    }

    /// The ranks asked for, from the lowest score.
    fn select(&self, set: &ZSet) -> Range<usize> {
        let ranks = self.span.ranks(set, self.reverse);
        if matches!(self.span, Span::Rank(..)) {
            return ranks;
        }
        // A negative offset skips everything, as it does in Redis.
        let skipped = usize::try_from(self.limit.0)
            .unwrap_or(usize::MAX)
            .min(ranks.len());
        let left = ranks.len() - skipped;
        let taken = usize::try_from(self.limit.1).map_or(left, |limit| limit.min(left));
        if self.reverse {
            let end = ranks.end - skipped;
            end - taken..end
        } else {
            let start = ranks.start + skipped;
            start..start + taken
        }
    }
}

fn reply_range(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    by: Option<By>,
    reverse: Option<bool>,
) -> CommandResult {
    let query = Query::parse(args, 1, false, by, reverse)?;
    match ctx.db.read::<ZSet>(query.key)? {
        None => ctx.reply.array(0),
        Some(set) => {
            let found = set.range(query.select(set), query.reverse);
            elements(&mut ctx.reply, found, query.with_scores);
        }
    }
    Ok(())
}

/// `ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`
pub(super) fn zrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    reply_range(ctx, args, None, None)
}

/// `ZREVRANGE key start stop [WITHSCORES]`
pub(super) fn zrevrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    reply_range(ctx, args, Some(By::Rank), Some(true))
}

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`
pub(super) fn zrangebyscore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    reply_range(ctx, args, Some(By::Score), Some(false))
}

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`
pub(super) fn zrevrangebyscore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    reply_range(ctx, args, Some(By::Score), Some(true))
}

/// `ZRANGEBYLEX key min max [LIMIT offset count]`
pub(super) fn zrangebylex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    reply_range(ctx, args, Some(By::Lex), Some(false))
}

/// `ZREVRANGEBYLEX key max min [LIMIT offset count]`
pub(super) fn zrevrangebylex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    reply_range(ctx, args, Some(By::Lex), Some(true))
}

/// `ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]`
pub(super) fn zrangestore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let query = Query::parse(args, 2, true, None, None)?;
    let result = match ctx.db.read::<ZSet>(query.key)? {
        None => ZSet::new(),
        Some(set) => ZSet::from_sorted(set.range(query.select(set), false), &ctx.config.limits),
    };
    store(ctx, args.at(1), result, "zrangestore")
}

/// `ZCOUNT key min max`
pub(super) fn zcount(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let range = ScoreRange::parse(args.at(2), args.at(3)).ok_or(BAD_SCORE_RANGE)?;
    count_span(ctx, args, &Span::Score(range))
}

/// `ZLEXCOUNT key min max`
pub(super) fn zlexcount(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let range = LexRange::parse(args.at(2), args.at(3)).ok_or(BAD_LEX_RANGE)?;
    count_span(ctx, args, &Span::Lex(range))
}

fn count_span(ctx: &mut Context<'_>, args: &Args<'_>, span: &Span<'_>) -> CommandResult {
    let set = ctx.db.read::<ZSet>(args.at(1))?;
    ctx.reply
        .len_int(set.map_or(0, |set| span.ranks(set, false).len()));
    Ok(())
}
