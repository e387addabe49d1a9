//! ZCARD, ZSCORE, ZMSCORE, ZRANK and ZREVRANK.

use super::super::{Args, CommandError, CommandResult, Context};
use crate::value::zset::ZSet;

/// `ZCARD key`
pub(super) fn zcard(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let set = ctx.db.read::<ZSet>(args.at(1))?;
    ctx.reply.len_int(set.map_or(0, ZSet::len));
    Ok(())
}

/// `ZSCORE key member`
pub(super) fn zscore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let set = ctx.db.read::<ZSet>(args.at(1))?;
    match set.and_then(|set| set.score(args.at(2))) {
        Some(score) => ctx.reply.double(score),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `ZMSCORE key member [member ...]`
pub(super) fn zmscore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let set = ctx.db.read::<ZSet>(args.at(1))?;
    let members = args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        match set.and_then(|set| set.score(member)) {
            Some(score) => ctx.reply.double(score),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn rank(ctx: &mut Context<'_>, args: &Args<'_>, reverse: bool) -> CommandResult {
    if args.len() > 4 {
        let name = if reverse { "zrevrank" } else { "zrank" };
        return Err(CommandError::Arity(name.into()));
    }
    let with_score = args.len() > 3;
    if with_score && !args.is(3, "withscore") {
        return Err(CommandError::Syntax);
    }
    let set = ctx.db.read::<ZSet>(args.at(1))?;
    match set.and_then(|set| Some((set.len(), set.rank(args.at(2))?))) {
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
        Some((len, (rank, score))) => {
            let rank = if reverse { len - 1 - rank } else { rank };
            if with_score {
                ctx.reply.array(2);
            }
            ctx.reply.len_int(rank);
            if with_score {
                ctx.reply.double(score);
            }
        }
    }
    Ok(())
}

/// `ZRANK key member [WITHSCORE]`
pub(super) fn zrank(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    rank(ctx, args, false)
}

/// `ZREVRANK key member [WITHSCORE]`
pub(super) fn zrevrank(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    rank(ctx, args, true)
}
