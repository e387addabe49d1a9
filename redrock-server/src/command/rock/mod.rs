//! Commands of the disk tier, known from the 2022 RedRock: moving values out by hand, and looking
//! at where they are. See `docs/commands-rock.md`. All work goes on outside the locks, a few
//! values at a lock hold, so that other clients are served meanwhile.

mod evict;
mod report;

use super::dispatch::Deferred;
use super::table::{Group, KeySpec, Spec, flag};
use super::{CommandError, CommandResult, Context, Reply};

const FLAGS: u32 = flag::ADMIN | flag::NOSCRIPT | flag::NO_MULTI;

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    Spec::new("rockevict", -2, FLAGS, evict::keys)
        .group(Group::Server)
        .keys(KeySpec::Range {
            first: 1,
            last: -1,
            step: 1,
        })
        .presence()
        .doc("7.2.0", "Moves the values of keys to disk now."),
    Spec::new("rockevicthash", -3, FLAGS, evict::hash_fields)
        .group(Group::Server)
        .keys(KeySpec::ONE)
        .presence()
        .doc(
            "7.2.0",
            "Moves a hash to disk now and tells which fields it has.",
        ),
    Spec::new("rockstat", 1, FLAGS, report::statistics)
        .group(Group::Server)
        .doc("7.2.0", "Returns statistics of the disk tier."),
    Spec::new("rockall", 1, FLAGS, evict::all)
        .group(Group::Server)
        .doc("7.2.0", "Moves all values to disk now."),
    Spec::new("rockmem", -2, FLAGS, evict::memory)
        .group(Group::Server)
        .doc(
            "7.2.0",
            "Moves values to disk until so many bytes of memory are free.",
        ),
    Spec::new("purgerocksdb", 1, FLAGS, report::purge)
        .group(Group::Server)
        .doc(
            "7.2.0",
            "Drops what is obsolete from the disk tier's files.",
        ),
    Spec::new("rock", -2, 0, report::help)
        .group(Group::Server)
        .doc("7.2.0", "A container for disk tier commands.")
        .sub(&[
            Spec::new("rock|report", 2, FLAGS, report::report)
                .group(Group::Server)
                .doc("7.2.0", "Returns the share of keys whose value is on disk."),
            Spec::new("rock|help", 2, flag::LOADING | flag::STALE, report::help)
                .group(Group::Server)
                .doc(
                    "7.2.0",
                    "Returns helpful text about the different subcommands.",
                ),
        ]),
];

/// Refused while there is no tier.
fn require_tier(ctx: &mut Context<'_>) -> CommandResult {
    const OFF: &str = "ERR the disk tier is off: it needs maxmemory and enable-rocksdb-feature yes";
    match ctx.db.keyspace().tiering.is_some() {
        true => Ok(()),
        false => Err(CommandError::fixed(OFF)),
    }
}

/// The reply is written when `work` has ended.
fn later<T: Send + 'static>(
    ctx: &mut Context<'_>,
    work: impl Future<Output = T> + Send + 'static,
    write: impl FnOnce(&mut Reply<'_>, T) + Send + 'static,
) -> CommandResult {
    let resp3 = ctx.client.resp3;
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        let result = work.await;
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, resp3), result);
        out
    })));
    Ok(())
}
