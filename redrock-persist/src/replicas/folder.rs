//! The files under `repl/`. All methods block on the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redrock_log::backlog::{self, BacklogSegment};
use redrock_log::sidecar::sidecar_path;

use crate::aof::keeper::NewSegment;
use crate::base::Head;
use crate::data_dir::DataDir;
use crate::error::{Result, io_error};

/// A segment that was offered stays for so long, or until the server is known to write to it: the
/// news of its switch may be on its way.
const OFFER_PATIENCE: Duration = Duration::from_secs(60);

/// The base that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBase {
    pub path: PathBuf,
    pub head: Head,
    /// Since when nobody has it pinned.
    pub unused_since: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Folder {
    dir: DataDir,
    directory: PathBuf,
    /// Held while the base is pinned or removed.
    pub base: Mutex<Option<PlacedBase>>,
    offered: Mutex<Option<(i64, Instant)>>,
}

impl Folder {
    pub fn new(dir: DataDir) -> Folder {
        Folder {
            directory: backlog::directory(dir.root()),
            dir,
            base: Mutex::default(),
            offered: Mutex::default(),
        }
    }

    pub fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where a base is written.
    pub fn temporary_base(&self) -> PathBuf {
        self.path_of(backlog::TEMPORARY_BASE)
    }

    /// Makes the folder, durably.
    pub fn create(&self) -> Result<()> {
        self.dir.create_dir(&self.directory)
    }

    /// Creates an empty segment, durably, with a number of at least `seq_min` above all that
    /// exist. It counts as offered.
    pub fn create_segment(&self, seq_min: i64) -> Result<NewSegment> {
        self.create()?;
        let names = self.dir.names(&self.directory)?;
        let numbers = names
            .iter()
            .filter_map(|name| backlog::segment_number(name));
        let seq = numbers.max().unwrap_or(0).saturating_add(1).max(seq_min);
        *self.offered.lock() = Some((seq, Instant::now()));
        let path = self.path_of(&backlog::names().incr(seq));
        self.dir.create_empty(&path)?;
        Ok(NewSegment { seq, path })
    }

    /// The server writes to a segment: from now on it is as any other.
    pub fn confirm(&self, seq: i64) {
        let _confirmed = self.offered.lock().take_if(|(offered, _)| *offered == seq);
    }

    /// The segments with a readable sidecar, ascending.
    pub fn segments(&self) -> Result<Vec<BacklogSegment>> {
        backlog::segments(self.dir.fs(), &self.directory)
            .map_err(|error| io_error("list", &self.directory, &error))
    }

    /// Removes a segment with all that belongs to it.
    pub fn remove_segment(&self, seq: i64) -> Result<()> {
        let path = self.path_of(&backlog::names().incr(seq));
        self.dir.unlink(&path)?;
        self.dir.unlink(&sidecar_path(&path))
    }

    /// Removes all segments but `kept` and the one that was offered just now. Gives the number of
    /// files.
    pub fn remove_litter(&self, kept: &[i64]) -> Result<usize> {
        let offered = self
            .offered
            .lock()
            .filter(|(_, at)| at.elapsed() < OFFER_PATIENCE);
        let mut removed = 0;
        for name in self.dir.names(&self.directory)? {
            let Some(seq) = backlog::segment_number(&name) else {
                continue;
            };
            if !kept.contains(&seq) && offered.is_none_or(|(offered, _)| offered != seq) {
                self.dir.unlink(&self.path_of(&name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Gives the base that was written its name. The one before goes as soon as nobody has it.
    pub fn place_base(&self, head: Head) -> Result<PathBuf> {
        let mut base = self.base.lock();
        let names = self.dir.names(&self.directory)?;
        let number = (1..)
            .find(|number| !names.contains(&backlog::base_name(*number)))
            .unwrap_or(1);
        let path = self.path_of(&backlog::base_name(number));
        self.dir
            .rename(&self.temporary_base(), &path, "replicas-base")?;
        *base = Some(PlacedBase {
            path: path.clone(),
            head,
            unused_since: Instant::now(),
        });
        Ok(path)
    }

    /// Removes all bases but the present one and those that `is_pinned` names.
    pub fn remove_bases(&self, is_pinned: impl Fn(&Path) -> bool) -> Result<usize> {
        let base = self.base.lock();
        let mut removed = 0;
        for name in self.dir.names(&self.directory)? {
            let path = self.path_of(&name);
            let is_present = base.as_ref().is_some_and(|base| base.path == path);
            let is_being_written = path == self.temporary_base();
            if backlog::is_base(&name) && !is_present && !is_being_written && !is_pinned(&path) {
                self.dir.unlink(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes bases of a process that died, none of which anybody knows.
    pub fn forget_bases(&self) -> Result<()> {
        self.dir.unlink(&self.temporary_base())?;
        self.remove_bases(|_| false).map(|_| ())
    }
}
