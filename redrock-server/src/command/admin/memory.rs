//! MEMORY.

use crate::command::table::{Group, KeySpec, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::info::MemoryFacts;
use crate::memory::stats as allocator;

/// MEMORY and its subcommands.
pub(super) const MEMORY: Spec = Spec::new("memory", -2, 0, help)
    .group(Group::Server)
    .doc("4.0.0", "A container for memory diagnostics commands.")
    .sub(&[
        Spec::new("memory|doctor", 2, 0, doctor)
            .group(Group::Server)
            .doc("4.0.0", "Outputs a memory problems report."),
        Spec::new("memory|help", 2, flag::LOADING | flag::STALE, help)
            .group(Group::Server)
            .doc(
                "4.0.0",
                "Returns helpful text about the different subcommands.",
            ),
        Spec::new("memory|malloc-stats", 2, 0, malloc_stats)
            .group(Group::Server)
            .doc("4.0.0", "Returns the allocator statistics."),
        Spec::new("memory|purge", 2, 0, purge)
            .group(Group::Server)
            .doc("4.0.0", "Asks the allocator to release memory."),
        Spec::new("memory|stats", 2, 0, stats)
            .group(Group::Server)
            .doc("4.0.0", "Returns details about memory usage."),
        Spec::new("memory|usage", -3, flag::READONLY, usage)
            .keys(KeySpec::Range {
                first: 2,
                last: 2,
                step: 1,
            })
            .group(Group::Server)
            .doc("4.0.0", "Estimates the memory usage of a key."),
    ]);

fn usage(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let mut i = 3;
    while i < args.len() {
        // The estimate samples by itself; the option is checked and has no other effect.
        if !args.is(i, "samples") || i + 1 >= args.len() {
            return Err(CommandError::Syntax);
        }
        if args.int(i + 1)? < 0 {
            return Err(CommandError::Syntax);
        }
        i += 2;
    }
    match ctx.db.memory_bytes(args.at(2))? {
        Some(bytes) => ctx.reply.len_int(bytes),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn stats(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let facts = MemoryFacts::new(ctx.server, ctx.db.keyspace());
    let integers = |ctx: &mut Context<'_>, fields: &[(&str, i64)]| {
        for (name, value) in fields {
            ctx.reply.bulk(name.as_bytes());
            ctx.reply.int(*value);
        }
    };
    let buffer = ctx.server.log.unwritten_bytes() as i64;
    let scripting = &ctx.server.scripting;
    let libraries = scripting.libraries.read();
    ctx.reply.map(27 + facts.databases.len());
    integers(
        ctx,
        &[
            ("peak.allocated", facts.peak as i64),
            ("total.allocated", facts.used as i64),
            ("startup.allocated", facts.startup as i64),
            ("replication.backlog", 0),
            ("clients.slaves", 0),
            ("clients.normal", facts.clients as i64),
            ("cluster.links", 0),
            ("aof.buffer", buffer),
            ("lua.caches", scripting.cache.memory_bytes() as i64),
            ("functions.caches", libraries.memory_bytes() as i64),
        ],
    );
    for database in &facts.databases {
        ctx.reply.bulk(format!("db.{}", database.index).as_bytes());
        ctx.reply.map(3);
        integers(
            ctx,
            &[
                ("overhead.hashtable.main", database.table_bytes as i64),
                ("overhead.hashtable.expires", 0),
                ("overhead.hashtable.slot-to-keys", 0),
            ],
        );
    }
    integers(
        ctx,
        &[
            ("overhead.total", facts.overhead as i64),
            ("keys.count", facts.keys as i64),
            ("keys.bytes-per-key", facts.bytes_per_key() as i64),
            ("dataset.bytes", facts.dataset() as i64),
        ],
    );
    for (name, value) in [
        ("dataset.percentage", facts.dataset_percent()),
        ("peak.percentage", facts.peak_percent()),
    ] {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.double(value);
    }
    integers(
        ctx,
        &[
            ("allocator.allocated", facts.used as i64),
            ("allocator.active", facts.active as i64),
            ("allocator.resident", facts.resident as i64),
        ],
    );
    for (ratio_name, bytes_name, (ratio, bytes)) in [
        (
            "allocator-fragmentation.ratio",
            "allocator-fragmentation.bytes",
            MemoryFacts::excess(facts.active, facts.used),
        ),
        (
            "allocator-rss.ratio",
            "allocator-rss.bytes",
            MemoryFacts::excess(facts.resident, facts.active),
        ),
        (
            "rss-overhead.ratio",
            "rss-overhead.bytes",
            MemoryFacts::excess(facts.process, facts.resident),
        ),
        (
            "fragmentation",
            "fragmentation.bytes",
            MemoryFacts::excess(facts.process, facts.used),
        ),
    ] {
        ctx.reply.bulk(ratio_name.as_bytes());
        ctx.reply.double(ratio);
        integers(ctx, &[(bytes_name, bytes)]);
    }
    Ok(())
}

fn doctor(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let facts = MemoryFacts::new(ctx.server, ctx.db.keyspace());
    let clients = ctx.server.clients.read().len().max(1);
    ctx.reply
        .verbatim(report(&facts, clients).as_bytes(), "txt");
    Ok(())
}

/// What is unusual about the memory, by Redis's thresholds.
fn report(facts: &MemoryFacts, clients: usize) -> String {
    const MANY_BYTES: i64 = 10 << 20;
    if facts.used < 5 << 20 {
        return "Hi Sam, this instance is empty or is using very little memory, my issues detector \
                can't be used in these conditions. Please, leave for your mission on Earth and \
                fill it with some data. The new Sam and I will be back to our programming as soon \
                as I finished rebooting.\n"
            .into();
    }
    let above = |(ratio, bytes): (f64, i64), limit: f64| ratio > limit && bytes > MANY_BYTES;
    let issues = [
        (
            facts.peak as f64 / facts.used as f64 > 1.5,
            "Peak memory: In the past this instance used more than 150% the memory that is \
             currently using. If it was only occasional, MEMORY PURGE may give memory back.",
        ),
        (
            above(MemoryFacts::excess(facts.process, facts.used), 1.4),
            "High total RSS: This instance has a memory fragmentation and RSS overhead greater \
             than 1.4.",
        ),
        (
            above(MemoryFacts::excess(facts.active, facts.used), 1.1),
            "High allocator fragmentation: This instance has an allocator external fragmentation \
             greater than 1.1.",
        ),
        (
            above(MemoryFacts::excess(facts.resident, facts.active), 1.1),
            "High allocator RSS overhead: The allocator holds more memory than it uses; MEMORY \
             PURGE gives it back.",
        ),
        (
            above(MemoryFacts::excess(facts.process, facts.resident), 1.1),
            "High process RSS overhead: This instance has non-allocator RSS memory overhead \
             greater than 1.1.",
        ),
        (
            facts.clients / clients > 200 << 10,
            "Big client buffers: The clients of this instance use more than 200K each on average. \
             See CLIENT LIST.",
        ),
    ];
    let found: Vec<&str> = issues
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, text)| *text)
        .collect();
    if found.is_empty() {
        return "Hi Sam, I can't find any memory issue in your instance. I can only account for \
                what occurs on this base.\n"
            .into();
    }
    let mut text =
        "Sam, I detected a few issues in this Redis instance memory implants:\n\n".to_owned();
    for issue in found {
        text.push_str(&format!(" * {issue}\n\n"));
    }
    text.push_str("I'm here to keep you safe, Sam. I want to help you.\n");
    text
}

fn purge(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    if !allocator::purge() {
        return Err(CommandError::fixed("ERR Error purging dirty pages"));
    }
    ctx.reply.ok();
    Ok(())
}

fn malloc_stats(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.verbatim(&allocator::report(), "txt");
    Ok(())
}

fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(
        ctx,
        "MEMORY",
        &[
            "DOCTOR",
            "    Return memory problems reports.",
            "MALLOC-STATS",
            "    Return internal statistics report from the memory allocator.",
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    )
}
