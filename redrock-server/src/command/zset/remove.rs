//! ZREM and the ZREMRANGEBY commands.

use super::super::{Args, CommandResult, Context};
use super::range::Span;
use super::{BAD_LEX_RANGE, BAD_SCORE_RANGE, removed};
use crate::value::zset::{LexRange, ScoreRange, ZSet};

/// `ZREM key member [member ...]`
pub(super) fn zrem(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let mut count = 0;
    if let Some(set) = ctx.db.write::<ZSet>(key)? {
        count = args
            .from(2)
            .iter()
            .filter(|member| set.remove(member))
            .count();
    }
    removed(ctx, key, "zrem", count);
    ctx.reply.len_int(count);
    Ok(())
}

fn remove_span(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    span: &Span<'_>,
    event: &'static str,
) -> CommandResult {
    let key = args.at(1);
    let mut count = 0;
    if let Some(set) = ctx.db.write::<ZSet>(key)? {
        let ranks = span.ranks(set, false);
        count = ranks.len();
        set.remove_ranks(ranks);
    }
    removed(ctx, key, event, count);
    ctx.reply.len_int(count);
    Ok(())
}

/// `ZREMRANGEBYRANK key start stop`
pub(super) fn zremrangebyrank(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let span = Span::Rank(args.int(2)?, args.int(3)?);
    remove_span(ctx, args, &span, "zremrangebyrank")
}

/// `ZREMRANGEBYSCORE key min max`
pub(super) fn zremrangebyscore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let range = ScoreRange::parse(args.at(2), args.at(3)).ok_or(BAD_SCORE_RANGE)?;
    remove_span(ctx, args, &Span::Score(range), "zremrangebyscore")
}

/// `ZREMRANGEBYLEX key min max`
pub(super) fn zremrangebylex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let range = LexRange::parse(args.at(2), args.at(3)).ok_or(BAD_LEX_RANGE)?;
    remove_span(ctx, args, &Span::Lex(range), "zremrangebylex")
}
