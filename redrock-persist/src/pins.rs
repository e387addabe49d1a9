//! Files that others still read: kept until unpinned, or until the holder's lease has run out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redrock_proto::RpcError;

use crate::aof::keeper::Keeper;
use crate::aof::retention::{Pinned, ReplacedFile, removable};
use crate::error::Result;

/// Holders at a time; replicas are at most 1024.
const HOLDERS_MAX: usize = 4096;
const PATHS_MAX: usize = 65536;

/// What a holder keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pin {
    /// Relative to the data directory, or absolute outside it.
    paths: BTreeSet<PathBuf>,
    from_offset: Option<u64>,
    ends: Instant,
}

/// All pins.
#[derive(Debug, Default)]
pub struct Pins {
    by_holder: BTreeMap<String, Pin>,
    /// Files that are being removed: too late to pin them.
    condemned: BTreeSet<PathBuf>,
    /// The stream is kept from here on for replicas that come back.
    backlog_from: Option<u64>,
    /// When a replica was last known to be attached, or to have been.
    replica_seen: Option<Instant>,
}

/// What the holders are called that replicas pin by.
const REPLICA_PREFIX: &str = "replica-";

impl Pins {
    /// Replaces what the holder has pinned; without paths and offset only the lease is renewed.
    pub fn pin(
        &mut self,
        holder: &str,
        paths: BTreeSet<PathBuf>,
        from_offset: Option<u64>,
        lease: Duration,
        now: Instant,
    ) -> Result<()> {
        if holder.is_empty() || holder.len() > 128 {
            return Err(RpcError::invalid("holder must have 1 to 128 bytes"));
        }
        if let Some(path) = paths.iter().find(|path| self.condemned.contains(*path)) {
            let text = format!("{} is being removed", path.display());
            return Err(RpcError::not_found(text));
        }
        if paths.len() > PATHS_MAX {
            return Err(RpcError::invalid("paths are too many"));
        }
        if self.by_holder.len() >= HOLDERS_MAX && !self.by_holder.contains_key(holder) {
            return Err(RpcError::busy("too many holders of pins"));
        }
        if holder.starts_with(REPLICA_PREFIX) {
            self.replica_seen = Some(now);
            // Until it is worked out how far back: a link that breaks before may come back for all of it.
            self.backlog_from.get_or_insert(0);
        }
        let ends = now + lease;
        if paths.is_empty()
            && from_offset.is_none()
            && let Some(pin) = self.by_holder.get_mut(holder)
        {
            pin.ends = ends;
            return Ok(());
        }
        self.by_holder.insert(
            holder.to_owned(),
            Pin {
                paths,
                from_offset,
                ends,
            },
        );
        Ok(())
    }

    /// Tells whether anything was pinned.
    pub fn unpin(&mut self, holder: &str) -> bool {
        if holder.starts_with(REPLICA_PREFIX) {
            self.replica_seen = Some(Instant::now());
        }
        self.by_holder.remove(holder).is_some()
    }

    /// Somebody was attached before we began: a former process has kept the stream for it.
    pub fn assume_replica(&mut self, now: Instant) {
        self.replica_seen.get_or_insert(now);
    }

    /// For how long no replica has been attached; `None`: none ever was.
    pub fn alone_for(&self, now: Instant) -> Option<Duration> {
        let is_attached = self
            .by_holder
            .keys()
            .any(|holder| holder.starts_with(REPLICA_PREFIX));
        let seen = self.replica_seen?;
        Some(match is_attached {
            true => Duration::ZERO,
            false => now.saturating_duration_since(seen),
        })
    }

    /// Keeps the stream from an offset on, whoever has pinned what.
    pub fn keep_backlog(&mut self, from: Option<u64>) {
        self.backlog_from = from;
    }

    /// Whether the stream is kept for replicas that come back.
    pub fn keeps_backlog(&self) -> bool {
        self.backlog_from.is_some()
    }

    /// Drops what has run out; gives the holders.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        let over: Vec<String> = self
            .by_holder
            .iter()
            .filter(|(_, pin)| pin.ends <= now)
            .map(|(holder, _)| holder.clone())
            .collect();
        for holder in &over {
            self.by_holder.remove(holder);
        }
        over
    }

    /// Chooses what may be removed of a directory; nobody can pin it any more.
    fn condemn(&mut self, directory: &Path, files: &[ReplacedFile]) -> Vec<String> {
        let mut pinned = self.of_directory(directory);
        let kept = [pinned.from_offset, self.backlog_from];
        pinned.from_offset = kept.into_iter().flatten().min();
        let names = removable(files, &pinned);
        let paths = names.iter().map(|name| directory.join(name));
        self.condemned.extend(paths);
        names
    }

    /// Who keeps a file.
    pub fn holders_of(&self, path: &Path) -> Vec<String> {
        self.by_holder
            .iter()
            .filter(|(_, pin)| pin.paths.contains(path))
            .map(|(holder, _)| holder.clone())
            .collect()
    }

    /// Number of files pinned by name.
    pub fn count(&self) -> usize {
        let all: BTreeSet<&PathBuf> = self.by_holder.values().flat_map(|pin| &pin.paths).collect();
        all.len()
    }

    /// What is pinned of a directory, given by its path relative to the data directory.
    pub fn of_directory(&self, directory: &Path) -> Pinned {
        let names = self
            .by_holder
            .values()
            .flat_map(|pin| &pin.paths)
            .filter(|path| path.parent() == Some(directory))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        Pinned {
            names,
            from_offset: self
                .by_holder
                .values()
                .filter_map(|pin| pin.from_offset)
                .min(),
        }
    }
}

