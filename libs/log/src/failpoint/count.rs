//! Operations on files by their number: every state that a death between two of them can leave is
//! reached, and none has to be named.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;

use super::{Action, ArmError, signal};

/// What is done to a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Bytes are written.
    Write,
    /// `fdatasync`.
    SyncData,
    /// `fsync`.
    Sync,
    /// A file is made, or emptied if it is there.
    Create,
    /// A file is cut, extended, or given blocks.
    Resize,
    /// A name is replaced.
    Rename,
    /// A file gets a second name.
    Link,
    /// A name is removed.
    Unlink,
    /// A folder is made.
    CreateFolder,
    /// A folder's names become durable.
    SyncFolder,
    /// Several at once, which can't be told apart here.
    Compound,
}

impl Operation {
    /// Whether it is one of the steps of a procedure, rather than of the stream into an open file.
    fn is_step(self) -> bool {
        !matches!(self, Self::Write | Self::SyncData)
    }
}

/// What it is done to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    /// A name.
    Path(&'a Path),
    /// What was opened.
    File(&'a File),
}

impl Object<'_> {
    fn path(&self) -> PathBuf {
        match self {
            Object::Path(path) => path.to_path_buf(),
            Object::File(file) => {
                let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                std::fs::read_link(link).unwrap_or_default()
            }
        }
    }
}

/// The Nth operation of a kind, since the start or since a named point was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    steps_only: bool,
    /// The named point to wait for before anything is counted.
    behind: Option<String>,
    number: u64,
    seen: u64,
    action: Action,
}

impl Point {
    /// `None`: a name. `Err`: a number that makes no sense.
    pub(super) fn parse(name: &str, action: Action) -> Result<Option<Self>, ()> {
        let Some((kind, number)) = name.split_once('@') else {
            return Ok(None);
        };
        let steps_only = match kind {
            "fs" => false,
            "step" => true,
            _ => return Err(()),
        };
        let (behind, number) = match number.rsplit_once('+') {
            Some((behind, number)) => (Some(behind.to_owned()), number),
            None => (None, number),
        };
        let number = number.parse().ok().filter(|number| *number > 0).ok_or(())?;
        Ok(Some(Self {
            steps_only,
            behind,
            number,
            seen: 0,
            action,
        }))
    }

    /// Counts an operation; whether it is the one.
    fn is_met(&mut self, step: bool) -> bool {
        if self.behind.is_some() || (self.steps_only && !step) {
            return false;
        }
        self.seen += 1;
        match self.action {
            Action::Show => self.seen >= self.number,
            _ => self.seen == self.number,
        }
    }
}

/// Whether anything is armed: all that is looked at otherwise.
static ARMED: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<Vec<Point>> = Mutex::new(Vec::new());
static ALL: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);

pub(super) fn arm(points: Vec<Point>) -> Result<(), ArmError> {
    if points.is_empty() {
        return Ok(());
    }
    let mut armed = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
    if !armed.is_empty() {
        return Err(ArmError::ArmedBefore);
    }
    *armed = points;
    ARMED.store(true, Ordering::Release);
    Ok(())
}

/// Takes note that a named point was passed.
pub(super) fn passed(name: &str) {
    if !is_counting() {
        return;
    }
    let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
    for point in points.iter_mut() {
        point.behind.take_if(|behind| behind == name);
    }
}

/// Counts an operation; what is to happen at it, if anything. The lock makes operations of other
/// threads wait at a point where this process is about to die.
fn strike(operation: Operation, object: Object<'_>) -> io::Result<Option<Action>> {
    let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
    let step = operation.is_step();
    let all = ALL.fetch_add(1, Ordering::Relaxed) + 1;
    let steps = STEPS.fetch_add(u64::from(step), Ordering::Relaxed) + u64::from(step);
    let mut action = None;
    for point in points.iter_mut() {
        // All of them count, also behind one that is met.
        if point.is_met(step) {
            action = action.or(Some(point.action));
        }
    }
    let Some(action) = action else {
        return Ok(None);
    };
    let path = object.path();
    tracing::warn!(?action, ?operation, path = %path.display(), fs = all, step = steps, "failpoint");
    match action {
        Action::Kill | Action::Tear => Ok(Some(action)),
        Action::Error => Err(io::Error::other(format!("failpoint at operation {all}"))),
        Action::Hang => {
            signal(Signal::STOP);
            Ok(None)
        }
        Action::Show => Ok(None),
    }
}

/// Whether operations are counted at all.
pub(crate) fn is_counting() -> bool {
    ARMED.load(Ordering::Acquire)
}

/// Does an operation; tests may end the process before or behind it.
pub(crate) fn around<T>(
    operation: Operation,
    object: Object<'_>,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    if !is_counting() {
        return act();
    }
    let action = strike(operation, object)?;
    if action == Some(Action::Tear) {
        signal(Signal::KILL);
    }
    let result = act();
    if action.is_some() {
        signal(Signal::KILL);
    }
    result
}

/// A write; one that is torn does its first half.
pub(crate) fn counted_write(
    file: &File,
    bytes: &[u8],
    write: impl Fn(&[u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    if !is_counting() {
        return write(bytes);
    }
    let action = strike(Operation::Write, Object::File(file))?;
    if action == Some(Action::Tear) {
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        let _ = write(half);
        signal(Signal::KILL);
    }
    let result = write(bytes);
    if action.is_some() {
        signal(Signal::KILL);
    }
    result
}

/// An operation on files that does not go through [`crate::fs::RealFs`].
pub fn counted<T>(path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    around(Operation::Compound, Object::Path(path), act)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_met_by_its_number_among_all_or_among_steps() {
        let met = |name: &str, action, operations: &[bool]| {
            let mut point = Point::parse(name, action).unwrap().unwrap();
            let met = |step: &bool| point.is_met(*step);
            operations.iter().map(met).collect::<Vec<bool>>()
        };
        let some = [false, true, false, true, false];
        let third = [false, false, true, false, false];
        assert_eq!(met("fs@3", Action::Kill, &some), third);
        let second_step = [false, false, false, true, false];
        assert_eq!(met("step@2", Action::Tear, &some), second_step);
        let from_third = [false, false, true, true, true];
        assert_eq!(met("fs@3", Action::Show, &some), from_third);
        assert_eq!(met("fs@serving+1", Action::Kill, &some), [false; 5]);
        assert_eq!(Point::parse("save-before-rename", Action::Kill), Ok(None));
    }

    #[test]
    fn what_is_not_armed_is_done() {
        let done = counted(Path::new("x"), || Ok(5)).unwrap();
        assert_eq!(done, 5);
    }
}
