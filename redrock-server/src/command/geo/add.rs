//! GEOADD: a ZADD of scores made from places, and propagated as such.

use super::place;
use crate::command::{Args, CommandError, CommandResult, Context, zset};

/// `GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]`
pub(super) fn geoadd(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (mut only_new, mut only_present, mut first) = (false, false, 2);
    while first < args.len() {
        if args.is(first, "nx") {
            only_new = true;
        } else if args.is(first, "xx") {
            only_present = true;
        } else if !args.is(first, "ch") {
            break;
        }
        first += 1;
    }
    if !(args.len() - first).is_multiple_of(3) || (only_new && only_present) {
        return Err(CommandError::Syntax);
    }
    let mut scored = Vec::new();
    for at in (first..args.len()).step_by(3) {
        scored.push((place(args, at)?.score().to_string(), args.at(at + 2)));
    }
    let mut words: Vec<&[u8]> = vec![b"zadd"];
    words.extend(args.all().get(1..first).unwrap_or_default());
    for (score, member) in &scored {
        words.extend([score.as_bytes(), member]);
    }
    let before = ctx.db.effect.dirty;
    zset::zadd(ctx, &Args::new(&words))?;
    if ctx.db.effect.dirty > before {
        ctx.propagate(&words);
    }
    Ok(())
}