/// Removes the replaced files of the log that nobody has pinned. Gives their number. Blocks on
/// the disk.
pub fn delete_unpinned(keeper: &Keeper, pins: &Mutex<Pins>, root: &Path) -> Result<usize> {
    let directory = keeper.directory();
    let directory = directory.strip_prefix(root).unwrap_or(directory);
    let deleted = keeper.delete_history(|files| pins.lock().condemn(directory, files));
    // Removed they are missing anyhow; what could not be removed may be pinned again.
    pins.lock().condemned.clear();
    deleted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn pins_hold_until_unpinned_or_until_the_lease_ends() {
        let now = Instant::now();
        let lease = Duration::from_secs(1);
        let mut pins = Pins::default();
        pins.pin("a", paths(&["d/x", "d/y", "z"]), None, lease, now)
            .unwrap();
        pins.pin("b", paths(&["d/x"]), Some(7), lease * 3, now)
            .unwrap();
        assert_eq!(pins.count(), 3);
        assert_eq!(pins.holders_of(Path::new("d/x")), ["a", "b"]);
        let pinned = pins.of_directory(Path::new("d"));
        assert_eq!(pinned.names.into_iter().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(pinned.from_offset, Some(7));

        assert!(pins.expire(now + lease / 2).is_empty());
        pins.pin("a", BTreeSet::new(), None, lease, now + lease / 2)
            .unwrap();
        assert!(pins.expire(now + lease).is_empty(), "it was renewed");
        assert_eq!(pins.expire(now + lease * 2), ["a"]);
        assert!(pins.unpin("b") && !pins.unpin("b"));
        assert_eq!(pins.count(), 0);
    }

    #[test]
    fn what_is_about_to_be_removed_can_not_be_pinned() {
        let mut pins = Pins::default();
        let lease = Duration::from_secs(1);
        pins.pin("a", paths(&["d/x"]), None, lease, Instant::now())
            .unwrap();
        let files = ["x", "y"].map(|name| ReplacedFile {
            name: name.into(),
            end_offset: None,
        });
        assert_eq!(pins.condemn(Path::new("d"), &files), ["y"]);
        let late = pins.pin("b", paths(&["d/y"]), None, lease, Instant::now());
        assert_eq!(late.unwrap_err().code, redrock_proto::ErrorCode::NotFound);
        pins.pin("b", paths(&["d/x"]), None, lease, Instant::now())
            .unwrap();
    }

    #[test]
    fn the_backlog_keeps_segments_and_replicas_are_remembered() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut pins = Pins::default();
        assert_eq!(pins.alone_for(now), None);
        pins.pin("backup-1", BTreeSet::new(), Some(900), second, now)
            .unwrap();
        assert_eq!(pins.alone_for(now), None, "a backup is no replica");
        pins.pin("replica-7", BTreeSet::new(), Some(900), second, now)
            .unwrap();
        assert_eq!(pins.alone_for(now + second / 2), Some(Duration::ZERO));
        assert!(pins.keeps_backlog(), "from the first moment on");
        pins.expire(now + second);
        assert_eq!(pins.alone_for(now + second * 3), Some(second * 3));
        pins.assume_replica(now + second * 2);
        assert_eq!(pins.alone_for(now + second * 3), Some(second * 3));
        let segment = |name: &str, end_offset| ReplacedFile {
            name: name.into(),
            end_offset,
        };
        let files = [segment("x", Some(100)), segment("y", Some(200))];
        pins.keep_backlog(Some(150));
        assert_eq!(pins.condemn(Path::new("d"), &files), ["x"]);
        pins.keep_backlog(None);
        assert_eq!(pins.condemn(Path::new("d"), &files), ["x", "y"]);
    }

    #[test]
    fn names_of_holders_are_checked() {
        let mut pins = Pins::default();
        let result = pins.pin("", paths(&[]), None, Duration::ZERO, Instant::now());
        assert!(result.is_err());
    }
}
