//! What a user may do.

use super::log::{Context, Reason};
use super::selector::Selector;
use super::table::Account;
use super::user::User;
use crate::command::admin::keys_with_access;
use crate::command::table::{Spec, flag};
use crate::command::{Args, CommandError, CommandResult};
use crate::config::Config;
use crate::net::client::Client;
use crate::server::Server;
use std::sync::atomic::Ordering;

/// What a command is denied for. Later ones weigh more: they are what is told when selectors deny
/// it for different reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// The command itself.
    Command,
    /// The key at this argument.
    Key(usize),
    /// The channel at this argument.
    Channel(usize),
}

impl Denial {
    fn rank(self) -> (u8, usize) {
        match self {
            Self::Command => (0, 0),
            Self::Key(at) => (1, at),
            Self::Channel(at) => (2, at),
        }
    }

    /// The argument that is to blame.
    pub fn at(self) -> usize {
        self.rank().1
    }

    /// The log's word.
    pub fn reason(self) -> Reason {
        match self {
            Self::Command => Reason::Command,
            Self::Key(_) => Reason::Key,
            Self::Channel(_) => Reason::Channel,
        }
    }

    /// What is answered; DRYRUN's form names key or channel.
    pub fn text(self, user: &[u8], spec: &Spec, args: &Args<'_>, names: bool) -> Vec<u8> {
        let kind: &[u8] = match self {
            Self::Command => {
                let name = spec.name.as_bytes();
                return [
                    b"User ".as_slice(),
                    user,
                    b" has no permissions to run the '",
                    name,
                    b"' command",
                ]
                .concat();
            }
            Self::Key(_) => b"key",
            Self::Channel(_) => b"channel",
        };
        if !names {
            return [b"No permissions to access a ", kind].concat();
        }
        [
            b"User ".as_slice(),
            user,
            b" has no permissions to access the '",
            args.at(self.at()),
            b"' ",
            kind,
        ]
        .concat()
    }
}

/// A key's argument index, whether its value is read, whether it is written.
pub type KeyUse = (usize, bool, bool);

/// The keys of a command, found when first asked for.
struct Keys<'a> {
    spec: &'static Spec,
    args: &'a Args<'a>,
    found: Option<Vec<KeyUse>>,
}

impl Keys<'_> {
    fn get(&mut self) -> &[KeyUse] {
        self.found
            .get_or_insert_with(|| keys_with_access(self.spec, self.args))
    }
}

/// Whether the arguments from 1 to this one (−1: the last) are channels, and whether patterns.
fn channels(spec: &Spec) -> Option<(i64, bool)> {
    match spec.name {
        "subscribe" | "ssubscribe" => Some((-1, false)),
        "psubscribe" => Some((-1, true)),
        "publish" | "spublish" => Some((1, false)),
        _ => None,
    }
}

fn check_selector(
    selector: &Selector,
    spec: &'static Spec,
    args: &Args<'_>,
    keys: &mut Keys<'_>,
) -> Result<(), Denial> {
    if !selector.all_commands
        && !spec.has(flag::NO_AUTH)
        && !selector.allows_command(spec, args.get(1))
    {
        return Err(Denial::Command);
    }
    if !selector.all_keys {
        for (at, read, write) in keys.get() {
            if !selector.allows_key(args.at(*at), *read, *write) {
                return Err(Denial::Key(*at));
            }
        }
    }
    if !selector.all_channels
        && let Some((last, are_patterns)) = channels(spec)
    {
        let count = match last {
            -1 => args.len().saturating_sub(1),
            last => last as usize,
        };
        for (i, name) in args.from(1).iter().take(count).enumerate() {
            if !selector.allows_channel(name, are_patterns) {
                return Err(Denial::Channel(i + 1));
            }
        }
    }
    Ok(())
}

/// Whether a user may run a command with these arguments.
pub fn check(user: &User, spec: &'static Spec, args: &Args<'_>) -> Result<(), Denial> {
    let mut keys = Keys {
        spec,
        args,
        found: None,
    };
    let mut worst = Denial::Command;
    for selector in user.selectors() {
        match check_selector(selector, spec, args, &mut keys) {
            Ok(()) => return Ok(()),
            Err(denial) => worst = worst.max(denial),
        }
    }
    Err(worst)
}

/// Whether a user may run a command that reads keys which its arguments don't name.
pub fn may_read_all_keys(account: &Account, spec: &'static Spec, args: &Args<'_>) -> bool {
    if !account.is_restricted() {
        return true;
    }
    let mut keys = Keys {
        spec,
        args,
        found: None,
    };
    account.user().selectors().any(|selector| {
        check_selector(selector, spec, args, &mut keys).is_ok() && selector.reads_all_keys()
    })
}

/// Counts and logs what a client was denied.
pub fn note(
    server: &Server,
    config: &Config,
    client: &Client,
    denied: (Reason, Context),
    object: &[u8],
    user: &[u8],
) {
    let (reason, context) = denied;
    server.stats.denied(reason).fetch_add(1, Ordering::Relaxed);
    let now_ms = crate::clock::unix_ms();
    let shown = crate::command::admin::client_line(&client.shared, now_ms);
    let entries_max = config.security.acl_log_entries_max;
    server
        .acl
        .log
        .lock()
        .add((reason, context), object, user, shown, now_ms, entries_max);
}

/// Checks a client's command and keeps account of a denial.
pub fn denial(
    server: &Server,
    config: &Config,
    client: &Client,
    spec: &'static Spec,
    args: &Args<'_>,
    context: Context,
) -> Option<Denial> {
    if !client.account.is_restricted() {
        return None;
    }
    let denial = check(&client.account.user(), spec, args).err()?;
    let object = match denial {
        Denial::Command => spec.name.as_bytes(),
        Denial::Key(at) | Denial::Channel(at) => args.at(at),
    };
    let user = client.account.name();
    note(
        server,
        config,
        client,
        (denial.reason(), context),
        object,
        user,
    );
    Some(denial)
}

/// Refuses a client's command that its user may not run.
pub fn enforce(
    server: &Server,
    config: &Config,
    client: &Client,
    spec: &'static Spec,
    args: &Args<'_>,
) -> CommandResult {
    let context = if client.transaction.is_some() {
        Context::Multi
    } else {
        Context::TopLevel
    };
    match denial(server, config, client, spec, args, context) {
        None => Ok(()),
        Some(denial) => {
            let text = denial.text(client.account.name(), spec, args, false);
            Err(CommandError::Bytes([b"NOPERM ", text.as_slice()].concat()))
        }
    }
}
