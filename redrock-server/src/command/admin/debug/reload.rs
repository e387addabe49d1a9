//! DEBUG RELOAD, LOADAOF: the data set through its files and back, while all other clients wait.

use super::super::persistence::later;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::start::reload::RdbReload;

/// DEBUG RELOAD [NOSAVE | NOFLUSH | MERGE ...]
pub(super) fn reload(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let mut save = true;
    let mut how = RdbReload {
        flush: true,
        merge: false,
    };
    for word in args.from(2) {
        match word.to_ascii_lowercase().as_slice() {
            b"merge" => how.merge = true,
            b"noflush" => how.flush = false,
            b"nosave" => save = false,
            _ => {
                return Err(CommandError::fixed(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    // Of a transaction it is done last, which is the same as long as what is saved is what is
    // loaded.
    if !(save && how.flush) {
        refuse_inside_transaction(ctx)?;
    }
    let services = ctx.server.services()?.clone();
    later(ctx, services.reload(save, how))
}

/// DEBUG LOADAOF
pub(super) fn load_append_only(ctx: &mut Context<'_>) -> CommandResult {
    refuse_inside_transaction(ctx)?;
    let services = ctx.server.services()?.clone();
    later(ctx, services.load_append_only())
}

/// The load runs outside the locks that EXEC holds.
fn refuse_inside_transaction(ctx: &Context<'_>) -> CommandResult {
    if ctx.client.deny_blocking {
        return Err(CommandError::fixed(
            "ERR DEBUG RELOAD of another data set and LOADAOF are not possible inside a transaction",
        ));
    }
    Ok(())
}
