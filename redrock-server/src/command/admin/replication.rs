//! REPLICAOF, REPLCONF, PSYNC, SYNC, WAIT, WAITAOF.

use super::persistence::later;
use crate::command::blocked::unless_ended;
use crate::command::dispatch::Deferred;
use crate::command::table::{Group, Spec, acl, flag};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::log::state::LogKind;
use crate::net::client::Peer;
use crate::replication::commands::{self, Target};
use redrock_daemon::handoff::PeerRequest;
use redrock_rdb::number::parse_i64;
use std::time::Duration;

const ADMIN: u32 = flag::ADMIN | flag::NOSCRIPT;
const MASTER: u32 = ADMIN | flag::STALE | flag::NO_ASYNC_LOADING;
/// Capabilities that are kept of one peer; real ones send two.
const CAPABILITIES_MAX: usize = 64;
/// Longest address or name that is kept; as in Redis.
const TEXT_BYTES_MAX: usize = 255;

/// REPLICAOF.
pub(super) const REPLICAOF: Spec = Spec::new("replicaof", 3, MASTER, replicaof)
    .group(Group::Server)
    .doc(
        "5.0.0",
        "Configures a server as replica of another, or promotes it to a master.",
    );

/// SLAVEOF.
pub(super) const SLAVEOF: Spec = Spec::new("slaveof", 3, MASTER, replicaof)
    .group(Group::Server)
    .doc(
        "1.0.0",
        "Sets a Redis server as a replica of another, or promotes it to being a master.",
    );

/// REPLCONF.
pub(super) const REPLCONF: Spec = Spec::new(
    "replconf",
    -1,
    ADMIN | flag::LOADING | flag::STALE | flag::ALLOW_BUSY,
    replconf,
)
.group(Group::Server)
.acl(acl::DANGEROUS)
.doc(
    "3.0.0",
    "An internal command for configuring the replication stream.",
);

/// PSYNC.
pub(super) const PSYNC: Spec = Spec::new(
    "psync",
    -3,
    ADMIN | flag::NO_ASYNC_LOADING | flag::NO_MULTI,
    psync,
)
.group(Group::Server)
.acl(acl::DANGEROUS)
.doc("2.8.0", "An internal command used in replication.");

/// SYNC.
pub(super) const SYNC: Spec = Spec::new(
    "sync",
    1,
    ADMIN | flag::NO_ASYNC_LOADING | flag::NO_MULTI,
    sync,
)
.group(Group::Server)
.acl(acl::DANGEROUS)
.doc("1.0.0", "An internal command used in replication.");

/// WAIT.
pub(super) const WAIT: Spec = Spec::new("wait", 3, flag::BLOCKING, wait)
    .group(Group::Generic)
    .acl(acl::CONNECTION)
    .doc("3.0.0", "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed.");

/// WAITAOF.
pub(super) const WAITAOF: Spec = Spec::new("waitaof", 4, flag::BLOCKING, wait_append_only)
    .group(Group::Generic)
    .acl(acl::CONNECTION)
    .doc("7.2.0", "Blocks until all of the preceding write commands sent by the connection are written to the append-only file of the master and/or replicas.");

fn replicaof(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if ctx.server.is_failing_over() {
        return Err(CommandError::fixed(
            "ERR REPLICAOF not allowed while failing over.",
        ));
    }
    let target = if args.is(1, "no") && args.is(2, "one") {
        Target::NoOne
    } else {
        let port = parse_i64(args.at(2)).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or(CommandError::fixed("ERR Invalid master port"))?;
        let host = std::str::from_utf8(args.at(1)).ok().filter(|host| {
            !host.is_empty() && host.len() <= TEXT_BYTES_MAX && !host.contains(['\0', ' '])
        });
        let host = host.ok_or(CommandError::fixed("ERR Invalid master host"))?;
        Target::Master(host.to_owned(), port)
    };
    let services = ctx.server.services()?.clone();
    let who = ctx.client.shared.addr.clone();
    later(ctx, async move {
        commands::replicate(&services, target, &who).await
    })
}

/// Without an error nothing but OK is answered; ACK and GETACK get no answer at all.
fn replconf(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    for pair in args.from(1).chunks_exact(2) {
        let [name, value] = pair else {
            return Err(CommandError::Syntax);
        };
        let peer = ctx.client.peer.get_or_insert_default();
        match name.to_ascii_lowercase().as_slice() {
            b"listening-port" => {
                let port = parse_i64(value).ok_or(CommandError::NotInteger)?;
                peer.listening_port = u16::try_from(port).unwrap_or(0);
            }
            b"ip-address" if value.len() > TEXT_BYTES_MAX => {
                return Err(CommandError::text(format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                )));
            }
            b"ip-address" => peer.announced_ip = text(value),
            b"version" => peer.version = text(value.get(..TEXT_BYTES_MAX).unwrap_or(value)),
            b"capa" => add_capability(peer, value),
            b"rdb-only" | b"rdb-filter-only" => {
                return Err(CommandError::text(format!(
                    "ERR REPLCONF {} is not supported",
                    text(name).to_ascii_lowercase()
                )));
            }
            // These belong to an established link, which is the agent's.
            b"ack" | b"getack" => return Ok(()),
            _ => {
                return Err(CommandError::Bytes(
                    [b"ERR Unrecognized REPLCONF option: ", *name].concat(),
                ));
            }
        }
    }
    ctx.reply.ok();
    Ok(())
}

