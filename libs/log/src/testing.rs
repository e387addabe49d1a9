//! Simulated files for tests of this crate and of others: power loss and faults.
//!
//! [`PowerLossFs`] keeps, per file and per directory, what was synced and what was not.
//! [`PowerLossFs::crash`] throws away what was not, entirely or in part:
//! - unsynced bytes of a file vanish, survive as a prefix torn at any byte, or survive in
//!   scattered pieces with zeros between (what delayed allocation does);
//! - unsynced directory operations vanish or survive each on its own; a rename is atomic
//!   but not ordered after other operations;
//! - a failed sync drops the pages it should have written and the next sync of the same
//!   file succeeds without them (what Linux does), so retrying it loses data here too.
//!
//! Faults: the nth operation can fail with an errno, the power can go at the nth
//! operation, and a capacity turns writes into short writes followed by ENOSPC.

mod random;
mod state;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::fs::{Fs, FsFile, Metadata, OpenMode};
pub use random::TestRandom;
use state::State;

/// What a crash keeps of the writes and directory operations that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// Nothing survives that was not synced.
    DropAll,
    /// Everything survives (the process was killed, the machine went on).
    KeepAll,
    /// A random prefix of each file's writes survives, the last one torn at any byte;
    /// each directory operation survives or not.
    TornPrefix {
        /// Seed of the choices; print it when a test fails.
        seed: u64,
    },
    /// Each write survives, vanishes or is torn on its own, with zeros where one is
    /// missing; each directory operation survives or not.
    Scattered {
        /// Seed of the choices; print it when a test fails.
        seed: u64,
    },
}

/// A file system in memory with faults; cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct PowerLossFs {
    state: Arc<Mutex<State>>,
}

impl PowerLossFs {
    /// An empty file system whose only directory is `root`, already durable.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let fs = Self::default();
        fs.lock().add_durable_root(root.into());
        fs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking test must not hide its message behind a poisoned lock.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Number of changing operations so far (opens that create, writes, syncs, renames,
    /// links, unlinks, cuts, allocations).
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Lets the operation that is `after` operations away fail with `errno`, once
    /// (0 = the next one).
    pub fn fail_after(&self, after: u64, errno: i32) {
        let mut state = self.lock();
        let at = state.operations + after;
        state.faults.push((at, errno));
    }

    /// Forgets faults set by [`Self::fail_after`] that were not reached.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Lets the power go at the operation that is `after` operations away: it and all
    /// later ones fail until [`Self::crash`] is called.
    pub fn lose_power_after(&self, after: u64) {
        let mut state = self.lock();
        state.power_lost_at = Some(state.operations + after);
    }

    /// Whether the point set by [`Self::lose_power_after`] was reached.
    pub fn power_is_lost(&self) -> bool {
        let state = self.lock();
        state.power_lost_at.is_some_and(|at| state.operations > at)
    }

    /// How long a sync of a file takes from now on.
    pub fn set_sync_time(&self, time: Duration) {
        self.lock().sync_time = time;
    }

    /// Total bytes that all files may take; `None` lifts the limit.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.lock().capacity_bytes = capacity;
    }

    /// Drops what `mode` says, makes the rest durable, and turns the power on again. Files
    /// that were open before fail from now on: open them anew.
    pub fn crash(&self, mode: CrashMode) {
        self.lock().crash(mode);
    }

    /// The whole content of a file as a reader would see it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.lock().content(path)
    }

    /// Flips the bits of `mask` in one byte, on the medium and in the cache (bit rot).
    pub fn flip_bits(&self, path: &Path, position: u64, mask: u8) -> bool {
        self.lock().flip_bits(path, position, mask)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    fs: PowerLossFs,
    inode: u64,
    generation: u64,
    writable: bool,
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.fs.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("file was opened before the power loss"));
        }
        act(&mut state)
    }

    fn changing<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        if !self.writable {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        self.with(|state| {
            state.step()?;
            act(state)
        })
    }
}

impl FsFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|state| state.read_at(self.inode, buffer, position))
    }
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.changing(|state| state.write_at(self.inode, bytes, position))
    }
    fn sync_data(&self) -> io::Result<()> {
        let time = self.with(|state| Ok(state.sync_time))?;
        std::thread::sleep(time);
        self.with(|state| match state.step() {
            Ok(()) => {
                state.sync_file(self.inode);
                Ok(())
            }
            Err(error) => {
                state.drop_pending(self.inode);
                Err(error)
            }
        })
    }
    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changing(|state| state.set_len(self.inode, len))
    }
    fn len(&self) -> io::Result<u64> {
        self.with(|state| state.len(self.inode))
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.changing(|state| state.allocate(self.inode, len))
    }
}

impl Fs for PowerLossFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.lock();
        let inode = state.open(path, mode)?;
        let generation = state.generation;
        drop(state);
        Ok(Arc::new(SimulatedFile {
            fs: self.clone(),
            inode,
            generation,
            writable: mode != OpenMode::Read,
        }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.lock().create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.lock().unlink(path)
    }
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        self.lock().hard_link(original, link)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.lock().sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.lock().list(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.lock().metadata(path)
    }
}

#[cfg(test)]
mod tests;
