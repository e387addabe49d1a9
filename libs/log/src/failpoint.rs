//! Points at which a test can make a daemon die, fail or hang: named ones, and every operation that
//! changes a file, by its number.
//!
//! They are compiled into every build, so that what is tested is what runs (ADR 15). They can't be
//! armed by accident: it takes the hidden flag `--allow-failpoints` **and** the environment variable
//! `REDROCK_FAILPOINTS`, a comma-separated list of `[daemon/]point:action`. `daemon` is `server` or
//! `persist`, the latter if nothing is said. A point is
//!
//! - a name: where the code passes [`hit`] with it;
//! - `fs@N`: the Nth operation that changes a file or a folder since the start;
//! - `step@N`: the same, writes and `fdatasync` of open files left out, so that a busy log does
//!   not hide the steps of a procedure. `fs@NAME+N` and `step@NAME+N` count from where the named
//!   point was passed.
//!
//! Actions:
//!
//! - `kill`: SIGKILL to this process, so that nothing is flushed or dropped; at an operation, when it
//!   has been done;
//! - `tear`: SIGKILL in the middle of an operation: half of a write is done, of others nothing;
//! - `error`: the step fails with an IO error, and is not done;
//! - `hang`: SIGSTOP to this process;
//! - `show`: each operation from that number on is told in the log.
//!
//! Each point but `show` acts once. While nothing is armed a point costs one load.

mod count;

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{Signal, getpid, kill_process};

pub use count::counted;
pub(crate) use count::{Object, Operation, around, counted_write, is_counting};

/// Environment variable with the points to arm.
pub const VARIABLE: &str = "REDROCK_FAILPOINTS";
/// Flag without which the variable is not looked at.
pub const FLAG: &str = "--allow-failpoints";

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Tear,
    Error,
    Hang,
    Show,
}

/// What was read from a list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Points {
    named: HashMap<String, Action>,
    counted: Vec<count::Point>,
}

/// A list that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// No action behind the point.
    #[error("failpoint {0:?} is not point:action")]
    Malformed(String),
    /// An action that there is not, or not at this point.
    #[error("failpoint {0:?}: the action is not kill, tear, error, hang or show, or not for it")]
    Action(String),
    /// Only once in a process.
    #[error("failpoints were armed before")]
    ArmedBefore,
}

static ALLOWED: OnceLock<()> = OnceLock::new();
static NAMED: OnceLock<Mutex<HashMap<String, Action>>> = OnceLock::new();

/// Arms what the environment names for `daemon`; to be called once, at start, and only if the flag
/// was given.
pub fn arm(daemon: &str) -> Result<(), ArmError> {
    // Nobody else sets it: a second call has nothing to add.
    let _ = ALLOWED.set(());
    match std::env::var(VARIABLE) {
        Ok(list) => arm_list(&list, daemon),
        Err(_) => Ok(()),
    }
}

/// Whether this process was given the flag; what it starts is to be given it, too.
pub fn allowed() -> bool {
    ALLOWED.get().is_some()
}

fn arm_list(list: &str, daemon: &str) -> Result<(), ArmError> {
    let points = parse(list, daemon)?;
    if points == Points::default() {
        return Ok(());
    }
    tracing::warn!(points = list, "failpoints are armed: this is a test run");
    count::arm(points.counted)?;
    NAMED
        .set(Mutex::new(points.named))
        .map_err(|_| ArmError::ArmedBefore)
}

fn parse(list: &str, daemon: &str) -> Result<Points, ArmError> {
    let mut points = Points::default();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (whose, rest) = part.split_once('/').unwrap_or(("persist", part));
        let (name, action) = rest
            .split_once(':')
            .ok_or_else(|| ArmError::Malformed(part.to_owned()))?;
        let refused = || ArmError::Action(part.to_owned());
        let action = match action {
            "kill" => Action::Kill,
            "tear" => Action::Tear,
            "error" => Action::Error,
            "hang" => Action::Hang,
            "show" => Action::Show,
            _ => return Err(refused()),
        };
        let counted = count::Point::parse(name, action).map_err(|()| refused())?;
        if counted.is_none() && matches!(action, Action::Tear | Action::Show) {
            return Err(refused());
        }
        if whose != daemon {
            continue;
        }
        match counted {
            Some(point) => points.counted.push(point),
            None => {
                points.named.insert(name.to_owned(), action);
            }
        }
    }
    Ok(points)
}

/// Passes a named point.
pub fn hit(name: &str) -> io::Result<()> {
    count::passed(name);
    let Some(armed) = NAMED.get() else {
        return Ok(());
    };
    let action = armed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(name);
    match action {
        Some(Action::Error) => Err(io::Error::other(format!("failpoint {name}"))),
        Some(Action::Kill | Action::Tear) => {
            signal(Signal::KILL);
            Ok(())
        }
        Some(Action::Hang) => {
            signal(Signal::STOP);
            Ok(())
        }
        Some(Action::Show) | None => Ok(()),
    }
}

/// To this process. SIGKILL is in force before the call returns.
fn signal(signal: Signal) {
    // It can't fail: the process is there and ours.
    let _ = kill_process(getpid(), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_malformed_ones_refused() {
        let list = "rewrite-step-1:kill, save-rename:error,server/step@7:tear,persist/fs@3:kill";
        let ours = parse(list, "persist").unwrap();
        assert_eq!(ours.named.len(), 2);
        assert_eq!(ours.named.get("rewrite-step-1"), Some(&Action::Kill));
        assert_eq!(ours.counted.len(), 1);
        let servers = parse(list, "server").unwrap();
        assert!(servers.named.is_empty());
        assert_eq!(servers.counted.len(), 1);
        for wrong in [
            "x",
            "x:explode",
            "x:tear",
            "fs@0:kill",
            "fs@x:kill",
            "y@1:kill",
        ] {
            assert!(parse(wrong, "persist").is_err(), "{wrong}");
        }
        assert!(hit("never-armed").is_ok());
    }
}
