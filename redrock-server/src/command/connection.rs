//! Commands about the connection itself.

use super::table::{Group, Spec, flag};
use super::{Args, CommandError, CommandResult, Context};
use crate::acl::{check, log};
use crate::keyspace::watch::DirtyFlag;
use crate::net::client::ReplyMode;
use redrock_rdb::number::parse_i64;

const OPEN: u32 = flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY;

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    Spec::new("ping", -1, flag::FAST, ping)
        .group(Group::Connection)
        .doc("1.0.0", "Returns the server's liveliness response."),
    Spec::new("echo", 2, flag::LOADING | flag::STALE | flag::FAST, echo)
        .group(Group::Connection)
        .doc("1.0.0", "Returns the given string."),
    Spec::new("hello", -1, OPEN | flag::NO_AUTH, hello)
        .group(Group::Connection)
        .doc("6.0.0", "Handshakes with the Redis server."),
    Spec::new(
        "select",
        2,
        flag::LOADING | flag::STALE | flag::FAST,
        select,
    )
    .group(Group::Connection)
    .doc("1.0.0", "Changes the selected database."),
    Spec::new("quit", -1, OPEN | flag::NO_AUTH, quit)
        .group(Group::Connection)
        .doc("1.0.0", "Closes the connection."),
    Spec::new("reset", 1, OPEN | flag::NO_AUTH, reset)
        .group(Group::Connection)
        .doc("6.2.0", "Resets the connection."),
    Spec::new("auth", -2, OPEN | flag::NO_AUTH, auth)
        .group(Group::Connection)
        .doc("1.0.0", "Authenticates the connection."),
];

const WRONG_PASSWORD: CommandError =
    CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

fn ping(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.len() > 2 {
        return Err(CommandError::Arity("ping".into()));
    }
    let subscribed = ctx.client.subscription_count() + ctx.client.shard_channels.len() > 0;
    if subscribed && !ctx.reply.is_resp3() {
        ctx.reply.array(2);
        ctx.reply.bulk(b"pong");
        ctx.reply.bulk(args.at(1));
    } else if args.len() == 1 {
        ctx.reply.simple("PONG");
    } else {
        ctx.reply.bulk(args.at(1));
    }
    Ok(())
}

fn echo(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    ctx.reply.bulk(args.at(1));
    Ok(())
}

fn select(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let index = parse_i64(args.at(1)).ok_or(CommandError::NotInteger)?;
    if i32::try_from(index).is_err() {
        let text = "ERR value is out of range, value must between -2147483648 and 2147483647";
        return Err(CommandError::fixed(text));
    }
    if !usize::try_from(index).is_ok_and(|index| ctx.select(index)) {
        return Err(CommandError::fixed("ERR DB index is out of range"));
    }
    ctx.reply.ok();
    Ok(())
}

fn quit(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.ok();
    ctx.client.close_after_reply = true;
    Ok(())
}

/// What `HELLO` was asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hello<'a> {
    resp3: Option<bool>,
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    fn parse(args: &Args<'a>) -> CommandResult<Self> {
        let mut hello = Self::default();
        if let Some(version) = args.get(1) {
            hello.resp3 = Some(match parse_i64(version) {
                None => {
                    let text = "ERR Protocol version is not an integer or out of range";
                    return Err(CommandError::fixed(text));
                }
                Some(2) => false,
                Some(3) => true,
                Some(_) => {
                    return Err(CommandError::fixed("NOPROTO unsupported protocol version"));
                }
            });
        }
        let mut at = 2;
        while let Some(option) = args.get(at) {
            if args.is(at, "auth")
                && let (Some(user), Some(password)) = (args.get(at + 1), args.get(at + 2))
            {
                hello.auth = Some((user, password));
                at += 3;
            } else if args.is(at, "setname")
                && let Some(name) = args.get(at + 1)
            {
                check_client_name(name)?;
                hello.name = Some(name);
                at += 2;
            } else {
                let text = [b"ERR Syntax error in HELLO option '", option, b"'"];
                return Err(CommandError::Bytes(text.concat()));
            }
        }
        Ok(hello)
    }
}

/// Checks a name for CLIENT SETNAME and HELLO: it must not break the lines of CLIENT LIST.
pub fn check_client_name(name: &[u8]) -> CommandResult {
    if name.iter().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Ok(());
    }
    let text = "ERR Client names cannot contain spaces, newlines or special characters.";
    Err(CommandError::fixed(text))
}

