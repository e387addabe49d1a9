//! CONFIG.

use crate::command::dispatch::Deferred;
use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::config::option::flag as option_flag;
use crate::config::settings::find;
use crate::config::{SetContext, Settings, os_error_text, rewrite, sanitize};
use crate::keyspace::KeyspaceStats;
use crate::memory::oom_score;
use crate::server::Server;
use std::path::Path;

const FLAGS: u32 = flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE;

/// CONFIG and its subcommands.
pub const CONFIG: Spec = Spec::new("config", -2, 0, help)
    .group(Group::Server)
    .doc("2.0.0", "A container for server configuration commands.")
    .sub(&[
        Spec::new("config|get", -3, FLAGS, get)
            .group(Group::Server)
            .doc(
                "2.0.0",
                "Returns the effective values of configuration parameters.",
            ),
        Spec::new("config|set", -4, FLAGS, set)
            .group(Group::Server)
            .doc("2.0.0", "Sets configuration parameters in-flight."),
        Spec::new("config|rewrite", 2, FLAGS, rewrite_file)
            .group(Group::Server)
            .doc("2.8.0", "Persists the effective configuration to file."),
        Spec::new("config|resetstat", 2, FLAGS, reset_statistics)
            .group(Group::Server)
            .doc("2.0.0", "Resets the server's statistics."),
        Spec::new("config|help", 2, flag::LOADING | flag::STALE, help)
            .group(Group::Server)
            .doc(
                "5.0.0",
                "Returns helpful text about the different subcommands.",
            ),
    ]);

fn get(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let found = ctx.config.settings.matching(args.from(2));
    ctx.reply.map(found.len());
    for (name, value) in found {
        ctx.reply.bulk(&name);
        ctx.reply.bulk(&value);
    }
    Ok(())
}

fn set(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let words = args.from(2);
    if !words.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = words
        .chunks_exact(2)
        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
        .collect();
    let context = SetContext {
        loading: ctx.server.loading.is_active(),
        local_client: is_local(&ctx.client.addr),
    };
    // What asks a companion must not hold the keyspace, nor wait for one that does; nor what opens the
    // tier, nor what reads files.
    let opens_tier = ctx.config.asks_for_tiering() && !ctx.server.memory.has_tier();
    let slow = pairs.iter().any(|(name, _)| {
        name.eq_ignore_ascii_case(b"appendonly")
            || (opens_tier && name.eq_ignore_ascii_case(b"maxmemory"))
            || name.to_ascii_lowercase().starts_with(b"tls-")
    });
    if slow || ctx.server.config_change.is_locked() {
        let enables = |(name, value): &(&[u8], &[u8])| {
            name.eq_ignore_ascii_case(b"appendonly") && value.eq_ignore_ascii_case(b"yes")
        };
        if ctx.client.deny_blocking && pairs.iter().any(enables) {
            tracing::info!("AOF enabled in a transaction. An AOF background was scheduled.");
        }
        return set_later(ctx, &pairs, context);
    }
    change(ctx.server, &pairs, context)?;
    // Part of the keyspace, which this command holds: a hook could not take it.
    ctx.db.keyspace().configure(&ctx.server.config().memory);
    ctx.reply.ok();
    Ok(())
}

/// As [`set`], on a thread that may wait.
fn set_later(
    ctx: &mut Context<'_>,
    pairs: &[(&[u8], &[u8])],
    context: SetContext,
) -> CommandResult {
    let server = ctx.server.handle()?;
    let owned: Vec<(Vec<u8>, Vec<u8>)> = pairs
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    let resp3 = ctx.client.resp3;
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        let work = tokio::task::spawn_blocking(move || {
            let pairs: Vec<(&[u8], &[u8])> = owned
                .iter()
                .map(|(name, value)| (&name[..], &value[..]))
                .collect();
            change(&server, &pairs, context)?;
            let config = server.config();
            server.keyspace.lock().configure(&config.memory);
            Ok::<(), CommandError>(())
        });
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, resp3);
        match work.await {
            Ok(Ok(())) => reply.ok(),
            Ok(Err(error)) => reply.error(&error.resp()),
            Err(_) => reply.error(b"ERR CONFIG SET was interrupted"),
        }
        out
    })));
    Ok(())
}