fn add_capability(peer: &mut Peer, value: &[u8]) {
    let capability = text(value.get(..TEXT_BYTES_MAX).unwrap_or(value));
    if peer.capabilities.len() < CAPABILITIES_MAX && !peer.capabilities.contains(&capability) {
        peer.capabilities.push(capability);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn psync(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let offset = parse_i64(args.at(2)).ok_or(CommandError::NotInteger)?;
    let failover = match args.len() {
        3 => false,
        4 if args.is(3, "failover") => true,
        _ => return Err(CommandError::Syntax),
    };
    if failover && !ctx.server.is_replica() {
        return Err(CommandError::fixed(
            "ERR PSYNC FAILOVER can't be sent to a master.",
        ));
    }
    let replid = text(args.at(1).get(..64).unwrap_or(args.at(1)));
    hand_over(
        ctx,
        PeerRequest::Psync {
            replid,
            offset,
            failover,
        },
        failover,
    )
}

fn sync(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    hand_over(ctx, PeerRequest::Sync, false)
}

fn hand_over(ctx: &mut Context<'_>, request: PeerRequest, failover: bool) -> CommandResult {
    if ctx.client.deny_blocking {
        return Err(CommandError::fixed(
            "ERR Command not allowed inside a transaction",
        ));
    }
    ctx.server.services()?;
    if ctx.server.is_failing_over() {
        return Err(CommandError::fixed(
            "NOMASTERLINK Can't SYNC while failing over",
        ));
    }
    let unlinked = {
        let replication = ctx.server.state.replication.lock();
        let link = replication.master.as_ref();
        link.is_some_and(|link| link.state != crate::state::LinkState::Connected)
    };
    if unlinked && !failover {
        return Err(CommandError::fixed(
            "NOMASTERLINK Can't SYNC while not connected with my master",
        ));
    }
    ctx.client.hand_over = Some(request);
    Ok(())
}

fn timeout(arg: &[u8]) -> CommandResult<Option<Duration>> {
    let ms = parse_i64(arg).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    if ms.checked_add(crate::clock::unix_ms()).is_none() {
        return Err(CommandError::fixed("ERR timeout is out of range"));
    }
    match u64::try_from(ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(CommandError::fixed("ERR timeout is negative")),
    }
}

fn wait(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if ctx.server.is_replica() {
        return Err(CommandError::fixed(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis \
             4.0 if a replica is configured to be writable (which is not the default) writes to \
             replicas are just local and are not propagated.",
        ));
    }
    let wanted = parse_i64(args.at(1)).ok_or(CommandError::NotInteger)?;
    let timeout = timeout(args.at(2))?;
    let services = ctx.server.services()?.clone();
    let offset = ctx.client.last_offset();
    let now = commands::acknowledged(&services, offset);
    if ctx.client.deny_blocking || i64::try_from(now).is_ok_and(|now| now >= wanted) {
        ctx.reply.len_int(now);
        return Ok(());
    }
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let resp3 = ctx.client.resp3;
    let reply = move |reached| {
        let mut out = Vec::new();
        Reply::new(&mut out, resp3).len_int(reached);
        out
    };
    let asked = services.clone();
    defer(
        ctx,
        async move { reply(commands::wait(&services, offset, wanted, timeout).await) },
        move || reply(commands::acknowledged(&asked, offset)),
    )
}

/// The reply is made outside the locks, unless the wait is ended first: by CLIENT UNBLOCK, as if
/// its time were up or with an error, or because the server becomes a replica.
fn defer(
    ctx: &mut Context<'_>,
    reply: impl Future<Output = Vec<u8>> + Send + 'static,
    timed_out: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> CommandResult {
    let (server, client) = (ctx.server.handle()?, ctx.client.shared.clone());
    // Under the lock under which the role changes: none is missed.
    let id = ctx.client.id();
    let endings = ctx.db.keyspace().blocked.begin_elsewhere(id);
    let resp3 = ctx.client.resp3;
    let reply = unless_ended(server, client, endings, resp3, reply, timed_out);
    ctx.client.deferred = Some(Deferred(Box::pin(reply)));
    Ok(())
}

fn wait_append_only(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let local = parse_i64(args.at(1)).ok_or(CommandError::NotInteger)?;
    if !(0..=1).contains(&local) {
        let text = "ERR value is out of range, value must between 0 and 1";
        return Err(CommandError::fixed(text));
    }
    let wanted = parse_i64(args.at(2))
        .and_then(|wanted| usize::try_from(wanted).ok())
        .ok_or(CommandError::fixed(
            "ERR value is out of range, must be positive",
        ))?;
    let timeout = timeout(args.at(3))?;
    if ctx.server.is_replica() {
        return Err(CommandError::fixed(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to \
             replicas are just local and are not propagated.",
        ));
    }
    let local = local == 1;
    if local && ctx.server.log.state().kind != LogKind::AppendOnly {
        return Err(commands::NO_LOG);
    }
    let services = ctx.server.services()?.clone();
    let offset = ctx.client.last_offset();
    let now = commands::on_disk(ctx.server, &services, offset);
    if ctx.client.deny_blocking || (now.0 >= local && now.1 >= wanted) {
        write_pair(&mut ctx.reply, now);
        return Ok(());
    }
    let server = ctx.server.handle()?;
    let resp3 = ctx.client.resp3;
    let reply = move |reached: Result<_, CommandError>| {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, resp3);
        match reached {
            Ok(reached) => write_pair(&mut reply, reached),
            Err(error) => reply.error(&error.resp()),
        }
        out
    };
    let (same, asked) = (server.clone(), services.clone());
    let wanted = (local, wanted);
    defer(
        ctx,
        async move {
            let waited = commands::wait_on_disk(&server, &services, offset, wanted, timeout);
            reply(waited.await.inspect_err(|error| server.stats.error(error)))
        },
        move || reply(Ok(commands::on_disk(&same, &asked, offset))),
    )
}

fn write_pair(reply: &mut Reply<'_>, (local, replicas): (bool, usize)) {
    reply.array(2);
    reply.int(i64::from(local));
    reply.len_int(replicas);
}
