//! What kinds of options there are: how each reads, checks, shows and writes its value.
//!
//! Error texts are those of Redis 7.2's `config.c`, because clients and scripts match on them.

mod parse;

pub use redrock_daemon::size::parse_size as parse_memory;

use super::words::quoted;
use crate::notify::Class;
use std::borrow::Cow;

/// Why a value is refused, without the option's name.
pub type Refusal = Cow<'static, str>;

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain integer.
    Plain,
    /// Bytes, with Redis's suffixes (`k` is 1000, `kb` is 1024).
    Memory,
    /// As `Memory`, or a percentage, kept as a negative number.
    MemoryOrPercent,
    /// File permissions.
    Octal,
}

/// The kind of an option's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `yes` or `no`
    Bool,
    /// A number between two bounds, both included.
    Number {
        /// Least value allowed.
        min: i128,
        /// Greatest value allowed.
        max: i128,
        /// How it is written.
        unit: Unit,
    },
    /// One of some names; with `MULTI` several at once, as bits.
    Choice(&'static [(&'static str, u32)]),
    /// A string. One whose default is empty and that is `absent` when empty is left out of the
    /// file by CONFIG REWRITE.
    Text {
        /// Whether the empty string means that the option is not set.
        absent: bool,
    },
    /// The data directory; kept absolute.
    Dir,
    /// `save <seconds> <changes> ...`
    Save,
    /// `client-output-buffer-limit <class> <hard> <soft> <seconds> ...`
    OutputLimits,
    /// Three OOM scores.
    OomScores,
    /// Classes of keyspace events.
    Events,
    /// Addresses to listen on.
    Bind,
    /// `<host> <port>` or `no one`
    ReplicaOf,
    /// Percentiles, 0 to 100.
    Percentiles,
}

/// A point of `save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    /// Save when at least this many seconds have passed since the last save...
    pub seconds: u64,
    /// ...and at least this many changes were made.
    pub changes: u64,
}

/// The output buffer limit of one class of clients. 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// The client is closed at once above this.
    pub hard_bytes: u64,
    /// The client is closed when above this for `soft_seconds` in a row.
    pub soft_bytes: u64,
    /// See `soft_bytes`.
    pub soft_seconds: u64,
}

/// Names of the classes of clients, in the order of their limits. CONFIG GET still says `slave`.
const CLIENT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// Most addresses that `bind` takes.
const BIND_ADDRESSES_MAX: usize = 16;

/// An option's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Number`].
    Number(i128),
    /// Of [`Kind::Choice`].
    Choice(u32),
    /// Of [`Kind::Text`] and [`Kind::Dir`].
    Text(Vec<u8>),
    /// Of [`Kind::Save`].
    Save(Vec<SavePoint>),
    /// Of [`Kind::OutputLimits`]: normal, replica, pubsub.
    OutputLimits([OutputLimit; 3]),
    /// Of [`Kind::OomScores`]: master, replica, companions.
    OomScores([i32; 3]),
    /// Of [`Kind::Events`].
    Events(u32),
    /// Of [`Kind::Bind`].
    Bind(Vec<String>),
    /// Of [`Kind::ReplicaOf`].
    ReplicaOf(Option<(String, u16)>),
    /// Of [`Kind::Percentiles`].
    Percentiles(Vec<f64>),
}

impl Kind {
    /// Reads a value from its words. `old` is the value in force; `append` keeps its save points
    /// (further `save` lines of one configuration). `several`: more than one name may be given.
    pub fn parse(
        &self,
        words: &[&[u8]],
        old: &Value,
        append: bool,
        several: bool,
    ) -> Result<Value, Refusal> {
        let first = words.first().copied().unwrap_or_default();
        match *self {
            Self::Bool if first.eq_ignore_ascii_case(b"yes") => Ok(Value::Bool(true)),
            Self::Bool if first.eq_ignore_ascii_case(b"no") => Ok(Value::Bool(false)),
            Self::Bool => Err("argument must be 'yes' or 'no'".into()),
            Self::Number { min, max, unit } => parse::parse_number(first, min, max, unit),
            Self::Choice(names) => parse::parse_choice(words, names, several),
            Self::Text { .. } => Ok(Value::Text(first.to_vec())),
            Self::Dir => parse::parse_dir(words, old),
            Self::Save => parse::parse_save(words, old, append),
            Self::OutputLimits => parse::parse_output_limits(words, old),
            Self::OomScores => parse::parse_oom_scores(words),
            Self::Events => parse::parse_events(words),
            Self::Bind => parse::parse_bind(words),
            Self::ReplicaOf => parse::parse_replicaof(words),
            Self::Percentiles => parse::parse_percentiles(words),
        }
    }

