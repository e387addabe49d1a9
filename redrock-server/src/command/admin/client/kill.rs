//! CLIENT KILL and UNBLOCK: what one client does to others.

use super::list::ClientKind;
use crate::acl::Acl;
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::net::client::ClientShared;
use redrock_rdb::number::parse_i64;

/// Which clients to close; all given conditions must hold.
#[derive(Debug, Default)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<ClientKind>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    /// Whether the caller is meant too.
    with_caller: bool,
}

impl<'a> Filter<'a> {
    fn parse(args: &Args<'a>, acl: &Acl) -> Result<Self, CommandError> {
        let mut filter = Self::default();
        if args.len() == 3 {
            filter.addr = Some(args.at(2));
            filter.with_caller = true;
            return Ok(filter);
        }
        for pair in args.from(2).chunks(2) {
            let [name, value] = *pair else {
                return Err(CommandError::Syntax);
            };
            match () {
                () if is_word(name, "id") => {
                    let id = parse_i64(value).filter(|id| *id > 0);
                    let bad = CommandError::fixed("ERR client-id should be greater than 0");
                    filter.id = Some(id.ok_or(bad)? as u64);
                }
                () if is_word(name, "type") => filter.kind = Some(ClientKind::parse(value)?),
                () if is_word(name, "addr") => filter.addr = Some(value),
                () if is_word(name, "laddr") => filter.laddr = Some(value),
                () if is_word(name, "user") => {
                    if acl.find(value).is_none() {
                        let text = [b"ERR No such user '", value, b"'"].concat();
                        return Err(CommandError::Bytes(text));
                    }
                    filter.user = Some(value);
                }
                () if is_word(name, "skipme") => match () {
                    () if is_word(value, "yes") => filter.with_caller = false,
                    () if is_word(value, "no") => filter.with_caller = true,
                    () => return Err(CommandError::Syntax),
                },
                () => return Err(CommandError::Syntax),
            }
        }
        Ok(filter)
    }

    fn matches(&self, client: &ClientShared) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.kind.is_none_or(|kind| ClientKind::of(client) == kind)
            && self.addr.is_none_or(|addr| client.addr.as_bytes() == addr)
            && self
                .laddr
                .is_none_or(|laddr| client.laddr.as_bytes() == laddr)
            && self
                .user
                .is_none_or(|user| client.identity.lock().user == user)
    }
}

pub(super) fn kill(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let filter = Filter::parse(args, &ctx.server.acl)?;
    let mut clients = match filter.id {
        Some(id) => ctx.server.shown_client(id).into_iter().collect(),
        None => ctx.server.shown_clients(|client| filter.matches(client)),
    };
    clients.retain(|client| filter.matches(client));
    let mut killed = 0;
    for client in clients {
        if client.id != ctx.client.id() {
            ctx.server.kill_client(&client, ctx.db.keyspace());
        } else if filter.with_caller {
            ctx.client.close_after_reply = true;
        } else {
            continue;
        }
        killed += 1;
    }
    match (args.len(), killed) {
        (3, 0) => return Err(CommandError::fixed("ERR No such client")),
        (3, _) => ctx.reply.ok(),
        _ => ctx.reply.len_int(killed),
    }
    Ok(())
}

pub(super) fn unblock(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.len() > 4 {
        return Err(super::super::unknown_form("CLIENT", args));
    }
    let error = match args.get(3) {
        None => None,
        Some(word) if is_word(word, "timeout") => None,
        Some(word) if is_word(word, "error") => {
            Some("UNBLOCKED client unblocked via CLIENT UNBLOCK")
        }
        Some(_) => {
            let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(CommandError::fixed(text));
        }
    };
    if args.len() > 4 {
        return Err(super::unknown(args));
    }
    let id = u64::try_from(args.int(2)?).unwrap_or(0);
    // A client that waits for SHUTDOWN has no timeout and stays.
    let shutting_down = ctx.server.state.shutdown.waiting.lock().contains(&id);
    let done = !shutting_down && ctx.server.unblock_client(id, ctx.db.keyspace(), error);
    ctx.reply.int(done.into());
    Ok(())
}
