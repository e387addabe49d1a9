//! One option's record, and the small language in which the table is written.

use super::kind::{Kind, Unit};

/// Properties of options.
pub mod flag {
    /// Set at start only: CONFIG SET answers `can't set immutable config`.
    pub const START_ONLY: u32 = 1 << 0;
    /// Its words are separate arguments.
    pub const MULTI: u32 = 1 << 1;
    /// Not shown in logs: passwords.
    pub const SENSITIVE: u32 = 1 << 2;
    /// CONFIG SET needs `enable-protected-configs`.
    pub const PROTECTED: u32 = 1 << 3;
    /// Left out of the matches of patterns in CONFIG GET.
    pub const HIDDEN: u32 = 1 << 4;
    /// Refused by CONFIG SET while a data set is being loaded.
    pub const NOT_LOADING: u32 = 1 << 5;
    /// Accepted for compatibility, without effect here: reported once.
    pub const NO_EFFECT: u32 = 1 << 6;
    /// An option that Redis does not have, set at start only: CONFIG SET takes the value in force,
    /// so that who sets all that CONFIG GET shows is not refused for what he does not know.
    pub const OURS: u32 = 1 << 7;
    /// It names a file whose content counts: CONFIG SET reads it again when the name stays the same.
    pub const VOLATILE: u32 = 1 << 8;
}

/// A check beyond the kind's own.
pub type Check = fn(&[u8]) -> Result<(), &'static str>;

/// One option's facts.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Lower-case name.
    pub name: &'static str,
    /// A second name that reads and sets the same value, or the empty string.
    pub alias: &'static str,
    /// How its value reads and shows.
    pub kind: Kind,
    /// The default, as one would write it in the file.
    pub default: &'static str,
    /// Bits of [`flag`].
    pub flags: u32,
    /// A further check on the text of the value.
    pub check: Option<Check>,
}

impl OptionSpec {
    const fn new(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self {
            name,
            alias: "",
            kind,
            default,
            flags: 0,
            check: None,
        }
    }

    /// Adds a second name.
    pub(super) const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = alias;
        self
    }

    /// Adds flags.
    pub(super) const fn with(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }

    /// Only settable at start.
    pub(super) const fn start_only(self) -> Self {
        self.with(flag::START_ONLY)
    }

    /// Only settable at start, and unknown to Redis.
    pub(super) const fn ours(self) -> Self {
        self.with(flag::START_ONLY | flag::OURS)
    }

    /// Accepted, without effect here.
    pub(super) const fn no_effect(self) -> Self {
        self.with(flag::NO_EFFECT)
    }

    /// Adds a check.
    pub(super) const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Whether a flag bit is set.
    pub fn has(&self, bits: u32) -> bool {
        self.flags & bits != 0
    }
}

pub(super) const fn yes_no(name: &'static str, default: bool) -> OptionSpec {
    OptionSpec::new(name, Kind::Bool, if default { "yes" } else { "no" })
}

pub(super) const fn number(
    name: &'static str,
    default: &'static str,
    min: i128,
    max: i128,
) -> OptionSpec {
    OptionSpec::new(
        name,
        Kind::Number {
            min,
            max,
            unit: Unit::Plain,
        },
        default,
    )
}

pub(super) const fn bytes(
    name: &'static str,
    default: &'static str,
    min: i128,
    max: i128,
) -> OptionSpec {
    OptionSpec::new(
        name,
        Kind::Number {
            min,
            max,
            unit: Unit::Memory,
        },
        default,
    )
}

pub(super) const fn choice(
    name: &'static str,
    default: &'static str,
    names: &'static [(&'static str, u32)],
) -> OptionSpec {
    OptionSpec::new(name, Kind::Choice(names), default)
}

/// A string that may be empty.
pub(super) const fn text(name: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, Kind::Text { absent: false }, default)
}

/// A string that is not set while it is empty.
pub(super) const fn unset(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, Kind::Text { absent: true }, "")
}

pub(super) const fn special(name: &'static str, kind: Kind, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, kind, default)
}
