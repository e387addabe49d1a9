//! PFDEBUG and PFSELFTEST.

use super::{make_raw, peek};
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::value::hyperloglog::{self, Encoding, REGISTERS};

/// `PFDEBUG subcommand key`
pub(super) fn pfdebug(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (subcommand, key) = (args.at(1), args.at(2));
    let Some((_, encoding)) = peek(&mut ctx.db, key)? else {
        return Err(CommandError::fixed("ERR The specified key does not exist"));
    };
    make_raw(&mut ctx.db, key)?;
    if is_word(subcommand, "getreg") {
        make_dense(ctx, key, encoding)?;
        ctx.reply.array(REGISTERS);
        if let Some((bytes, _)) = peek(&mut ctx.db, key)? {
            hyperloglog::registers(bytes).for_each(|value| ctx.reply.int(value.into()));
        }
    } else if is_word(subcommand, "decode") {
        if encoding != Encoding::Sparse {
            return Err(CommandError::fixed("ERR HLL encoding is not sparse"));
        }
        if let Some((bytes, _)) = peek(&mut ctx.db, key)? {
            let text = hyperloglog::describe_runs(bytes);
            ctx.reply.bulk(text.as_bytes());
        }
    } else if is_word(subcommand, "encoding") {
        ctx.reply.simple(match encoding {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        });
    } else if is_word(subcommand, "todense") {
        make_dense(ctx, key, encoding)?;
        ctx.reply.int(i64::from(encoding == Encoding::Sparse));
    } else {
        let shown = subcommand.split(|byte| *byte == 0).next();
        let text = [
            b"ERR Unknown PFDEBUG subcommand '",
            shown.unwrap_or_default(),
            b"'",
        ];
        return Err(CommandError::Bytes(text.concat()));
    }
    Ok(())
}

/// A change that is propagated, but as in Redis no event.
fn make_dense(ctx: &mut Context<'_>, key: &[u8], encoding: Encoding) -> CommandResult {
    if encoding == Encoding::Sparse {
        let bytes = ctx.db.string_mut(key)?;
        let before = bytes.len();
        hyperloglog::make_dense(bytes)?;
        let growth = bytes.len().saturating_sub(before);
        ctx.server.charge(growth as u64);
        ctx.db.effect.dirty += 1;
    }
    Ok(())
}

/// `PFSELFTEST`
pub(super) fn pfselftest(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    hyperloglog::self_test(rand::random(), ctx.config.streams.hll_sparse_bytes_max)
        .map_err(|failure| CommandError::text(format!("ERR {failure}")))?;
    ctx.reply.ok();
    Ok(())
}
