//! COMMAND: the table of commands, told to clients.

mod docs;
mod facts;
mod info;
mod keys;

use crate::command::table::{Group, Spec, acl, flag};
use crate::command::{Args, CommandError, CommandResult, Context, registry};
use crate::value::glob;
use docs::docs;
use keys::{getkeys, getkeysandflags};

pub(crate) use info::{ACL_CATEGORIES, categories};
pub(crate) use keys::keys_with_access;

/// COMMAND and its subcommands.
pub(super) const COMMAND: Spec = Spec::new("command", -1, flag::LOADING | flag::STALE, command)
    .group(Group::Server)
    .acl(acl::CONNECTION)
    .doc("2.8.13", "Returns detailed information about all commands.")
    .sub(&[
        Spec::new("command|count", 2, flag::LOADING | flag::STALE, count)
            .group(Group::Server)
            .acl(acl::CONNECTION)
            .doc("2.8.13", "Returns a count of commands."),
        Spec::new("command|docs", -2, flag::LOADING | flag::STALE, docs)
            .group(Group::Server)
            .acl(acl::CONNECTION)
            .doc(
                "7.0.0",
                "Returns documentary information about one, multiple or all commands.",
            ),
        Spec::new("command|getkeys", -3, flag::LOADING | flag::STALE, getkeys)
            .group(Group::Server)
            .acl(acl::CONNECTION)
            .doc(
                "2.8.13",
                "Extracts the key names from an arbitrary command.",
            ),
        Spec::new(
            "command|getkeysandflags",
            -3,
            flag::LOADING | flag::STALE,
            getkeysandflags,
        )
        .group(Group::Server)
        .acl(acl::CONNECTION)
        .doc(
            "7.0.0",
            "Extracts the key names and access flags for an arbitrary command.",
        ),
        Spec::new("command|help", 2, flag::LOADING | flag::STALE, help)
            .group(Group::Server)
            .acl(acl::CONNECTION)
            .doc(
                "5.0.0",
                "Returns helpful text about the different subcommands.",
            ),
        Spec::new("command|info", -2, flag::LOADING | flag::STALE, info)
            .group(Group::Server)
            .acl(acl::CONNECTION)
            .doc(
                "2.8.13",
                "Returns information about one, multiple or all commands.",
            ),
        Spec::new("command|list", -2, flag::LOADING | flag::STALE, list)
            .group(Group::Server)
            .acl(acl::CONNECTION)
            .doc("7.0.0", "Returns a list of command names."),
    ]);

/// COMMAND without a subcommand.
fn command(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    all(ctx);
    Ok(())
}

fn all(ctx: &mut Context<'_>) {
    ctx.reply.array(registry::all().count());
    for spec in registry::all() {
        info::write(&mut ctx.reply, spec);
    }
}

fn count(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.len_int(registry::all().count());
    Ok(())
}

fn info(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let names = args.from(2);
    if names.is_empty() {
        all(ctx);
        return Ok(());
    }
    ctx.reply.array(names.len());
    for name in names {
        match registry::find_full(name) {
            Some(spec) => info::write(&mut ctx.reply, spec),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]: subcommands too, by
/// their full names.
fn list(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let filter = args.at(4);
    let wanted: Box<dyn Fn(&Spec) -> bool> = match args.len() {
        2 => Box::new(|_| true),
        5 if args.is(2, "filterby") && args.is(3, "module") => Box::new(|_| false),
        5 if args.is(2, "filterby") && args.is(3, "aclcat") => {
            let filter = filter.to_ascii_lowercase();
            Box::new(move |spec| {
                categories(spec)
                    .iter()
                    .any(|name| name.as_bytes() == filter)
            })
        }
        5 if args.is(2, "filterby") && args.is(3, "pattern") => {
            Box::new(move |spec| glob::matches(filter, spec.name.as_bytes(), true))
        }
        _ => return Err(CommandError::Syntax),
    };
    let names: Vec<&str> = registry::numbered()
        .iter()
        .filter(|spec| wanted(spec))
        .map(|spec| spec.name)
        .collect();
    ctx.reply.array(names.len());
    for name in names {
        ctx.reply.bulk(name.as_bytes());
    }
    Ok(())
}

fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(
        ctx,
        "COMMAND",
        &[
            "(no subcommand)",
            "    Return details about all Redis commands.",
            "COUNT",
            "    Return the total number of commands in this Redis server.",
            "LIST",
            "    Return a list of all commands in this Redis server.",
            "INFO [<command-name> ...]",
            "    Return details about multiple Redis commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "DOCS [<command-name> ...]",
            "    Return documentation details about multiple Redis commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "GETKEYS <full-command>",
            "    Return the keys from a full Redis command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys and the access flags from a full Redis command.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::command::registry;
    use crate::command::testing::Clients;

    #[test]
    fn of_all_containers_command_alone_runs_without_a_subcommand() {
        let mut bench = Clients::new(1);
        let all = bench.run_as(0, "COMMAND INFO");
        assert!(all.starts_with(&format!("*{} ", registry::all().count())));
        assert_eq!(bench.run_as(0, "COMMAND"), all);
        for spec in registry::all().filter(|spec| !spec.subcommands.is_empty()) {
            if spec.name != "command" {
                let refusal = format!("-ERR wrong number of arguments for '{}' command", spec.name);
                assert_eq!(bench.run_as(0, spec.name), refusal);
            }
        }
    }
}
