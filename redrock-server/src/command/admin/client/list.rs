//! CLIENT ID, INFO, LIST: the line that describes a client.

use crate::command::registry;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::net::client::{ClientShared, state_flag};
use crate::tracking::mode;
use std::sync::atomic::Ordering;

/// `normal`, `master`, `replica`, `pubsub`: what CLIENT LIST and KILL tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    Normal,
    Master,
    Replica,
    Pubsub,
}

impl ClientKind {
    /// The kind named by a TYPE filter.
    pub(super) fn parse(name: &[u8]) -> Result<Self, CommandError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"slave" | b"replica" => Ok(Self::Replica),
            b"pubsub" => Ok(Self::Pubsub),
            b"master" => Ok(Self::Master),
            _ => Err(CommandError::Bytes(
                [b"ERR Unknown client type '", name, b"'"].concat(),
            )),
        }
    }

    /// A client's kind.
    pub(super) fn of(client: &ClientShared) -> Self {
        let flags = client.flags.load(Ordering::Relaxed);
        match subscriptions(client) {
            _ if flags & state_flag::REPLICA != 0 => Self::Replica,
            _ if flags & state_flag::MASTER != 0 => Self::Master,
            [0, 0, 0] => Self::Normal,
            _ => Self::Pubsub,
        }
    }
}

fn subscriptions(client: &ClientShared) -> [u32; 3] {
    let [channels, patterns, shard_channels] = &client.subscriptions;
    [channels, patterns, shard_channels].map(|count| count.load(Ordering::Relaxed))
}

fn flags(client: &ClientShared) -> String {
    let flags = client.flags.load(Ordering::Relaxed);
    let is = |flag: u32| flags & flag != 0;
    let modes = client.tracking.load(Ordering::Relaxed);
    let tracks = |bit: u32| modes & bit != 0;
    let letters = [
        (client.monitor.load(Ordering::Relaxed), 'O'),
        (is(state_flag::REPLICA), 'S'),
        (is(state_flag::MASTER), 'M'),
        (ClientKind::of(client) == ClientKind::Pubsub, 'P'),
        (client.queued.load(Ordering::Relaxed) > 0, 'x'),
        (client.blocked.load(Ordering::Relaxed), 'b'),
        (tracks(mode::ON), 't'),
        (tracks(mode::BROKEN), 'R'),
        (tracks(mode::BROADCAST), 'B'),
        (is(state_flag::DIRTY), 'd'),
        (is(state_flag::CLOSING), 'c'),
        (client.kill.load(Ordering::Relaxed), 'A'),
        (is(state_flag::UNIX), 'U'),
        (is(state_flag::NO_EVICT), 'e'),
        (is(state_flag::NO_TOUCH), 'T'),
    ];
    let shown: String = letters
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, letter)| *letter)
        .collect();
    if shown.is_empty() { "N".into() } else { shown }
}

/// Whom a tracked client redirects its invalidations to; 0: nobody, −1: it is not tracked.
pub(super) fn redirect(client: &ClientShared) -> i64 {
    match client.tracking.load(Ordering::Relaxed) & mode::ON {
        0 => -1,
        _ => client.redirect.load(Ordering::Relaxed) as i64,
    }
}

/// One client's line, without the line end.
pub(crate) fn line(client: &ClientShared, now_ms: i64) -> Vec<u8> {
    let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let identity = client.identity.lock().clone();
    let seconds = |then_ms: i64| now_ms.saturating_sub(then_ms).max(0) / 1000;
    let [channels, patterns, shard_channels] = subscriptions(client);
    let command = usize::from(client.last_command.load(Ordering::Relaxed))
        .checked_sub(1)
        .and_then(|index| registry::numbered().get(index))
        .map_or("NULL", |spec| spec.name);
    let waiting = client.waiting_bytes();
    let head = format!(
        "id={} addr={} laddr={} fd={} name=",
        client.id, client.addr, client.laddr, client.fd
    );
    let middle = format!(
        " age={} idle={} flags={} db={} sub={channels} psub={patterns} ssub={shard_channels} \
         multi={} qbuf={} qbuf-free=0 argv-mem={} multi-mem={} rbs=0 rbp=0 obl=0 oll={} omem={waiting} \
         tot-mem={} events={} cmd={command} user=",
        seconds(client.created_ms),
        seconds(client.last_seen_ms.load(Ordering::Relaxed)),
        flags(client),
        client.db.load(Ordering::Relaxed),
        i64::from(client.queued.load(Ordering::Relaxed)) - 1,
        load(&client.unparsed_bytes),
        load(&client.argument_bytes),
        load(&client.queued_bytes),
        u8::from(waiting > 0),
        client.memory_bytes(),
        if waiting > 0 { "rw" } else { "r" },
    );
    let resp = client.resp.load(Ordering::Relaxed);
    let end = format!(" redir={} resp={resp} lib-name=", redirect(client));
    let (lib_name, lib_version) = &identity.lib;
    [
        head.as_bytes(),
        &identity.name,
        middle.as_bytes(),
        &identity.user,
        end.as_bytes(),
        lib_name,
        b" lib-ver=",
        lib_version,
    ]
    .concat()
}

pub(super) fn id(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.int(ctx.client.id() as i64);
    Ok(())
}

pub(super) fn info(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let mut text = line(&ctx.client.shared, ctx.now_ms());
    text.push(b'\n');
    ctx.reply.verbatim(&text, "txt");
    Ok(())
}

pub(super) fn list(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let mut text = Vec::new();
    let mut add = |client: &ClientShared| {
        text.extend_from_slice(&line(client, now_ms));
        text.push(b'\n');
    };
    if args.len() > 3 && args.is(2, "id") {
        for id in args.from(3) {
            let id = redrock_rdb::number::parse_i64(id)
                .ok_or(CommandError::fixed("ERR Invalid client ID"))?;
            let client = u64::try_from(id).ok();
            if let Some(client) = client.and_then(|id| ctx.server.shown_client(id)) {
                add(&client);
            }
        }
    } else {
        let kind = match args.len() {
            2 => None,
            4 if args.is(2, "type") => Some(ClientKind::parse(args.at(3))?),
            _ => return Err(CommandError::Syntax),
        };
        let wanted = |client: &ClientShared| kind.is_none_or(|kind| ClientKind::of(client) == kind);
        let mut clients = ctx.server.shown_clients(wanted);
        clients.sort_unstable_by_key(|client| client.id);
        clients.iter().for_each(|client| add(client));
    }
    ctx.reply.verbatim(&text, "txt");
    Ok(())
}
