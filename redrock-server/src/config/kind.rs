//! What kinds of options there are: how each reads, checks, shows and writes its value.
//!
//! Error texts are those of Redis 7.2's `config.c`, because clients and scripts match on them.

use super::words::{os_error_text, quoted};
use crate::notify::Class;
use redrock_rdb::number::parse_i64;
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
            Self::Number { min, max, unit } => parse_number(first, min, max, unit),
            Self::Choice(names) => parse_choice(words, names, several),
            Self::Text { .. } => Ok(Value::Text(first.to_vec())),
            Self::Dir => parse_dir(words, old),
            Self::Save => parse_save(words, old, append),
            Self::OutputLimits => parse_output_limits(words, old),
            Self::OomScores => parse_oom_scores(words),
            Self::Events => parse_events(words),
            Self::Bind => parse_bind(words),
            Self::ReplicaOf => parse_replicaof(words),
            Self::Percentiles => parse_percentiles(words),
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

/// Bytes with an optional suffix in any case, as Redis's `memtoull`; no digits at all are 0.
pub fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, suffix) = text.split_at(digits);
    let scale = match suffix.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = if number.is_empty() {
        "0"
    } else {
        std::str::from_utf8(number).ok()?
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

fn parse_number(text: &[u8], min: i128, max: i128, unit: Unit) -> Result<Value, Refusal> {
    let memory = || parse_memory(text).map(i128::from);
    let percent = || {
        let digits = text.strip_suffix(b"%")?;
        parse_i64(digits)
            .filter(|n| *n >= 0)
            .map(|n| -i128::from(n))
    };
    let (found, complaint) = match unit {
        Unit::Plain => (
            parse_i64(text).map(i128::from),
            "argument couldn't be parsed into an integer",
        ),
        Unit::Memory => (memory(), "argument must be a memory value"),
        Unit::MemoryOrPercent => (
            memory().or_else(percent),
            "argument must be a memory or percent value",
        ),
        Unit::Octal => (
            std::str::from_utf8(text)
                .ok()
                .and_then(|t| i128::from_str_radix(t, 8).ok()),
            "argument couldn't be parsed as an octal number",
        ),
    };
    let number = found.ok_or(complaint)?;
    if unit == Unit::MemoryOrPercent && number < 0 {
        if number < min {
            return Err(format!("percentage argument must be less or equal to {}", -min).into());
        }
    } else if number < min || number > max {
        return Err(match unit {
            Unit::Octal => format!("argument must be between {min:o} and {max:o} inclusive"),
            _ => format!("argument must be between {min} and {max} inclusive"),
        }
        .into());
    }
    Ok(Value::Number(number))
}

fn parse_choice(
    words: &[&[u8]],
    names: &[(&'static str, u32)],
    several: bool,
) -> Result<Value, Refusal> {
    let one = |word: &&[u8]| {
        names
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| *v)
    };
    let found = words
        .iter()
        .map(one)
        .try_fold(0, |bits, value| Some(bits | value?));
    match found {
        Some(bits) if !words.is_empty() && (several || words.len() == 1) => Ok(Value::Choice(bits)),
        _ => {
            let all: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "argument(s) must be one of the following: {}",
                all.join(", ")
            )
            .into())
        }
    }
}

fn parse_dir(words: &[&[u8]], old: &Value) -> Result<Value, Refusal> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let [dir] = words else {
        return Err("wrong number of arguments".into());
    };
    let Value::Text(old) = old else {
        return Err("no current directory".into());
    };
    let base = std::path::Path::new(std::ffi::OsStr::from_bytes(old));
    let path = base.join(std::ffi::OsStr::from_bytes(dir));
    let found = path.canonicalize().and_then(|path| {
        if path.is_dir() {
            Ok(path)
        } else {
            Err(rustix::io::Errno::NOTDIR.into())
        }
    });
    match found {
        Ok(path) => Ok(Value::Text(path.into_os_string().into_vec())),
        Err(error) => Err(os_error_text(&error).into()),
    }
}

