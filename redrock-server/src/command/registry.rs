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
    super::stream::COMMANDS,
    super::hyperloglog::COMMANDS,
    super::geo::COMMANDS,
    super::keys::COMMANDS,
    super::transaction::COMMANDS,
    super::pubsub::COMMANDS,
    super::admin::COMMANDS,
    super::script::COMMANDS,
    super::rock::COMMANDS,
];

/// Longest command name that is looked up; longer ones are unknown.
const NAME_BYTES_MAX: usize = 32;

/// The one copy of all records that is used, each with its number.
struct Table {
    commands: Vec<&'static Spec>,
    /// Commands and subcommands by number.
    numbered: Vec<&'static Spec>,
    by_name: HashMap<&'static str, &'static Spec>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut numbered = Vec::new();
        let commands: Vec<_> = FAMILIES
            .iter()
            .flat_map(|f| f.iter())
            .map(|s| number(*s, &mut numbered))
            .collect();
        let by_name = commands.iter().map(|spec| (spec.name, *spec)).collect();
        Table {
            commands,
            numbered,
            by_name,
        }
    })
}

/// Numbers a record and its subcommands. Leaks them: the table lives as long as the process.
fn number(mut spec: Spec, numbered: &mut Vec<&'static Spec>) -> &'static Spec {
    let mut subcommands: Vec<Spec> = spec.subcommands.to_vec();
    let first = numbered.len();
    spec.index = first as u16;
    for (i, sub) in subcommands.iter_mut().enumerate() {
        sub.index = (first + 1 + i) as u16;
    }
    spec.subcommands = Box::leak(subcommands.into_boxed_slice());
    let spec: &'static Spec = Box::leak(Box::new(spec));
    numbered.push(spec);
    numbered.extend(spec.subcommands.iter());
    spec
}

/// All top-level commands.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    table().commands.iter().copied()
}

/// All commands and subcommands in the order of [`Spec::index`].
pub fn numbered() -> &'static [&'static Spec] {
    &table().numbered
}

/// The record of a command or, written `container|name`, of a subcommand, in any case.
pub fn find_full(name: &[u8]) -> Option<&'static Spec> {
    full(name, find)
}

/// As [`find_full`], by the commands' own names.
pub fn find_original_full(name: &[u8]) -> Option<&'static Spec> {
    full(name, find_original)
}

fn full(name: &[u8], find: fn(&[u8]) -> Option<&'static Spec>) -> Option<&'static Spec> {
    let Some(bar) = memchr::memchr(b'|', name) else {
        return find(name);
    };
    let (container, sub) = (name.get(..bar)?, name.get(bar + 1..)?);
    subcommand(find(container)?, sub)
}

fn subcommand(spec: &'static Spec, wanted: &[u8]) -> Option<&'static Spec> {
    spec.subcommands.iter().find(|sub| {
        sub.name
            .split_once('|')
            .is_some_and(|(_, s)| wanted.eq_ignore_ascii_case(s.as_bytes()))
    })
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
    table()
        .by_name
        .get(std::str::from_utf8(slot).ok()?)
        .copied()
}

/// The record that runs for these arguments: a container's subcommand where there is one.
/// Errors are Redis's for unknown commands and subcommands.
pub fn resolve(args: &Args<'_>) -> Result<&'static Spec, CommandError> {
    let Some(spec) = find(args.at(0)) else {
        return Err(unknown_command(args));
    };
    if spec.subcommands.is_empty() || args.len() < 2 {
        return Ok(spec);
    }
    let wanted = args.at(1);
    subcommand(spec, wanted).ok_or_else(|| {
        let shown: Vec<u8> = shown(wanted, 128).collect();
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
    text.extend(shown(args.at(0), 128));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut length = 0;
    for arg in args.from(1) {
        if length >= 128 {
            break;
        }
        let part: Vec<u8> = shown(arg, 128 - length).collect();
        length += part.len() + 3;
        text.push(b'\'');
        text.extend_from_slice(&part);
        text.extend_from_slice(b"' ");
    }
    CommandError::Bytes(text)
}

/// What errors repeat of a request's word: as in Redis it ends at a NUL.
fn shown(word: &[u8], bytes_max: usize) -> impl Iterator<Item = u8> {
    let until_nul = word.iter().copied().take_while(|byte| *byte != 0);
    until_nul.take(bytes_max)
}
