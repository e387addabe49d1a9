//! What COMMAND tells of commands beyond their [`Spec`](crate::command::table::Spec): key
//! specifications, arguments, history, tips.
//!
//! The facts stand in `facts.txt`, one record a line, fields separated by tabs:
//!
//! ```text
//! C name complexity acl-categories
//! T tip
//! F documentation-flags
//! D deprecated-since replaced-by
//! H version change
//! K flags begin-search find-keys notes
//! A depth name type display-text key-spec-index =token since deprecated-since flags
//! ```
//!
//! They are parsed once, when COMMAND is first used; a test shows that every line is understood.

use hashbrown::HashMap;
use std::sync::OnceLock;

/// Where the search for keys begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BeginSearch {
    /// At this argument.
    Index(usize),
    /// Behind this word, searched from this argument on (negative: backwards from the end).
    Keyword(&'static str, i64),
    /// Only the command knows.
    Unknown,
}

/// How the keys lie from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FindKeys {
    /// Last key (relative; negative: from the end), step, limit (with −1 as last: the keys are
    /// the first 1/limit of what follows).
    Range(i64, usize, usize),
    /// Where the count is, where the first key is, step; all relative.
    KeyNum(usize, usize, usize),
    /// Only the command knows.
    Unknown,
}

/// A key specification.
#[derive(Debug, Clone)]
pub(super) struct KeyFacts {
    /// `RO`, `RW`, `OW`, `RM`, `access`, ... in the order in which they are shown.
    pub(super) flags: Vec<&'static str>,
    pub(super) begin: BeginSearch,
    pub(super) find: FindKeys,
    pub(super) notes: &'static str,
}

impl KeyFacts {
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

/// An argument.
#[derive(Debug, Clone)]
pub(super) struct ArgumentFacts {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) display: &'static str,
    pub(super) key_spec: Option<i64>,
    pub(super) token: Option<&'static str>,
    pub(super) since: &'static str,
    pub(super) deprecated: &'static str,
    pub(super) flags: Vec<&'static str>,
    pub(super) arguments: Vec<Self>,
}

/// One command. Empty texts are absent.
#[derive(Debug, Clone, Default)]
pub(super) struct CommandFacts {
    pub(super) complexity: &'static str,
    /// Categories beyond those that follow from flags.
    pub(super) categories: Vec<&'static str>,
    pub(super) tips: Vec<&'static str>,
    pub(super) doc_flags: Vec<&'static str>,
    /// Since when deprecated, and by what replaced.
    pub(super) deprecated: Option<(&'static str, &'static str)>,
    pub(super) history: Vec<(&'static str, &'static str)>,
    pub(super) keys: Vec<KeyFacts>,
    pub(super) arguments: Vec<ArgumentFacts>,
}

/// The facts of a command by its full name.
pub(super) fn of(name: &str) -> &'static CommandFacts {
    static FACTS: OnceLock<HashMap<&'static str, CommandFacts>> = OnceLock::new();
    static NONE: OnceLock<CommandFacts> = OnceLock::new();
    let facts = FACTS.get_or_init(|| parse(include_str!("facts.txt")));
    facts
        .get(name)
        .unwrap_or_else(|| NONE.get_or_init(CommandFacts::default))
}

fn words(text: &'static str) -> Vec<&'static str> {
    text.split(',').filter(|word| !word.is_empty()).collect()
}

fn parse(text: &'static str) -> HashMap<&'static str, CommandFacts> {
    let mut all = HashMap::new();
    let mut name = "";
    for line in text.lines() {
        let fields: Vec<&'static str> = line.split('\t').collect();
        if let ["C", command, complexity, categories] = fields[..] {
            name = command;
            let categories = words(categories);
            all.insert(
                name,
                CommandFacts {
                    complexity,
                    categories,
                    ..CommandFacts::default()
                },
            );
            continue;
        }
        let Some(facts) = all.get_mut(name) else {
            continue;
        };
        let understood = parse_line(facts, &fields);
        debug_assert!(understood.is_some(), "{line}");
    }
    all
}

fn parse_line(facts: &mut CommandFacts, fields: &[&'static str]) -> Option<()> {
    match *fields {
        ["T", tip] => facts.tips.push(tip),
        ["F", flags] => facts.doc_flags = words(flags),
        ["D", since, replaced_by] => facts.deprecated = Some((since, replaced_by)),
        ["H", since, change] => facts.history.push((since, change)),
        ["K", flags, begin, find, notes] => facts.keys.push(KeyFacts {
            flags: words(flags),
            begin: begin_search(begin)?,
            find: find_keys(find)?,
            notes,
        }),
        [
            "A",
            depth,
            name,
            kind,
            display,
            key_spec,
            token,
            since,
            deprecated,
            flags,
        ] => {
            let mut list = &mut facts.arguments;
            for _ in 0..depth.parse::<usize>().ok()? {
                list = &mut list.last_mut()?.arguments;
            }
            list.push(ArgumentFacts {
                name,
                kind,
                display: if display.is_empty() { name } else { display },
                key_spec: key_spec.parse().ok(),
                token: token.strip_prefix('='),
                since,
                deprecated,
                flags: words(flags),
                arguments: Vec::new(),
            });
        }
        _ => return None,
    }
    Some(())
}

fn begin_search(text: &'static str) -> Option<BeginSearch> {
    let parts: Vec<&'static str> = text.split(':').collect();
    match parts[..] {
        ["index", at] => Some(BeginSearch::Index(at.parse().ok()?)),
        ["keyword", word, from] => Some(BeginSearch::Keyword(word, from.parse().ok()?)),
        ["unknown"] => Some(BeginSearch::Unknown),
        _ => None,
    }
}

fn find_keys(text: &'static str) -> Option<FindKeys> {
    let parts: Vec<&'static str> = text.split(':').collect();
    match parts[..] {
        ["range", last, step, limit] => {
            let (step, limit) = (step.parse().ok()?, limit.parse().ok()?);
            Some(FindKeys::Range(last.parse().ok()?, step, limit))
        }
        ["keynum", count, first, step] => {
            let (count, first) = (count.parse().ok()?, first.parse().ok()?);
            Some(FindKeys::KeyNum(count, first, step.parse().ok()?))
        }
        ["unknown"] => Some(FindKeys::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::registry;

    #[test]
    fn every_line_is_understood() {
        let text = include_str!("facts.txt");
        assert!(text.lines().count() > 1000);
        let mut facts = CommandFacts::default();
        for line in text.lines().filter(|line| !line.starts_with("C\t")) {
            let fields: Vec<&'static str> = line.split('\t').collect();
            if fields[0] == "A" && fields[1] == "0" {
                facts.arguments.clear();
            }
            assert!(parse_line(&mut facts, &fields).is_some(), "{line}");
        }
    }

    #[test]
    fn key_positions_agree_with_the_specs_of_dispatch() {
        use crate::command::table::KeySpec;
        for spec in registry::numbered() {
            let facts = of(spec.name);
            let has_keys = facts.keys.iter().any(|key| !key.has("not_key"));
            let dispatches = !matches!(spec.keys, KeySpec::None);
            let known = registry_names_without_key_spec();
            assert!(
                has_keys == dispatches || known.contains(&spec.name),
                "{}",
                spec.name
            );
        }
    }

    /// Commands that Redis gives no key although they name one, or ours that Redis has not.
    fn registry_names_without_key_spec() -> [&'static str; 3] {
        ["purgerocksdb", "rockevict", "rockevicthash"]
    }
}
