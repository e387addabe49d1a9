//! What can refuse a script before it runs (`scriptPrepareForRun` in Redis).

use super::flags::Flags;
use super::run::Run;
use crate::command::Context;
use crate::command::error::{CommandError, CommandResult};

const STALE: &str = "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' \
                     and 'allow-stale' flag is not set on the script.";
const STALE_COMPATIBLE: &str =
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
const READ_ONLY: &str = "READONLY Can not run script with write flag on readonly replica";
const SAVE_FAILED: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently \
                           unable to persist to disk. Writable scripts are blocked. Use 'no-writes' \
                           flag for read only scripts.";
const LOG_FAILED: &str = "MISCONF Redis is configured to persist data to AOF, but it's currently \
                          unable to persist to disk. Writable scripts are blocked. Use 'no-writes' \
                          flag for read only scripts. AOF error: ";
const WRITES_IN_READ_ONLY: &str =
    "ERR Can not execute a script with write flag using *_ro command.";
const OUT_OF_MEMORY: &str = "OOM allow-oom flag is not set on the script, can not run it when used \
                             memory > 'maxmemory'";

/// Checks that a script with these flags may run; `read_only`: by EVAL_RO and its like.
pub fn check(context: &Context<'_>, flags: Flags, read_only: bool) -> CommandResult {
    let server = context.server;
    // What a master or the log has run runs here.
    let obeyed = context.client.obeyed;
    let is_stale = server.is_stale() && !obeyed;
    if flags.has(Flags::COMPATIBLE) {
        return match is_stale {
            true => Err(CommandError::fixed(STALE_COMPATIBLE)),
            false => Ok(()),
        };
    }
    if is_stale && !flags.has(Flags::ALLOW_STALE) {
        return Err(CommandError::fixed(STALE));
    }
    if !flags.has(Flags::NO_WRITES) {
        if server.is_read_only() && !obeyed {
            return Err(CommandError::fixed(READ_ONLY));
        }
        if !obeyed {
            if server.has_failed_save() {
                return Err(CommandError::fixed(SAVE_FAILED));
            }
            if server.log.refuses_writes()
                && let Some(why) = server.log.health().text()
            {
                return Err(CommandError::text(format!("{LOG_FAILED}{why}")));
            }
            if server.lacks_log() {
                return Err(CommandError::text(format!("{LOG_FAILED}it is off")));
            }
        }
        if read_only {
            return Err(CommandError::fixed(WRITES_IN_READ_ONLY));
        }
        if let Some(error) = server.few_replicas_error().filter(|_| !obeyed) {
            return Err(error);
        }
    }
    let any_memory = flags.has(Flags::ALLOW_OOM.with(Flags::NO_WRITES));
    if context.client.out_of_memory && !any_memory {
        return Err(CommandError::fixed(OUT_OF_MEMORY));
    }
    Ok(())
}

/// What a script with these flags may do.
pub fn allow(run: &mut Run, flags: Flags, read_only: bool) {
    let says = !flags.has(Flags::COMPATIBLE);
    run.allowed.read_only = read_only || (says && flags.has(Flags::NO_WRITES));
    run.allowed.any_memory = says && flags.has(Flags::ALLOW_OOM);
}
