//! Named points at which a test can make the process die, fail or hang.
//!
//! They are compiled into every build, so that what is tested is what runs. They can't be armed
//! by accident: it takes the hidden flag `--allow-failpoints` **and** the environment variable
//! `REDROCK_FAILPOINTS`, a comma-separated list of `name:action` with these actions:
//!
//! - `kill`: SIGKILL to this process, so that nothing is flushed or dropped;
//! - `error`: the step fails with an IO error;
//! - `hang`: SIGSTOP to this process.
//!
//! Each point acts once. While nothing is armed a point costs one load.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{Signal, getpid, kill_process};

/// Environment variable with the points to arm.
pub const VARIABLE: &str = "REDROCK_FAILPOINTS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Error,
    Hang,
}

static ARMED: OnceLock<Mutex<HashMap<String, Action>>> = OnceLock::new();

/// Arms what the list says; to be called once, at start. A malformed list is an error.
pub fn arm(list: &str) -> anyhow::Result<()> {
    let points = parse(list)?;
    if points.is_empty() {
        return Ok(());
    }
    tracing::warn!(points = list, "failpoints are armed: this is a test run");
    ARMED
        .set(Mutex::new(points))
        .map_err(|_| anyhow::anyhow!("failpoints were armed before"))
}

fn parse(list: &str) -> anyhow::Result<HashMap<String, Action>> {
    list.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (name, action) = part
                .trim()
                .split_once(':')
                .ok_or_else(|| anyhow::anyhow!("failpoint {part:?} is not name:action"))?;
            let action = match action {
                "kill" => Action::Kill,
                "error" => Action::Error,
                "hang" => Action::Hang,
                other => anyhow::bail!("failpoint action {other:?} is not kill, error or hang"),
            };
            Ok((name.to_owned(), action))
        })
        .collect()
}

/// Passes a point.
pub fn hit(name: &str) -> io::Result<()> {
    let Some(armed) = ARMED.get() else {
        return Ok(());
    };
    let action = armed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(name);
    match action {
        None => Ok(()),
        Some(Action::Error) => Err(io::Error::other(format!("failpoint {name}"))),
        Some(Action::Kill) => {
            let _ = kill_process(getpid(), Signal::KILL);
            Ok(())
        }
        Some(Action::Hang) => {
            let _ = kill_process(getpid(), Signal::STOP);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_malformed_ones_refused() {
        let points = parse("rewrite-step-1:kill, save-rename:error,").unwrap();
        assert_eq!(points.len(), 2);
        assert_eq!(points.get("rewrite-step-1"), Some(&Action::Kill));
        assert!(parse("x").is_err());
        assert!(parse("x:explode").is_err());
        assert!(hit("never-armed").is_ok());
    }
}