fn decimal(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.trim_start().parse().ok()
}

fn parse_save(words: &[&[u8]], old: &Value, append: bool) -> Result<Value, Refusal> {
    if let [b""] = words {
        return Ok(Value::Save(Vec::new()));
    }
    let bad = || Refusal::from("Invalid save parameters");
    let mut points = match old {
        Value::Save(points) if append => points.clone(),
        _ => Vec::new(),
    };
    for pair in words.chunks(2) {
        let [seconds, changes] = pair else {
            return Err(bad());
        };
        let seconds = decimal(seconds).filter(|s| *s >= 1).ok_or_else(bad)?;
        let changes = decimal(changes).filter(|c| *c >= 0).ok_or_else(bad)?;
        points.push(SavePoint {
            seconds: seconds as u64,
            changes: changes as u64,
        });
    }
    Ok(Value::Save(points))
}

fn parse_output_limits(words: &[&[u8]], old: &Value) -> Result<Value, Refusal> {
    let Value::OutputLimits(mut limits) = *old else {
        return Err("no current limits".into());
    };
    for row in words.chunks(4) {
        let [class, hard, soft, seconds] = row else {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        };
        let class = match class.to_ascii_lowercase().as_slice() {
            b"normal" => 0,
            b"slave" | b"replica" => 1,
            b"pubsub" => 2,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        let seconds = decimal(seconds).and_then(|s| u64::try_from(s).ok());
        let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
            (parse_memory(hard), parse_memory(soft), seconds)
        else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into(),
            );
        };
        if let Some(limit) = limits.get_mut(class) {
            *limit = OutputLimit {
                hard_bytes,
                soft_bytes,
                soft_seconds,
            };
        }
    }
    Ok(Value::OutputLimits(limits))
}

fn parse_oom_scores(words: &[&[u8]]) -> Result<Value, Refusal> {
    let [master, replica, companions] = words else {
        return Err("wrong number of arguments".into());
    };
    let score = |word: &[u8]| {
        decimal(word)
            .filter(|s| (-2000..=2000).contains(s))
            .map(|s| s as i32)
            .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
    };
    Ok(Value::OomScores([
        score(master)?,
        score(replica)?,
        score(companions)?,
    ]))
}

fn parse_events(words: &[&[u8]]) -> Result<Value, Refusal> {
    let [letters] = words else {
        return Err("wrong number of arguments".into());
    };
    let mask = std::str::from_utf8(letters)
        .ok()
        .and_then(Class::parse_mask);
    mask.map(Value::Events)
        .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
}

fn parse_bind(words: &[&[u8]]) -> Result<Value, Refusal> {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    if let [b""] = words {
        return Ok(Value::Bind(Vec::new()));
    }
    let text = |word: &&[u8]| String::from_utf8_lossy(word).into_owned();
    Ok(Value::Bind(words.iter().map(text).collect()))
}

fn parse_replicaof(words: &[&[u8]]) -> Result<Value, Refusal> {
    let [host, port] = words else {
        return Err("wrong number of arguments".into());
    };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Value::ReplicaOf(None));
    }
    let port = decimal(port)
        .and_then(|p| u16::try_from(p).ok())
        .ok_or("Invalid master port")?;
    Ok(Value::ReplicaOf(Some((
        String::from_utf8_lossy(host).into_owned(),
        port,
    ))))
}

fn parse_percentiles(words: &[&[u8]]) -> Result<Value, Refusal> {
    if let [b""] = words {
        return Ok(Value::Percentiles(Vec::new()));
    }
    let one = |word: &&[u8]| {
        let percentile = crate::value::number::parse_double(word)
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&percentile) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            );
        }
        Ok(percentile)
    };
    Ok(Value::Percentiles(
        words.iter().map(one).collect::<Result<_, &'static str>>()?,
    ))
}
