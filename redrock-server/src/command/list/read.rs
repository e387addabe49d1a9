//! LLEN, LINDEX, LRANGE and LPOS.

use super::clamp_range;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::value::list::{End, List};
use redrock_rdb::number::parse_i64;

/// `LLEN key`
pub(super) fn llen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let len = ctx.db.read::<List>(args.at(1))?.map_or(0, List::len);
    ctx.reply.len_int(len);
    Ok(())
}

/// `LINDEX key index`
pub(super) fn lindex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some(list) = ctx.db.read::<List>(args.at(1))? else {
        ctx.reply.null();
        return Ok(());
    };
    match list.get(args.int(2)?) {
        Some(item) => ctx.reply.item(item),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `LRANGE key start stop`
pub(super) fn lrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let list = ctx.db.read::<List>(args.at(1))?;
    let range = list.and_then(|list| Some((list, clamp_range(start, stop, list.len())?)));
    let Some((list, (start, count))) = range else {
        ctx.reply.array(0);
        return Ok(());
    };
    ctx.reply.array(count);
    list.items(End::Head, start)
        .take(count)
        .for_each(|item| ctx.reply.item(item));
    Ok(())
}

/// LPOS's options.
struct Search {
    from: End,
    /// The first match to report, 1 or more.
    rank: usize,
    /// How many matches to report, 0 for all; `None` for a single reply.
    count: Option<usize>,
    /// How many elements to compare.
    scan_max: usize,
}

fn parse_search(args: &Args<'_>) -> CommandResult<Search> {
    let mut search = Search {
        from: End::Head,
        rank: 1,
        count: None,
        scan_max: usize::MAX,
    };
    let mut at = 3;
    while at < args.len() {
        let Some(value) = args.get(at + 1) else {
            return Err(CommandError::Syntax);
        };
        if args.is(at, "rank") {
            let rank = args.int(at + 1)?;
            (search.from, search.rank) = parse_rank(rank)?;
        } else if args.is(at, "count") {
            search.count = Some(not_negative(value, "ERR COUNT can't be negative")?);
        } else if args.is(at, "maxlen") {
            search.scan_max = match not_negative(value, "ERR MAXLEN can't be negative")? {
                0 => usize::MAX,
                max => max,
            };
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    Ok(search)
}

fn parse_rank(rank: i64) -> CommandResult<(End, usize)> {
    let from = if rank < 0 { End::Tail } else { End::Head };
    match rank {
        0 => Err(CommandError::fixed(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        )),
        i64::MIN => Err(CommandError::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        _ => Ok((
            from,
            usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX),
        )),
    }
}

fn not_negative(arg: &[u8], error: &'static str) -> CommandResult<usize> {
    let value = parse_i64(arg).and_then(|n| usize::try_from(n).ok());
    value.ok_or(CommandError::fixed(error))
}

/// `LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]`
pub(super) fn lpos(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let search = parse_search(args)?;
    let list = ctx.db.read::<List>(args.at(1))?;
    let matches = list.into_iter().flat_map(|list| {
        let len = list.len();
        list.positions(args.at(2), search.from, search.scan_max)
            .skip(search.rank - 1)
            .map(move |at| {
                if search.from == End::Head {
                    at
                } else {
                    len - 1 - at
                }
            })
    });
    match search.count {
        None => match { matches }.next() {
            Some(index) => ctx.reply.len_int(index),
            None => ctx.reply.null(),
        },
        Some(count) => {
            let limit = if count == 0 { usize::MAX } else { count };
            let start = ctx.reply.deferred();
            let mut found = 0;
            for index in matches.take(limit) {
                ctx.reply.len_int(index);
                found += 1;
            }
            ctx.reply.finish_array(start, found);
        }
    }
    Ok(())
}
