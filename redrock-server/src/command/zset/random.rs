//! ZRANDMEMBER.

use super::super::{Args, CommandError, CommandResult, Context, Reply};
use super::{element, elements, elements_header};
use crate::value::zset::ZSet;
use rand::RngExt;

/// A reply that repeats members can be made as long as one likes; more elements than this are
/// refused, since a reply is built as a whole.
const REPEATED_MAX: usize = 1 << 27;

/// `ZRANDMEMBER key [count [WITHSCORES]]`
pub(super) fn zrandmember(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.len() == 2 {
        let chosen = ctx.db.read::<ZSet>(args.at(1))?.and_then(|set| {
            let rank = rand::rng().random_range(0..set.len().max(1));
            set.at(rank)
        });
        match chosen {
            Some((member, _)) => ctx.reply.item(member),
            None => ctx.reply.null(),
        }
        return Ok(());
    }
    let count = args.int(2)?;
    if count == i64::MIN {
        return Err(CommandError::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_scores = args.len() == 4 && args.is(3, "withscores");
    if args.len() > 3 && !with_scores {
        return Err(CommandError::Syntax);
    }
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::fixed("ERR value is out of range"));
    }
    let Some(set) = ctx.db.read::<ZSet>(args.at(1))? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let (reply, len) = (&mut ctx.reply, set.len());
    let mut rng = rand::rng();
    if count < 0 {
        return repeated(reply, set, wanted, with_scores);
    }
    if wanted >= len {
        elements(reply, set.range(0..len, true), with_scores);
    } else {
        elements_header(reply, wanted, with_scores);
        let mut ranks = rand::seq::index::sample(&mut rng, len, wanted).into_vec();
        if wanted * 8 > len {
            // A walk visits less than as many descents would.
            ranks.sort_unstable();
            let mut ranks = ranks.into_iter().peekable();
            for (rank, one) in set.iter().enumerate() {
                if ranks.next_if_eq(&rank).is_some() {
                    element(reply, one, with_scores);
                }
            }
        } else {
            let chosen = ranks.into_iter().filter_map(|rank| set.at(rank));
            chosen.for_each(|one| element(reply, one, with_scores));
        }
    }
    Ok(())
}

/// Random members that may come again.
fn repeated(reply: &mut Reply<'_>, set: &ZSet, wanted: usize, with_scores: bool) -> CommandResult {
    if wanted > REPEATED_MAX {
        return Err(CommandError::fixed("ERR value is out of range"));
    }
    elements_header(reply, wanted, with_scores);
    let (mut rng, len) = (rand::rng(), set.len());
    // Beyond one draw for each element it is cheaper to list them all first.
    let all: Vec<_> = if wanted > len {
        set.iter().collect()
    } else {
        Vec::new()
    };
    for _ in 0..wanted {
        // A reply that is refused grows no more.
        if reply.is_over() {
            break;
        }
        let rank = rng.random_range(0..len);
        if let Some(one) = all.get(rank).copied().or_else(|| set.at(rank)) {
            element(reply, one, with_scores);
        }
    }
    Ok(())
}