fn hello(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hello = Hello::parse(args)?;
    if let Some((user, password)) = hello.auth {
        authenticate(ctx, args.at(0), user, password)?;
    }
    if !ctx.client.authenticated {
        return Err(CommandError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = hello.name {
        ctx.client.name = name.to_vec();
    }
    if let Some(resp3) = hello.resp3 {
        ctx.client.resp3 = resp3;
        ctx.reply.set_resp3(resp3);
    }
    let id = ctx.client.id();
    let role = if ctx.config.replication.master.is_some() {
        "replica"
    } else {
        "master"
    };
    let reply = &mut ctx.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(if reply.is_resp3() { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(i64::try_from(id).unwrap_or(i64::MAX));
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(role.as_bytes());
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn auth(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (user, password) = match args.len() {
        2 if ctx.server.acl.default_is_open() => {
            return Err(CommandError::fixed(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        2 => (&b"default"[..], args.at(1)),
        3 => (args.at(1), args.at(2)),
        _ => return Err(CommandError::Syntax),
    };
    authenticate(ctx, args.at(0), user, password)?;
    ctx.reply.ok();
    Ok(())
}

/// Logs a client in as `user`; a failure is logged with the command's name.
fn authenticate(
    ctx: &mut Context<'_>,
    command: &[u8],
    user: &[u8],
    password: &[u8],
) -> CommandResult {
    let Some(account) = ctx.server.acl.authenticate(user, password) else {
        let in_transaction = ctx.client.transaction.is_some() || ctx.client.deny_blocking;
        let place = if in_transaction {
            log::Context::Multi
        } else {
            log::Context::TopLevel
        };
        let denied = (log::Reason::Auth, place);
        check::note(ctx.server, ctx.config, ctx.client, denied, command, user);
        return Err(WRONG_PASSWORD);
    };
    ctx.client.authenticated = true;
    ctx.client.account = account;
    Ok(())
}

/// As a fresh connection: no transaction, subscriptions, name; database 0, RESP2, logged in only
/// where no password is needed.
fn reset(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let client = &mut *ctx.client;
    client.transaction = None;
    let keyspace = ctx.db.keyspace();
    for (db, key) in client.watched.drain(..) {
        keyspace.watched.unwatch(db, &key, client.shared.id);
    }
    client.watch_dirty = DirtyFlag::default();
    keyspace.tracking.disable(&client.shared);
    ctx.server.drop_subscriptions(client);
    ctx.server.monitors.remove(client.shared.id);
    client.resp3 = false;
    client.name.clear();
    client.account = ctx.server.acl.default_account();
    client.authenticated = !ctx.server.acl.password_needed();
    client.reply_mode = ReplyMode::On;
    client.no_touch = false;
    client.no_evict = false;
    ctx.select(0);
    ctx.reply.set_resp3(false);
    ctx.reply.simple("RESET");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(words: &[&'static str]) -> Result<Hello<'static>, String> {
        let argv: Vec<&'static [u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let argv: &'static [&'static [u8]] = argv.leak();
        Hello::parse(&Args::new(argv))
            .map_err(|error| String::from_utf8_lossy(&error.resp()).into_owned())
    }

    #[test]
    fn hello_options_are_checked_in_order() {
        let all = hello(&["hello", "3", "setname", "a", "AUTH", "u", "p"]).unwrap();
        let expected = Hello {
            resp3: Some(true),
            auth: Some((b"u", b"p")),
            name: Some(b"a"),
        };
        assert_eq!(all, expected);
        assert_eq!(hello(&["hello"]), Ok(Hello::default()));
        for (words, error) in [
            (
                &["hello", "x"][..],
                "ERR Protocol version is not an integer or out of range",
            ),
            (
                &["hello", "4", "nope"],
                "NOPROTO unsupported protocol version",
            ),
            (
                &["hello", "2", "auth", "a"],
                "ERR Syntax error in HELLO option 'auth'",
            ),
            (
                &["hello", "2", "setname"],
                "ERR Syntax error in HELLO option 'setname'",
            ),
            (
                &["hello", "2", "setname", "a b"],
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ),
        ] {
            assert_eq!(hello(words), Err(error.to_owned()));
        }
    }
}
