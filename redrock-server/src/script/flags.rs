//! What a script says of itself in its first line: `#!lua flags=no-writes,allow-stale`.

use crate::command::error::CommandError;
use crate::command::table::{Spec, flag};
use crate::net::parser::split_quoted;

/// Flags of scripts and functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u32);

impl Flags {
    /// It never writes.
    pub const NO_WRITES: Self = Self(1 << 0);
    /// It may run when memory is short.
    pub const ALLOW_OOM: Self = Self(1 << 1);
    /// It may run on a replica whose data are stale.
    pub const ALLOW_STALE: Self = Self(1 << 2);
    /// It does not run in a cluster.
    pub const NO_CLUSTER: Self = Self(1 << 3);
    /// It says nothing of itself: as scripts were before there were flags.
    pub const COMPATIBLE: Self = Self(1 << 4);
    /// It may use keys of different slots.
    pub const ALLOW_CROSS_SLOT: Self = Self(1 << 5);

    /// Their names, in the order in which they are shown.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::NO_WRITES, "no-writes"),
        (Self::ALLOW_OOM, "allow-oom"),
        (Self::ALLOW_STALE, "allow-stale"),
        (Self::NO_CLUSTER, "no-cluster"),
        (Self::ALLOW_CROSS_SLOT, "allow-cross-slot-keys"),
    ];

    /// Whether one of these flags is set.
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// These and others.
    pub fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// A flag by its name.
    pub fn named(name: &[u8]) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        let found = names.find(|(_, known)| known.as_bytes() == name);
        found.map(|(flag, _)| *flag)
    }

    /// A flag by its name, as functions write it.
    pub fn named_in_any_case(name: &[u8]) -> Option<Self> {
        Self::named(&name.to_ascii_lowercase())
    }

    /// The names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = Self::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.has(*flag));
        set.map(|(_, name)| name)
    }

    /// The record of the command that runs such a script: what a script says of itself takes the
    /// place of what the command alone would be.
    pub fn apply(self, spec: &Spec) -> Spec {
        let mut spec = *spec;
        if self.has(Self::COMPATIBLE) {
            return spec;
        }
        spec.flags &= !(flag::STALE | flag::DENYOOM | flag::WRITE | flag::MAY_REPLICATE);
        if !self.has(Self::ALLOW_OOM.with(Self::NO_WRITES)) {
            spec.flags |= flag::DENYOOM;
        }
        if !self.has(Self::NO_WRITES) {
            spec.flags |= flag::WRITE;
        }
        if self.has(Self::ALLOW_STALE) {
            spec.flags |= flag::STALE;
        }
        spec
    }
}

/// A text for an error that repeats bytes of the script.
pub(super) fn error(text: &str, repeated: &[u8]) -> CommandError {
    CommandError::Bytes([b"ERR ", text.as_bytes(), repeated].concat())
}

/// The first line's words, and how long that line is without its end.
pub(super) enum FirstLine {
    /// Not a first line of that kind.
    None,
    /// It does not end.
    Endless,
    /// Its words, quotes resolved; `None` if the quotes don't match.
    Words(Option<Vec<Vec<u8>>>, usize),
}

pub(super) fn first_line(source: &[u8]) -> FirstLine {
    if !source.starts_with(b"#!") {
        return FirstLine::None;
    }
    // As in Redis a NUL ends it too: then it has no end.
    let end = source.iter().position(|byte| matches!(byte, b'\n' | 0));
    match end.filter(|&end| source.get(end) == Some(&b'\n')) {
        None => FirstLine::Endless,
        Some(end) => FirstLine::Words(split_quoted(source.get(..end).unwrap_or_default()), end),
    }
}

/// The flags of a script, and the length of its first line that says them (without its end, so that
/// lines keep their numbers).
pub fn of_script(source: &[u8]) -> Result<(Flags, usize), CommandError> {
    let (words, length) = match first_line(source) {
        FirstLine::None => return Ok((Flags::COMPATIBLE, 0)),
        FirstLine::Endless => return Err(CommandError::fixed("ERR Invalid script shebang")),
        FirstLine::Words(words, length) => (words.unwrap_or_default(), length),
    };
    let Some((engine, options)) = words.split_first() else {
        return Err(CommandError::fixed("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        return Err(error("Unexpected engine in script shebang: ", engine));
    }
    let mut flags = Flags::default();
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(error("Unknown lua shebang option: ", option));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|byte| *byte == b',') {
            let flag = Flags::named(name);
            flags =
                flags.with(flag.ok_or_else(|| error("Unexpected flag in script shebang: ", name))?);
        }
    }
    Ok((flags, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(source: &str) -> Result<(Flags, usize), String> {
        let text = |error: CommandError| String::from_utf8_lossy(&error.resp()).into_owned();
        of_script(source.as_bytes()).map_err(text)
    }

    #[test]
    fn flags_stand_in_the_first_line() {
        assert_eq!(parsed("return 1"), Ok((Flags::COMPATIBLE, 0)));
        assert_eq!(parsed("#!lua\nreturn 1"), Ok((Flags::default(), 5)));
        let both = Flags::NO_WRITES.with(Flags::ALLOW_STALE);
        assert_eq!(
            parsed("#!lua flags=no-writes,allow-stale\n"),
            Ok((both, 33))
        );
        assert_eq!(parsed("#!lua flags=\n"), Ok((Flags::default(), 12)));
    }

    #[test]
    fn a_wrong_first_line_is_refused_with_redis_s_words() {
        for (source, text) in [
            ("#!lua", "Invalid script shebang"),
            ("#!\n", "Unexpected engine in script shebang: #!"),
            (
                "#!not-lua\n",
                "Unexpected engine in script shebang: #!not-lua",
            ),
            ("#!lua flags=no\n", "Unexpected flag in script shebang: no"),
            ("#!lua x=y\n", "Unknown lua shebang option: x=y"),
            ("#!lua \"\n", "Invalid engine in script shebang"),
        ] {
            assert_eq!(parsed(source), Err(format!("ERR {text}")), "{source}");
        }
    }
}
