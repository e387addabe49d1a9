//! FUNCTION: loading, listing and moving libraries.

use crate::command::admin::{help as show_help, unknown_form};
use crate::command::keys::dump_target;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::script::function::library::{Function, Library};
use crate::script::function::{LOAD_WAIT, RestorePolicy};
use crate::script::{BUSY_SCRIPT, flags::Flags};
use crate::value::glob;
use redrock_rdb::functions;

/// `FUNCTION LOAD [REPLACE] code`
pub(super) fn load(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (code, options) = match args.from(2).split_last() {
        Some((code, options)) => (*code, options),
        None => return Err(CommandError::fixed("ERR Function code is missing")),
    };
    for option in options {
        if !option.eq_ignore_ascii_case(b"replace") {
            let text = [b"ERR Unknown option given: ", *option].concat();
            return Err(CommandError::Bytes(text));
        }
    }
    // What a master or the log says was loaded once already.
    let wait = (!ctx.client.obeyed).then_some(LOAD_WAIT);
    let scripting = &ctx.server.scripting;
    let name = scripting.load_library(ctx.config, code, !options.is_empty(), wait)?;
    ctx.db.effect.dirty += 1;
    ctx.reply.bulk(&name);
    Ok(())
}

/// `FUNCTION DELETE name`
pub(super) fn delete(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if !ctx.server.scripting.delete_library(args.at(2)) {
        return Err(CommandError::fixed("ERR Library not found"));
    }
    ctx.db.effect.dirty += 1;
    ctx.reply.ok();
    Ok(())
}

/// `FUNCTION FLUSH [ASYNC | SYNC]`
pub(super) fn flush(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let later = match args.len() {
        2 => true,
        3 if args.is(2, "async") => true,
        3 if args.is(2, "sync") => false,
        3 => {
            return Err(CommandError::fixed(
                "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
            ));
        }
        _ => return Err(unknown_form("FUNCTION", args)),
    };
    ctx.server.scripting.flush_libraries(later);
    ctx.db.effect.dirty += 1;
    ctx.reply.ok();
    Ok(())
}

/// `FUNCTION DUMP`
pub(super) fn dump(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let sources = ctx.server.scripting.libraries.read().sources();
    let sources = sources.iter().map(AsRef::as_ref);
    let payload = functions::dump(sources, dump_target(ctx.config))
        .map_err(|error| CommandError::text(format!("ERR {error}")))?;
    ctx.reply.bulk(&payload);
    Ok(())
}

/// `FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE]`
pub(super) fn restore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let policy = match args.len() {
        3 => RestorePolicy::Append,
        4 if args.is(3, "append") => RestorePolicy::Append,
        4 if args.is(3, "replace") => RestorePolicy::Replace,
        4 if args.is(3, "flush") => RestorePolicy::Flush,
        4 => {
            return Err(CommandError::fixed(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => return Err(unknown_form("FUNCTION", args)),
    };
    let sources = functions::restore(args.at(2))
        .map_err(|error| CommandError::text(format!("ERR {error}")))?;
    let scripting = &ctx.server.scripting;
    scripting.restore_libraries(ctx.config, &sources, policy)?;
    ctx.db.effect.dirty += 1;
    ctx.reply.ok();
    Ok(())
}

/// `FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]`
pub(super) fn list(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut rest = args.from(2).iter();
    while let Some(word) = rest.next() {
        if !with_code && word.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
            let given = rest.next().ok_or(CommandError::fixed(
                "ERR library name argument was not given",
            ))?;
            pattern = Some(*given);
        } else {
            let text = [b"ERR Unknown argument ", *word].concat();
            return Err(CommandError::Bytes(text));
        }
    }
    let libraries = ctx.server.scripting.libraries.read();
    let wanted = |library: &&Library| {
        pattern.is_none_or(|pattern| glob::matches(pattern, &library.name, true))
    };
    let found: Vec<&Library> = libraries.iter().filter(wanted).collect();
    ctx.reply.array(found.len());
    for library in found {
        ctx.reply.map(if with_code { 4 } else { 3 });
        ctx.reply.bulk(b"library_name");
        ctx.reply.bulk(&library.name);
        ctx.reply.bulk(b"engine");
        ctx.reply.bulk(b"LUA");
        ctx.reply.bulk(b"functions");
        ctx.reply.array(library.functions.len());
        for function in &library.functions {
            describe(ctx, function);
        }
        if with_code {
            ctx.reply.bulk(b"library_code");
            ctx.reply.bulk(&library.source);
        }
    }
    Ok(())
}

fn describe(ctx: &mut Context<'_>, function: &Function) {
    ctx.reply.map(3);
    ctx.reply.bulk(b"name");
    ctx.reply.bulk(&function.name);
    ctx.reply.bulk(b"description");
    ctx.reply.opt_bulk(function.description.as_deref());
    ctx.reply.bulk(b"flags");
    let flags: Flags = function.flags;
    ctx.reply.set(flags.names().count());
    for name in flags.names() {
        ctx.reply.simple(name);
    }
}

/// `FUNCTION STATS`
pub(super) fn stats(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let scripting = &ctx.server.scripting;
    let busy = scripting.busy();
    if busy.as_ref().is_some_and(|busy| busy.is_eval) {
        return Err(CommandError::fixed(BUSY_SCRIPT));
    }
    ctx.reply.map(2);
    ctx.reply.bulk(b"running_script");
    match busy {
        None => ctx.reply.null(),
        Some(busy) => {
            ctx.reply.map(3);
            ctx.reply.bulk(b"name");
            ctx.reply.bulk(busy.name.as_bytes());
            ctx.reply.bulk(b"command");
            ctx.reply.array(busy.command.len());
            for word in &busy.command {
                ctx.reply.bulk(word);
            }
            ctx.reply.bulk(b"duration_ms");
            ctx.reply.int(busy.since.elapsed().as_millis() as i64);
        }
    }
    ctx.reply.bulk(b"engines");
    ctx.reply.map(1);
    ctx.reply.bulk(b"LUA");
    let libraries = scripting.libraries.read();
    ctx.reply.map(2);
    ctx.reply.bulk(b"libraries_count");
    ctx.reply.len_int(libraries.len());
    ctx.reply.bulk(b"functions_count");
    ctx.reply.len_int(libraries.function_count());
    Ok(())
}

/// `FUNCTION KILL`
pub(super) fn kill(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.server.scripting.kill(false)?;
    ctx.reply.ok();
    Ok(())
}

/// `FUNCTION HELP`
pub(super) fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    show_help(ctx, "FUNCTION", HELP)
}

const HELP: &[&str] = &[
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries:",
    "    * Library name",
    "    * The engine used to run the Library",
    "    * Library description",
    "    * Functions list",
    "    * Library code (if WITHCODE is given)",
    "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
    "STATS",
    "    Return information about the current function running:",
    "    * Function name",
    "    * Command used to run the function",
    "    * Duration in MS that the function is running",
    "    If no function is running, return nil",
    "    In addition, returns a list of available engines.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the libraries.",
    "    * SYNC: Synchronously flush the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
    "    control how to handle existing libraries (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
    "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
    "      libraries with the new libraries (notice that even on this option there is a chance of failure",
    "      in case of functions name collision with another library).",
];