/// Whether a peer address is on this machine: loopback, or no TCP address at all (a Unix socket).
fn is_local(address: &str) -> bool {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => true,
    }
}

/// Brings changes in force, all or none.
pub fn change(
    server: &Server,
    pairs: &[(&[u8], &[u8])],
    context: SetContext,
) -> Result<(), CommandError> {
    let failed = |(name, why): (&'static str, String)| {
        CommandError::text(format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
        ))
    };
    // One change at a time: each starts from what the one before left.
    let _guard = server.config_change.lock();
    let old = server.config();
    let settings = old.settings.with_changes(pairs, context)?;
    let mut changed = old.settings.differences(&settings);
    for (name, _) in pairs {
        if let Some((index, _)) = find(name).filter(|(_, option)| option.has(option_flag::VOLATILE))
        {
            changed.insert(index);
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let new = old.with(settings, changed);
    let notices = sanitize::check_change(&old, &new).map_err(failed)?;
    server
        .config_hooks
        .read()
        .apply(&changed, &old, &new)
        .map_err(failed)?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    server.set_config(new, &changed);
    Ok(())
}

/// Records a change that a command made at runtime to an option that CONFIG SET can't change
/// (REPLICAOF and `replicaof`), so that CONFIG GET and REWRITE know of it. No hook is called,
/// but the score that the kernel goes by follows the role.
pub fn record(server: &Server, name: &str, words: &[&[u8]]) -> Result<(), CommandError> {
    let _guard = server.config_change.lock();
    let old = server.config();
    let mut settings = Settings::clone(&old.settings);
    let (index, _) =
        find(name.as_bytes()).ok_or(CommandError::fixed("ERR no such configuration option"))?;
    settings
        .set(index, words, false)
        .map_err(|why| CommandError::text(format!("ERR {why}")))?;
    let changed = old.settings.differences(&settings);
    let new = old.with(settings, changed);
    if let Err(error) = oom_score::apply(&new) {
        tracing::warn!(%error, "oom-score-adj not set");
    }
    server.set_config(new, &changed);
    Ok(())
}

/// The file is written and synced outside the locks, with what is in force by then: in a
/// transaction REPLICAOF may come before it.
fn rewrite_file(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    rewrite_with(ctx, false)
}

/// CONFIG REWRITE; with `everything` what has its default is written too.
pub(super) fn rewrite_with(ctx: &mut Context<'_>, everything: bool) -> CommandResult {
    let Some(path) = ctx.config.file.clone() else {
        return Err(CommandError::fixed(
            "ERR The server is running without a config file",
        ));
    };
    let server = ctx.server.handle()?;
    let resp3 = ctx.client.resp3;
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        let work =
            tokio::task::spawn_blocking(move || rewrite_now(&path, &server, everything)).await;
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, resp3);
        match work {
            Ok(Ok(())) => reply.ok(),
            Ok(Err(error)) => reply.error(&error.resp()),
            Err(_) => reply.error(b"ERR Rewriting config file: interrupted"),
        }
        out
    })));
    Ok(())
}

fn rewrite_now(path: &Path, server: &Server, everything: bool) -> CommandResult {
    let config = server.config();
    let users = server.user_lines(&config);
    match rewrite::rewrite_file(path, &config.settings, &users, everything) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            Ok(())
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "CONFIG REWRITE failed");
            let why = os_error_text(&error);
            Err(CommandError::text(format!(
                "ERR Rewriting config file: {why}"
            )))
        }
    }
}

fn reset_statistics(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.server.stats.reset();
    ctx.server.expiry.reset();
    ctx.server.reclaimer.reset();
    ctx.db.keyspace().stats = KeyspaceStats::default();
    ctx.reply.ok();
    Ok(())
}

fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    const LINES: [&str; 11] = [
        "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET <pattern>",
        "    Return parameters matching the glob-like <pattern> and their values.",
        "SET <directive> <value>",
        "    Set the configuration <directive> to <value>.",
        "RESETSTAT",
        "    Reset statistics reported by the INFO command.",
        "REWRITE",
        "    Rewrite the configuration file.",
        "HELP",
        "    Prints this help.",
    ];
    ctx.reply.array(LINES.len());
    for line in LINES {
        ctx.reply.simple(line);
    }
    Ok(())
}
