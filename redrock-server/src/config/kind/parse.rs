//! From the words of a line to values, with Redis's error texts.

use super::super::words::os_error_text;
use super::{BIND_ADDRESSES_MAX, OutputLimit, Refusal, SavePoint, Unit, Value};
use crate::notify::Class;
use redrock_daemon::size::parse_size as parse_memory;
use redrock_rdb::number::parse_i64;

pub(super) fn parse_number(
    text: &[u8],
    min: i128,
    max: i128,
    unit: Unit,
) -> Result<Value, Refusal> {
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

pub(super) fn parse_choice(
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

pub(super) fn parse_dir(words: &[&[u8]], old: &Value) -> Result<Value, Refusal> {
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

pub(super) fn parse_save(words: &[&[u8]], old: &Value, append: bool) -> Result<Value, Refusal> {
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

pub(super) fn parse_output_limits(words: &[&[u8]], old: &Value) -> Result<Value, Refusal> {
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

pub(super) fn parse_oom_scores(words: &[&[u8]]) -> Result<Value, Refusal> {
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

pub(super) fn parse_events(words: &[&[u8]]) -> Result<Value, Refusal> {
    let [letters] = words else {
        return Err("wrong number of arguments".into());
    };
    let mask = std::str::from_utf8(letters)
        .ok()
        .and_then(Class::parse_mask);
    mask.map(Value::Events)
        .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
}

pub(super) fn parse_bind(words: &[&[u8]]) -> Result<Value, Refusal> {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    if let [b""] = words {
        return Ok(Value::Bind(Vec::new()));
    }
    let text = |word: &&[u8]| String::from_utf8_lossy(word).into_owned();
    Ok(Value::Bind(words.iter().map(text).collect()))
}

pub(super) fn parse_replicaof(words: &[&[u8]]) -> Result<Value, Refusal> {
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

pub(super) fn parse_percentiles(words: &[&[u8]]) -> Result<Value, Refusal> {
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
