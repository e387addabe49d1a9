//! ACL SETUSER, GETUSER, DELUSER, LIST, USERS, WHOAMI.

use crate::acl::rules;
use crate::acl::selector::{Selector, has_space};
use crate::acl::table::DEFAULT;
use crate::acl::user::User;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::net::client::ClientShared;
use crate::pubsub::Kind;
use std::sync::Arc;

/// `ACL SETUSER username [rule ...]`: all rules or none.
pub(super) fn set(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let name = args.at(2);
    if has_space(name) {
        return Err(CommandError::fixed(
            "ERR Usernames can't contain spaces or null characters",
        ));
    }
    let all_channels = ctx.config.security.all_channels_by_default;
    let account = ctx.server.acl.find(name);
    let old = account.map(|account| account.user());
    let start = match &old {
        Some(user) => User::clone(user),
        None => User::new(all_channels),
    };
    let new = rules::changed(&start, args.from(3), all_channels)
        .map_err(|error| CommandError::Bytes([b"ERR ", error.text().as_slice()].concat()))?;
    if let Some(old) = old {
        close_listeners(ctx, name, &old, &new);
    }
    ctx.server.acl.put(name, new);
    ctx.reply.ok();
    Ok(())
}

/// Closes the user's clients that listen to what they may no longer listen to.
fn close_listeners(ctx: &mut Context<'_>, name: &[u8], old: &User, new: &User) {
    if new.selectors().any(|selector| selector.all_channels) {
        return;
    }
    let allows = |channel: &[u8]| {
        let mut selectors = new.selectors();
        selectors.any(|new| new.channels().iter().any(|known| known == channel))
    };
    let keeps = |selector: &Selector| {
        !selector.all_channels && selector.channels().iter().all(|channel| allows(channel))
    };
    if old.selectors().all(keeps) {
        return;
    }
    let denied = ctx.server.pubsub.listeners(|kind, channel, client| {
        let is_pattern = kind == Kind::Pattern;
        client.identity.lock().user == name
            && !new
                .selectors()
                .any(|selector| selector.allows_channel(channel, is_pattern))
    });
    close(ctx, &denied);
}

/// Closes clients; the caller once it has its reply.
fn close(ctx: &mut Context<'_>, clients: &[Arc<ClientShared>]) {
    for client in clients {
        if client.id == ctx.client.id() {
            ctx.client.close_after_reply = true;
        } else {
            ctx.server.kill_client(client, ctx.db.keyspace());
        }
    }
}

/// `ACL DELUSER username [username ...]`
pub(super) fn delete(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let names = args.from(2);
    if names.contains(&DEFAULT) {
        return Err(CommandError::fixed(
            "ERR The 'default' user cannot be removed",
        ));
    }
    let mut removed = 0;
    for name in names {
        if ctx.server.acl.remove(name) {
            removed += 1;
            let clients = ctx.server.clients_of(&[name.to_vec()]);
            close(ctx, &clients);
        }
    }
    if ctx.client.close_after_reply && ctx.server.acl.find(ctx.client.account.name()).is_none() {
        // It has lost its user with its rights.
        ctx.client.account = ctx.server.acl.default_account();
        ctx.client.authenticated = false;
    }
    ctx.reply.int(removed);
    Ok(())
}

/// `ACL GETUSER username`
pub(super) fn get(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some(account) = ctx.server.acl.find(args.at(2)) else {
        ctx.reply.null();
        return Ok(());
    };
    let user = account.user();
    ctx.reply.map(6);
    let flags = user.flags();
    ctx.reply.bulk(b"flags");
    ctx.reply.set(flags.len());
    for flag in flags {
        ctx.reply.bulk(flag.as_bytes());
    }
    let hashes = user.password_hashes();
    ctx.reply.bulk(b"passwords");
    ctx.reply.array(hashes.len());
    for hash in hashes {
        ctx.reply.bulk(hash.as_bytes());
    }
    let mut selectors = user.selectors();
    if let Some(root) = selectors.next() {
        write_selector(ctx, root);
    }
    let others: Vec<&Selector> = selectors.collect();
    ctx.reply.bulk(b"selectors");
    ctx.reply.array(others.len());
    for selector in others {
        ctx.reply.map(3);
        write_selector(ctx, selector);
    }
    Ok(())
}

fn write_selector(ctx: &mut Context<'_>, selector: &Selector) {
    for (name, rules) in [
        ("commands", selector.describe_commands()),
        ("keys", selector.describe_keys()),
        ("channels", selector.describe_channels()),
    ] {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(&rules);
    }
}

/// `ACL LIST`
pub(super) fn list(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let accounts = ctx.server.acl.all();
    ctx.reply.array(accounts.len());
    for account in accounts {
        ctx.reply.bulk(&account.line());
    }
    Ok(())
}

/// `ACL USERS`
pub(super) fn names(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let accounts = ctx.server.acl.all();
    ctx.reply.array(accounts.len());
    for account in accounts {
        ctx.reply.bulk(account.name());
    }
    Ok(())
}

/// `ACL WHOAMI`
pub(super) fn who_am_i(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.bulk(ctx.client.account.name());
    Ok(())
}
