//! ZSCAN.

use super::super::hash::scan::{Allowed, ScanOptions, parse_cursor, reply_nothing};
use super::super::{Args, CommandResult, Context, Reply};
use crate::value::number::{double_text, format_g17};
use crate::value::zset::ZSet;

/// `ZSCAN key cursor [MATCH pattern] [COUNT count]`
pub(super) fn zscan(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args.at(2))?;
    // As in Redis the options are not looked at when there is no such key.
    let Some(set) = ctx.db.read::<ZSet>(args.at(1))? else {
        reply_nothing(&mut ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(args, 3, Allowed::default())?;
    let big = set.encoding() == "skiplist";
    // The number of elements comes before them and is known only after them.
    let (mut body, mut found) = (Vec::new(), 0);
    let mut reply = Reply::new(&mut body, ctx.reply.is_resp3());
    let next = set.scan(cursor, options.count, |member, score| {
        if !options.matches(member) {
            return;
        }
        found += 1;
        reply.item(member);
        // Redis prints the doubles of its skiplist in full, and a listpack's text as it is.
        if big {
            reply.bulk(format_g17(score).as_bytes());
        } else {
            reply.bulk(double_text(score).as_bytes());
        }
    });
    ctx.reply.array(2);
    ctx.reply.bulk_int(next as i64);
    ctx.reply.array(2 * found);
    ctx.reply.raw(&body);
    Ok(())
}
