//! CLIENT: connections, seen from inside.

mod kill;
mod list;
mod pause;
mod session;
mod tracking;

use crate::command::table::{Group, Spec, acl, flag};
use crate::command::{Args, CommandResult, Context};
use kill::{kill, unblock};
pub(crate) use list::line;
use list::{id, info, list};
use pause::{pause, unpause};
use session::{getname, no_evict, no_touch, reply, setinfo, setname};
use tracking::{caching, getredir, tracking, trackinginfo};

/// CLIENT and its subcommands.
pub(super) const CLIENT: Spec = Spec::new("client", -2, 0, help)
    .group(Group::Connection)
    .doc("2.4.0", "A container for client connection commands.")
    .sub(&[
Spec::new("client|caching", 3, flag::NOSCRIPT | flag::LOADING | flag::STALE, caching)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("6.0.0", "Instructs the server whether to track the keys in the next request."),
Spec::new("client|getname", 2, flag::NOSCRIPT | flag::LOADING | flag::STALE, getname)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("2.6.9", "Returns the name of the connection."),
Spec::new("client|getredir", 2, flag::NOSCRIPT | flag::LOADING | flag::STALE, getredir)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("6.0.0", "Returns the client ID to which the connection's tracking notifications are redirected."),
Spec::new("client|help", 2, flag::LOADING | flag::STALE, help)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("5.0.0", "Returns helpful text about the different subcommands."),
Spec::new("client|id", 2, flag::NOSCRIPT | flag::LOADING | flag::STALE, id)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("5.0.0", "Returns the unique client ID of the connection."),
Spec::new("client|info", 2, flag::NOSCRIPT | flag::LOADING | flag::STALE, info)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("6.2.0", "Returns information about the connection."),
Spec::new("client|kill", -3, flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE, kill)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("2.4.0", "Terminates open connections."),
Spec::new("client|list", -2, flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE, list)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("2.4.0", "Lists open connections."),
Spec::new("client|no-evict", 3, flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE, no_evict)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("7.0.0", "Sets the client eviction mode of the connection."),
Spec::new("client|no-touch", 3, flag::NOSCRIPT | flag::LOADING | flag::STALE, no_touch)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("7.2.0", "Controls whether commands sent by the client affect the LRU/LFU of accessed keys."),
Spec::new("client|pause", -3, flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE, pause)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("3.0.0", "Suspends commands processing."),
Spec::new("client|reply", 3, flag::NOSCRIPT | flag::LOADING | flag::STALE, reply)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("3.2.0", "Instructs the server whether to reply to commands."),
Spec::new("client|setinfo", 4, flag::NOSCRIPT | flag::LOADING | flag::STALE, setinfo)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("7.2.0", "Sets information specific to the client or connection."),
Spec::new("client|setname", 3, flag::NOSCRIPT | flag::LOADING | flag::STALE, setname)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("2.6.9", "Sets the connection name."),
Spec::new("client|tracking", -3, flag::NOSCRIPT | flag::LOADING | flag::STALE, tracking)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("6.0.0", "Controls server-assisted client-side caching for the connection."),
Spec::new("client|trackinginfo", 2, flag::NOSCRIPT | flag::LOADING | flag::STALE, trackinginfo)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("6.2.0", "Returns information about server-assisted client-side caching for the connection."),
Spec::new("client|unblock", -3, flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE, unblock)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("5.0.0", "Unblocks a client blocked by a blocking command from a different connection."),
Spec::new("client|unpause", 2, flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE, unpause)
    .group(Group::Connection)
    .acl(acl::CONNECTION)
    .doc("6.2.0", "Resumes processing commands from paused clients."),
    ]);

fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(
        ctx,
        "CLIENT",
        &[
            "CACHING (YES|NO)",
            "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
            "GETREDIR",
            "    Return the client ID we are redirecting to when tracking is enabled.",
            "GETNAME",
            "    Return the name of the current connection.",
            "ID",
            "    Return the ID of the current connection.",
            "INFO",
            "    Return information about the current client connection.",
            "KILL <ip:port>",
            "    Kill connection made from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Kill connections. Options are:",
            "    * ADDR (<ip:port>|<unixsocket>:0)",
            "      Kill connections made from the specified address",
            "    * LADDR (<ip:port>|<unixsocket>:0)",
            "      Kill connections made to specified local address",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      Kill connections by type.",
            "    * USER <username>",
            "      Kill connections authenticated by <username>.",
            "    * SKIPME (YES|NO)",
            "      Skip killing current connection (default: yes).",
            "LIST [options ...]",
            "    Return information about client connections. Options:",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      Return clients of specified type.",
            "UNPAUSE",
            "    Stop the current client pause, resuming traffic.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Suspend all, or just write, clients for <timeout> milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Control the replies sent to the current connection.",
            "SETNAME <name>",
            "    Assign the name <name> to the current connection.",
            "SETINFO <option> <value>",
            "    Set client meta attr. Options are:",
            "    * LIB-NAME: the client lib name.",
            "    * LIB-VER: the client lib version.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]",
            "    Unblock the specified blocked client.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
            "         [OPTIN] [OPTOUT] [NOLOOP]",
            "    Control server assisted client side caching.",
            "TRACKINGINFO",
            "    Report tracking status for the current connection.",
            "NO-EVICT (ON|OFF)",
            "    Protect current client connection from eviction.",
            "NO-TOUCH (ON|OFF)",
            "    Will not touch LRU/LFU stats when this mode is on.",
        ],
    )
}

/// The error for a subcommand with too many arguments.
fn unknown(args: &Args<'_>) -> super::CommandError {
    super::unknown_form("CLIENT", args)
}