    /// The value as CONFIG GET shows it.
    pub fn show(&self, value: &Value) -> Vec<u8> {
        match value {
            Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
            Value::Number(n) => match self {
                Self::Number {
                    unit: Unit::MemoryOrPercent,
                    ..
                } if *n < 0 => format!("{}%", -n),
                Self::Number {
                    unit: Unit::Octal, ..
                } => format!("{n:o}"),
                _ => n.to_string(),
            }
            .into_bytes(),
            Value::Choice(bits) => self.choice_names(*bits).into_bytes(),
            Value::Text(text) => text.clone(),
            Value::Save(points) => join(
                points
                    .iter()
                    .map(|p| format!("{} {}", p.seconds, p.changes)),
            ),
            Value::OutputLimits(limits) => {
                join(CLIENT_CLASSES.iter().zip(limits).map(|(class, limit)| {
                    let OutputLimit {
                        hard_bytes,
                        soft_bytes,
                        soft_seconds,
                    } = limit;
                    format!("{class} {hard_bytes} {soft_bytes} {soft_seconds}")
                }))
            }
            Value::OomScores(scores) => join(scores.iter().map(i32::to_string)),
            Value::Events(mask) => Class::format_mask(*mask).into_bytes(),
            Value::Bind(addresses) => join(addresses.iter().cloned()),
            Value::ReplicaOf(Some((host, port))) => format!("{host} {port}").into_bytes(),
            Value::ReplicaOf(None) => Vec::new(),
            Value::Percentiles(list) => join(list.iter().map(|p| show_percentile(*p))),
        }
    }

    /// The lines that CONFIG REWRITE writes, each with whether it is written even where the file
    /// has none (the value is not `default`). No lines: the option's lines are removed.
    pub fn lines(&self, name: &str, value: &Value, default: &Value) -> Vec<(Vec<u8>, bool)> {
        let force = value != default;
        let line = |text: &[u8]| [name.as_bytes(), b" ", text].concat();
        match value {
            Value::Text(text) if text.is_empty() && *self != Self::Text { absent: false } => vec![],
            Value::Text(text) => vec![(line(&quoted(text)), force)],
            Value::Number(n) if self.is_memory() && *n >= 0 => {
                vec![(line(memory_text(*n).as_bytes()), force)]
            }
            Value::Save(points) if points.is_empty() => vec![(line(b"\"\""), true)],
            Value::Save(points) => points
                .iter()
                .map(|p| {
                    (
                        line(format!("{} {}", p.seconds, p.changes).as_bytes()),
                        true,
                    )
                })
                .collect(),
            Value::OutputLimits(limits) => {
                let Value::OutputLimits(defaults) = default else {
                    return vec![];
                };
                let classes = ["normal", "replica", "pubsub"];
                let rows = classes.iter().zip(limits).zip(defaults);
                rows.map(|((class, limit), default)| {
                    let hard = memory_text(limit.hard_bytes.into());
                    let soft = memory_text(limit.soft_bytes.into());
                    let text = format!("{class} {hard} {soft} {}", limit.soft_seconds);
                    (line(text.as_bytes()), limit != default)
                })
                .collect()
            }
            Value::Events(_) => vec![(line(&quoted(&self.show(value))), force)],
            Value::Bind(_) if !force => vec![],
            Value::Bind(list) if list.is_empty() => vec![(line(b"\"\""), true)],
            Value::ReplicaOf(None) => vec![],
            Value::Percentiles(list) if list.is_empty() => vec![(line(b"\"\""), true)],
            Value::Percentiles(_) => vec![(line(&self.show(value)), true)],
            _ => vec![(line(&self.show(value)), force)],
        }
    }

    fn is_memory(&self) -> bool {
        matches!(
            self,
            Self::Number {
                unit: Unit::Memory | Unit::MemoryOrPercent,
                ..
            }
        )
    }

    fn choice_names(&self, bits: u32) -> String {
        let Self::Choice(names) = self else {
            return String::new();
        };
        if let Some((name, _)) = names.iter().find(|(_, value)| *value == bits) {
            return (*name).to_owned();
        }
        let set = names
            .iter()
            .filter(|(_, value)| *value != 0 && bits & value == *value);
        set.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text { absent: a }, Self::Text { absent: b }) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

fn join(parts: impl Iterator<Item = String>) -> Vec<u8> {
    parts.collect::<Vec<_>>().join(" ").into_bytes()
}

fn show_percentile(percentile: f64) -> String {
    let text = format!("{percentile:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes with the largest suffix that divides them.
fn memory_text(bytes: i128) -> String {
    for (shift, suffix) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes % (1 << shift) == 0 {
            return format!("{}{suffix}", bytes >> shift);
        }
    }
    bytes.to_string()
}
