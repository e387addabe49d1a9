//! Finds a command's record by name.

use super::args::Args;
use super::error::CommandError;
use super::table::Spec;
use hashbrown::HashMap;
use std::sync::OnceLock;

/// All families, in the order of `COMMAND`.
pub const FAMILIES: &[&[Spec]] = &[
    super::connection::COMMANDS,
    super::string::COMMANDS,
    super::list::COMMANDS,
    super::hash::COMMANDS,
    super::set::COMMANDS,
    super::zset::COMMANDS,
    super::keys::COMMANDS,
    super::transaction::COMMANDS,
    super::pubsub::COMMANDS,
    super::admin::COMMANDS,
];

/// Longest command name that is looked up; longer ones are unknown.
const NAME_BYTES_MAX: usize = 32;

fn by_name() -> &'static HashMap<&'static str, &'static Spec> {
    static MAP: OnceLock<HashMap<&'static str, &'static Spec>> = OnceLock::new();
    MAP.get_or_init(|| {
        FAMILIES.iter().flat_map(|family| family.iter()).map(|spec| (spec.name, spec)).collect()
    })
}

/// All top-level commands.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The record of a top-level command by the name that clients use, in any case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    if let Some(renames) = super::rename::in_force()
        && let Some(meaning) = renames.get(&name.to_ascii_lowercase())
    {
        return meaning;
    }
    find_original(name)
}

/// The record of a top-level command by its own name, in any case.
pub fn find_original(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0u8; NAME_BYTES_MAX];
    let slot = lower.get_mut(..name.len())?;
    slot.copy_from_slice(name);
    slot.make_ascii_lowercase();
    by_name().get(std::str::from_utf8(slot).ok()?).copied()
}

/// The record that runs for these arguments: a container's subcommand where there is one.
/// Errors are Redis's for unknown commands and subcommands.
pub fn resolve(args: &Args<'_>) -> Result<&'static Spec, CommandError> {
    let Some(spec) = find(args.at(0)) else { return Err(unknown_command(args)) };
    if spec.subcommands.is_empty() || args.len() < 2 {
        return Ok(spec);
    }
    let wanted = args.at(1);
    let found = spec.subcommands.iter().find(|sub| {
        sub.name.split_once('|').is_some_and(|(_, s)| wanted.eq_ignore_ascii_case(s.as_bytes()))
    });
    found.ok_or_else(|| {
        let shown: Vec<u8> = wanted.iter().copied().take(128).collect();
        CommandError::Bytes(
            [
                b"ERR unknown subcommand '",
                &shown[..],
                b"'. Try ",
                spec.name.to_ascii_uppercase().as_bytes(),
                b" HELP.",
            ]
            .concat(),
        )
    })
}

fn unknown_command(args: &Args<'_>) -> CommandError {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend(args.at(0).iter().take(128));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut shown = 0;
    for arg in args.from(1) {
        if shown >= 128 {
            break;
        }
        let part: Vec<u8> = arg.iter().copied().take(128 - shown).collect();
        shown += part.len() + 3;
        text.push(b'\'');
        text.extend_from_slice(&part);
        text.extend_from_slice(b"' ");
    }
    CommandError::Bytes(text)
}
