//! ACL: users and what they may do. The rules themselves are [`crate::acl`]'s.

mod file;
mod log;
mod users;

use super::commands::{ACL_CATEGORIES, categories};
use super::unknown_form;
use crate::acl::check;
use crate::command::table::{Group, Handler, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context, registry};
use std::sync::OnceLock;

const OPEN: u32 = flag::LOADING | flag::STALE;
const SHOWN: u32 = OPEN | flag::NOSCRIPT;
const MANAGES: u32 = SHOWN | flag::ADMIN;

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler).group(Group::Server)
}

/// ACL and its subcommands.
pub(super) const ACL: Spec = spec("acl", -2, 0, help)
    .doc("6.0.0", "A container for Access List Control commands.")
    .sub(&[
        spec("acl|cat", -2, SHOWN, cat).doc(
            "6.0.0",
            "Lists the ACL categories, or the commands inside a category.",
        ),
        spec("acl|deluser", -3, MANAGES, users::delete).doc(
            "6.0.0",
            "Deletes ACL users, and terminates their connections.",
        ),
        spec("acl|dryrun", -4, MANAGES, dry_run).doc(
            "7.0.0",
            "Simulates the execution of a command by a user, without executing the command.",
        ),
        spec("acl|genpass", -2, SHOWN, generate_password).doc(
            "6.0.0",
            "Generates a pseudorandom, secure password that can be used to identify ACL users.",
        ),
        spec("acl|getuser", 3, MANAGES, users::get).doc("6.0.0", "Lists the ACL rules of a user."),
        spec("acl|help", 2, OPEN, help).doc(
            "6.0.0",
            "Returns helpful text about the different subcommands.",
        ),
        spec("acl|list", 2, MANAGES, users::list)
            .doc("6.0.0", "Dumps the effective rules in ACL file format."),
        spec("acl|load", 2, MANAGES, file::load)
            .doc("6.0.0", "Reloads the rules from the configured ACL file."),
        spec("acl|log", -2, MANAGES, log::log).doc(
            "6.0.0",
            "Lists recent security events generated due to ACL rules.",
        ),
        spec("acl|save", 2, MANAGES, file::save).doc(
            "6.0.0",
            "Saves the effective ACL rules in the configured ACL file.",
        ),
        spec("acl|setuser", -3, MANAGES, users::set)
            .doc("6.0.0", "Creates and modifies an ACL user and its rules."),
        spec("acl|users", 2, MANAGES, users::names).doc("6.0.0", "Lists all ACL users."),
        spec("acl|whoami", 2, SHOWN, users::who_am_i).doc(
            "6.0.0",
            "Returns the authenticated username of the current connection.",
        ),
    ]);

/// Bits of the longest password that GENPASS makes.
const PASSWORD_BITS_MAX: i64 = 4096;

/// `ACL CAT [category]`
fn cat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let names = match args.len() {
        2 => &ACL_CATEGORIES[..],
        3 => {
            let wanted = args.at(2).to_ascii_lowercase();
            let mut all = by_category().iter();
            let Some((_, names)) = all.find(|(name, _)| name.as_bytes() == wanted) else {
                let shown = args.at(2).get(..128).unwrap_or(args.at(2));
                let text = [b"ERR Unknown category '", shown, b"'"].concat();
                return Err(CommandError::Bytes(text));
            };
            names
        }
        _ => return Err(unknown_form("ACL", args)),
    };
    ctx.reply.array(names.len());
    for name in names {
        ctx.reply.bulk(name.as_bytes());
    }
    Ok(())
}

/// The categories with their commands, in the order of both tables.
fn by_category() -> &'static [(&'static str, Vec<&'static str>)] {
    static BY_CATEGORY: OnceLock<Vec<(&str, Vec<&str>)>> = OnceLock::new();
    BY_CATEGORY.get_or_init(|| {
        let all = registry::numbered();
        let of_all: Vec<_> = all
            .iter()
            .map(|spec| (spec.name, categories(spec)))
            .collect();
        let within = |category: &'static str| {
            let members = of_all.iter().filter(|(_, own)| own.contains(&category));
            (category, members.map(|(name, _)| *name).collect())
        };
        ACL_CATEGORIES.into_iter().map(within).collect()
    })
}

/// `ACL DRYRUN username command [arg ...]`
fn dry_run(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let not_found = |kind: &str, name: &[u8]| {
        CommandError::Bytes([b"ERR ", kind.as_bytes(), b" '", name, b"' not found"].concat())
    };
    let Some(account) = ctx.server.acl.find(args.at(2)) else {
        return Err(not_found("User", args.at(2)));
    };
    let command = Args::new(args.from(3));
    let Ok(spec) = registry::resolve(&command) else {
        return Err(not_found("Command", args.at(3)));
    };
    if !spec.arity_ok(command.len()) {
        return Err(CommandError::Arity(spec.name.to_owned()));
    }
    match check::check(&account.user(), spec, &command) {
        Ok(()) => ctx.reply.ok(),
        Err(denial) => {
            let text = denial.text(account.name(), spec, &command, true);
            ctx.reply.bulk(&text);
        }
    }
    Ok(())
}

/// `ACL GENPASS [bits]`
fn generate_password(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let bits = match args.len() {
        2 => 256,
        3 => args.int(2)?,
        _ => return Err(unknown_form("ACL", args)),
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(CommandError::text(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to {PASSWORD_BITS_MAX}"
        )));
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |_| DIGITS.get(rand::random_range(0..16usize)).copied();
    let password: Vec<u8> = (0..(bits + 3) / 4).filter_map(digit).collect();
    ctx.reply.bulk(&password);
    Ok(())
}

/// `ACL HELP`
fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    const LINES: [&str; 26] = [
        "CAT [<category>]",
        "    List all commands that belong to <category>, or all command categories",
        "    when no category is specified.",
        "DELUSER <username> [<username> ...]",
        "    Delete a list of users.",
        "DRYRUN <username> <command> [<arg> ...]",
        "    Returns whether the user can execute the given command without executing the command.",
        "GETUSER <username>",
        "    Get the user's details.",
        "GENPASS [<bits>]",
        "    Generate a secure 256-bit user password. The optional `bits` argument can",
        "    be used to specify a different size.",
        "LIST",
        "    Show users details in config file format.",
        "LOAD",
        "    Reload users from the ACL file.",
        "LOG [<count> | RESET]",
        "    Show the ACL log entries.",
        "SAVE",
        "    Save the current config to the ACL file.",
        "SETUSER <username> <attribute> [<attribute> ...]",
        "    Create or modify a user with the specified attributes.",
        "USERS",
        "    List all the registered usernames.",
        "WHOAMI",
        "    Return the current connection username.",
    ];
    super::help(ctx, "ACL", &LINES)
}
