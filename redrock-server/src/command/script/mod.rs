//! Scripts: EVAL and its like, SCRIPT, FUNCTION.

mod eval;
mod function;
mod manage;

pub use eval::NO_SCRIPT;

use super::table::{Group, Handler, KeySpec, Spec, acl, flag};

const RUNS: u32 =
    flag::SCRIPT | flag::NOSCRIPT | flag::SKIP_MONITOR | flag::NO_MANDATORY_KEYS | flag::STALE;
const WRITES: u32 = RUNS | flag::MAY_REPLICATE;
const READS: u32 = RUNS | flag::READONLY;

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler).group(Group::Scripting)
}

/// A command that runs code: its keys follow their number.
const fn runs(name: &'static str, flags: u32, handler: Handler) -> Spec {
    spec(name, -3, flags, handler)
        .acl(acl::SCRIPTING)
        .keys(KeySpec::Counted {
            count_at: 2,
            also: 0,
        })
}

const fn sub(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    spec(name, arity, flags, handler).acl(acl::SCRIPTING)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    runs("eval", WRITES, eval::eval).doc("2.6.0", "Executes a server-side Lua script."),
    runs("eval_ro", READS, eval::eval_ro)
        .doc("7.0.0", "Executes a read-only server-side Lua script."),
    runs("evalsha", WRITES, eval::evalsha)
        .doc("2.6.0", "Executes a server-side Lua script by SHA1 digest."),
    runs("evalsha_ro", READS, eval::evalsha_ro).doc(
        "7.0.0",
        "Executes a read-only server-side Lua script by SHA1 digest.",
    ),
    runs("fcall", WRITES, eval::fcall).doc("7.0.0", "Invokes a function."),
    runs("fcall_ro", READS, eval::fcall_ro).doc("7.0.0", "Invokes a read-only function."),
    spec("function", -2, 0, function::help)
        .doc("7.0.0", "A container for function commands.")
        .sub(FUNCTION),
    spec("script", -2, 0, manage::help)
        .doc("2.6.0", "A container for Lua scripts management commands.")
        .sub(SCRIPT),
];

const CHANGES: u32 = flag::NOSCRIPT | flag::WRITE;

const FUNCTION: &[Spec] = &[
    sub("function|delete", 3, CHANGES, function::delete)
        .doc("7.0.0", "Deletes a library and its functions."),
    sub("function|dump", 2, flag::NOSCRIPT, function::dump).doc(
        "7.0.0",
        "Dumps all libraries into a serialized binary payload.",
    ),
    sub("function|flush", -2, CHANGES, function::flush)
        .doc("7.0.0", "Deletes all libraries and functions."),
    sub(
        "function|help",
        2,
        flag::LOADING | flag::STALE,
        function::help,
    )
    .doc(
        "7.0.0",
        "Returns helpful text about the different subcommands.",
    ),
    sub(
        "function|kill",
        2,
        flag::NOSCRIPT | flag::ALLOW_BUSY,
        function::kill,
    )
    .doc("7.0.0", "Terminates a function during execution."),
    sub("function|list", -2, flag::NOSCRIPT, function::list)
        .doc("7.0.0", "Returns information about all libraries."),
    sub("function|load", -3, CHANGES | flag::DENYOOM, function::load)
        .doc("7.0.0", "Creates a library."),
    sub(
        "function|restore",
        -3,
        CHANGES | flag::DENYOOM,
        function::restore,
    )
    .doc("7.0.0", "Restores all libraries from a payload."),
    sub(
        "function|stats",
        2,
        flag::NOSCRIPT | flag::ALLOW_BUSY,
        function::stats,
    )
    .doc(
        "7.0.0",
        "Returns information about a function during execution.",
    ),
];

const SCRIPT: &[Spec] = &[
    sub("script|debug", 3, flag::NOSCRIPT, manage::debug)
        .doc("3.2.0", "Sets the debug mode of server-side Lua scripts."),
    sub("script|exists", -3, flag::NOSCRIPT, manage::exists).doc(
        "2.6.0",
        "Determines whether server-side Lua scripts exist in the script cache.",
    ),
    sub("script|flush", -2, flag::NOSCRIPT, manage::flush).doc(
        "2.6.0",
        "Removes all server-side Lua scripts from the script cache.",
    ),
    sub("script|help", 2, flag::LOADING | flag::STALE, manage::help).doc(
        "5.0.0",
        "Returns helpful text about the different subcommands.",
    ),
    sub(
        "script|kill",
        2,
        flag::NOSCRIPT | flag::ALLOW_BUSY,
        manage::kill,
    )
    .doc(
        "2.6.0",
        "Terminates a server-side Lua script during execution.",
    ),
    sub("script|load", 3, flag::NOSCRIPT | flag::STALE, manage::load).doc(
        "2.6.0",
        "Loads a server-side Lua script to the script cache.",
    ),
];
