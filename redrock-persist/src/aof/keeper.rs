//! The manifest's only writer after the first one, and the files that it lists.
//!
//! Every method is one step that is durable when it returns, or has changed nothing that a
//! restart sees. Methods block on the disk: call them off the runtime's threads.
//!
//! Invariants:
//! - the manifest in memory is the one on disk: it changes only after a store succeeded;
//! - a segment that may hold stream bytes is neither unlisted nor removed, but for one of an
//!   enabling that failed (it has a marker, see [`Keeper::mark_enabling`]).

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redrock_log::history::Histories;
use redrock_log::manifest::{
    self, BaseFormat, FileEntry, FileKind, Manifest, Names, temporary_manifest_name,
};
use redrock_log::sidecar::{SidecarReader, has_stream_bytes, sidecar_path};
use redrock_proto::RpcError;

use super::retention::ReplacedFile;
use super::segments::replaced_files;
use crate::data_dir::DataDir;
use crate::error::{Result, edit_error, manifest_error, sidecar_error};

/// An empty file in the append-only directory: replaced segments are kept for replicas.
const BACKLOG_MARKER: &str = "redrock.backlog";
/// Prefix of the marker of a segment that is the first one of a log being turned on.
const ENABLING_PREFIX: &str = "temp-enabling-";

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    dir: DataDir,
    directory: PathBuf,
    names: Names,
    manifest: Mutex<Option<Manifest>>,
}

/// A segment that exists, empty and unlisted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSegment {
    pub seq: i64,
    pub path: PathBuf,
}

impl Keeper {
    /// Loads the manifest of the append-only directory; neither has to exist.
    pub fn open(dir: DataDir, append_dir_name: &str, append_file_name: &str) -> Result<Keeper> {
        let directory = dir.root().join(append_dir_name);
        let names = Names::new(append_file_name);
        let manifest = manifest::load(dir.fs(), &directory, &names).map_err(manifest_error)?;
        Ok(Keeper {
            dir,
            directory,
            names,
            manifest: Mutex::new(manifest),
        })
    }

    /// The manifest in force.
    pub fn manifest(&self) -> Option<Manifest> {
        self.manifest.lock().clone()
    }

    /// Reads the manifest again if there was none: the server writes the first one.
    pub fn reload_if_absent(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        if manifest.is_none() {
            *manifest = manifest::load(self.dir.fs(), &self.directory, &self.names)
                .map_err(manifest_error)?;
        }
        Ok(())
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes `changed` the manifest. The lock is held over the store: one writer.
    fn store(
        &self,
        change: impl FnOnce(Option<&Manifest>) -> Result<Option<Manifest>>,
    ) -> Result<()> {
        let mut manifest = self.manifest.lock();
        if let Some(changed) = change(manifest.as_ref())?
            && manifest.as_ref() != Some(&changed)
        {
            self.dir
                .store_manifest(&self.directory, &self.names, &changed)?;
            *manifest = Some(changed);
        }
        Ok(())
    }

    /// Makes sure that the next manifest has room, however full the disk is by then.
    pub fn keep_reserve(&self) -> Result<()> {
        // A store that has no other room uses it.
        let _one_writer = self.manifest.lock();
        self.dir.keep_reserve(&self.directory)
    }

    /// Creates an empty segment, durably, with a number of at least `seq_min` above all that
    /// are listed or exist.
    pub fn create_segment(&self, seq_min: i64) -> Result<NewSegment> {
        self.dir.create_dir(&self.directory)?;
        let existing = self
            .dir
            .names(&self.directory)?
            .into_iter()
            .filter_map(|name| self.segment_number(&name))
            .max()
            .unwrap_or(0);
        let listed = self
            .manifest
            .lock()
            .as_ref()
            .map_or(1, |manifest| manifest.next_incr_sequence(&self.names));
        let seq = listed.max(existing.saturating_add(1)).max(seq_min);
        let path = self.path_of(&self.names.incr(seq));
        self.dir.create_empty(&path)?;
        Ok(NewSegment { seq, path })
    }

    /// The number in a segment's name, or in that of one of its sidecars.
    fn segment_number(&self, name: &str) -> Option<i64> {
        let name = name.strip_suffix(".meta").unwrap_or(name);
        self.names.incr_sequence(name)
    }

    /// Lists a segment as the last one.
    pub fn list_segment(&self, seq: i64, start_offset: Option<u64>) -> Result<()> {
        self.store(|manifest| {
            let manifest = manifest.cloned().unwrap_or_default();
            if manifest.incr.iter().any(|entry| entry.sequence == seq) {
                return Ok(None);
            }
            manifest
                .with_incr(&self.names, seq, start_offset)
                .map(Some)
                .map_err(edit_error)
        })
    }

    /// Takes a segment back that was listed for a cut that did not follow. Refused if it holds
    /// stream bytes.
    pub fn unlist_segment(&self, seq: i64) -> Result<()> {
        let path = self.path_of(&self.names.incr(seq));
        if has_stream_bytes(self.dir.fs(), &path).map_err(sidecar_error)? {
            return Err(RpcError::internal(format!(
                "log file {} holds data and stays listed",
                path.display()
            )));
        }
        self.store(|manifest| {
            let Some(manifest) = manifest else {
                return Ok(None);
            };
            manifest
                .without_last_incr(seq)
                .map(Some)
                .map_err(edit_error)
        })
    }

    /// Whether a segment holds bytes of the stream.
    pub fn has_stream_bytes(&self, seq: i64) -> Result<bool> {
        let path = self.path_of(&self.names.incr(seq));
        has_stream_bytes(self.dir.fs(), &path).map_err(sidecar_error)
    }

    /// Removes an unlisted segment and its sidecar. `with_data` also removes stream bytes.
    pub fn remove_unlisted(&self, seq: i64, with_data: bool) -> Result<()> {
        let path = self.path_of(&self.names.incr(seq));
        let listed = self.manifest.lock().as_ref().is_some_and(|manifest| {
            manifest
                .files_to_load()
                .any(|entry| self.path_of(&entry.name) == path)
        });
        let has_data =
            !with_data && has_stream_bytes(self.dir.fs(), &path).map_err(sidecar_error)?;
        if listed || has_data {
            return Err(RpcError::internal(format!(
                "log file {} is in use and stays",
                path.display()
            )));
        }
        self.dir.unlink(&path)?;
        self.dir.unlink(&sidecar_path(&path))?;
        self.dir.sync_dir(&self.directory)
    }

    /// Remembers durably that a segment is the first one of a log being turned on: should that
    /// fail, its bytes continue nothing and are removed with it.
    pub fn mark_enabling(&self, seq: i64) -> Result<()> {
        let path = self.enabling_marker(seq);
        self.dir.unlink(&path)?;
        self.dir.create_empty(&path)
    }

    /// The log is on, or the segment removed.
    pub fn unmark_enabling(&self, seq: i64) -> Result<()> {
        self.dir.unlink(&self.enabling_marker(seq))
    }

    /// Whether a segment belongs to an enabling that has not been completed.
    pub fn is_enabling(&self, seq: i64) -> Result<bool> {
        self.dir.exists(&self.enabling_marker(seq))
    }

    fn enabling_marker(&self, seq: i64) -> PathBuf {
        self.path_of(&format!("{ENABLING_PREFIX}{seq}"))
    }

    /// Gives a base its final name. The file is synced; nothing refers to it yet.
    pub fn place_base(&self, temporary: &Path) -> Result<PathBuf> {
        self.dir.create_dir(&self.directory)?;
        let seq = self
            .manifest
            .lock()
            .as_ref()
            .map_or(1, Manifest::next_base_sequence);
        let path = self.path_of(&self.names.base(seq, BaseFormat::Rdb));
        self.dir.rename(temporary, &path, "base")?;
        Ok(path)
    }

    /// Makes the base that was placed last the valid one, continued by the segments from
    /// `first_kept` on; all before becomes history. `first_kept` is listed if it isn't yet.
    /// Without `first_kept` no segment continues the base (the log is off).
    pub fn install_base(&self, first_kept: Option<(i64, u64)>) -> Result<()> {
        self.store(|manifest| {
            let manifest = manifest.cloned().unwrap_or_default();
            let Some((seq, start_offset)) = first_kept else {
                return Ok(Some(self.base_alone(manifest)));
            };
            let listed = manifest.incr.iter().any(|entry| entry.sequence == seq);
            let manifest = if listed {
                manifest
            } else {
                manifest
                    .with_incr(&self.names, seq, None)
                    .map_err(edit_error)?
            };
            let changed = manifest
                .with_base(&self.names, BaseFormat::Rdb, seq)
                .and_then(|changed| changed.with_start_offset(seq, start_offset))
                .map_err(edit_error)?;
            Ok(Some(changed))
        })
    }

    fn base_alone(&self, manifest: Manifest) -> Manifest {
        let seq = manifest.next_base_sequence();
        let replaced = manifest.incr.into_iter().chain(manifest.base);
        Manifest {
            base: Some(FileEntry {
                name: self.names.base(seq, BaseFormat::Rdb),
                sequence: seq,
                kind: FileKind::Base,
                start_offset: None,
                end_offset: None,
            }),
            history: replaced
                .map(|entry| FileEntry {
                    kind: FileKind::History,
                    ..entry
                })
                .chain(manifest.history)
                .collect(),
            incr: Vec::new(),
        }
    }

    /// Remembers whether replaced segments are kept for replicas, for a process that comes after
    /// this one.
    pub fn mark_backlog(&self, is_kept: bool) -> Result<()> {
        let path = self.path_of(BACKLOG_MARKER);
        match (is_kept, self.is_backlog_kept()?) {
            (true, false) => {
                self.dir.create_dir(&self.directory)?;
                self.dir.create_empty(&path)
            }
            (false, true) => self.dir.unlink(&path),
            _ => Ok(()),
        }
    }

    /// Whether replaced segments are kept for replicas.
    pub fn is_backlog_kept(&self) -> Result<bool> {
        self.dir.exists(&self.path_of(BACKLOG_MARKER))
    }

    /// Removes those history files that `choose` names, then forgets them. Gives their number.
    pub fn delete_history(
        &self,
        choose: impl FnOnce(&[ReplacedFile]) -> Vec<String>,
    ) -> Result<usize> {
        let Some(manifest) = self.manifest() else {
            return Ok(0);
        };
        let newest = manifest.incr.last().map_or(i64::MAX, |last| last.sequence);
        // Without it all that is there counts as the present log's.
        let histories = Histories::load(self.dir.fs(), self.dir.root())
            .ok()
            .flatten();
        let present = histories
            .as_ref()
            .and_then(|histories| histories.of_log(u64::try_from(newest).ok()?));
        let names = choose(&replaced_files(self, &manifest, present));
        if names.is_empty() {
            return Ok(0);
        }
        for name in &names {
            self.dir.pass("history-before-unlink")?;
            let path = self.path_of(name);
            self.dir.unlink(&path)?;
            self.dir.unlink(&sidecar_path(&path))?;
        }
        self.dir.pass("history-after-unlink")?;
        self.dir.sync_dir(&self.directory)?;
        self.store(|manifest| Ok(manifest.map(|manifest| manifest.without_history(&names))))?;
        self.dir.pass("history-after-manifest")?;
        Ok(names.len())
    }

    /// Writes start offsets down that the sidecars tell and the manifest does not.
    pub fn note_start_offsets(&self) -> Result<()> {
        self.store(|manifest| {
            let Some(mut changed) = manifest.cloned() else {
                return Ok(None);
            };
            for entry in &mut changed.incr {
                if entry.start_offset.is_none() {
                    entry.start_offset = self.extent(&entry.name).map(|extent| extent.start_offset);
                }
            }
            Ok(Some(changed))
        })
    }

    /// Where a segment's bytes stand in the stream; `None` for bases and foreign segments.
    pub fn extent(&self, name: &str) -> Option<Extent> {
        self.names.incr_sequence(name)?;
        let path = self.path_of(name);
        let len = self.dir.fs().metadata(&path).ok()?.len;
        // A sidecar that can't be read makes the segment a foreign one here; recovery judges.
        let reader = SidecarReader::open(self.dir.fs(), &path).ok()??;
        let header = reader.header();
        Some(Extent {
            start_offset: header.layout.start_offset,
            end_offset: header.layout.offset_at(len),
            replid: header.replid,
            created_unix_ms: header.created_unix_ms,
        })
    }

    /// Lengths of base and segments together.
    pub fn total_bytes(&self) -> u64 {
        self.manifest().map_or(0, |manifest| {
            manifest
                .files_to_load()
                .map(|entry| self.dir.len_or_zero(&self.path_of(&entry.name)))
                .sum()
        })
    }

    /// Finishes or takes back what a process that died left behind. `current` is the segment
    /// that the server appends to. Unlisted segments that hold data are left and named.
    pub fn clean_up(&self, current: Option<i64>) -> Result<()> {
        let listed: Vec<String> = self.manifest().map_or_else(Vec::new, |manifest| {
            let all = manifest.files_to_load().chain(&manifest.history);
            all.map(|entry| entry.name.clone()).collect()
        });
        let mut changed = false;
        for name in self.dir.names(&self.directory)? {
            let marked = name
                .strip_prefix(ENABLING_PREFIX)
                .and_then(|digits| digits.parse().ok());
            if let Some(seq) = marked {
                let segment = self.names.incr(seq);
                if !listed.contains(&segment) && current != Some(seq) {
                    self.remove_unlisted(seq, true)?;
                }
                self.dir.unlink(&self.path_of(&name))?;
                changed = true;
            } else if is_temporary(&name, &self.names) {
                self.dir.unlink(&self.path_of(&name))?;
                changed = true;
            }
        }
        for name in self.dir.names(&self.directory)? {
            let Some(seq) = self.names.incr_sequence(&name) else {
                changed |= self.remove_unlisted_base(&name, &listed)?;
                continue;
            };
            if listed.contains(&name) || current == Some(seq) {
                continue;
            }
            let path = self.path_of(&name);
            if has_stream_bytes(self.dir.fs(), &path).map_err(sidecar_error)? {
                tracing::warn!(file = %path.display(),
                    "a log file that the manifest does not list holds data; it is left alone");
            } else {
                self.remove_unlisted(seq, false)?;
            }
        }
        if changed {
            self.dir.sync_dir(&self.directory)?;
        }
        Ok(())
    }

    /// Removes empty unlisted segments before `offered`: their offers have been replaced by its.
    pub fn remove_stale(&self, offered: i64, current: Option<i64>) -> Result<()> {
        let manifest = self.manifest().unwrap_or_default();
        for name in self.dir.names(&self.directory)? {
            let Some(seq) = self.names.incr_sequence(&name) else {
                continue;
            };
            let listed = manifest
                .files_to_load()
                .chain(&manifest.history)
                .any(|entry| entry.name == name);
            let path = self.path_of(&name);
            if seq < offered
                && !listed
                && current != Some(seq)
                && !has_stream_bytes(self.dir.fs(), &path).map_err(sidecar_error)?
            {
                self.remove_unlisted(seq, false)?;
            }
        }
        Ok(())
    }

    /// A base that got its name and never was listed is of no use to anybody.
    fn remove_unlisted_base(&self, name: &str, listed: &[String]) -> Result<bool> {
        let ours = name
            .strip_prefix(&self.names.file_name)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".base.rdb"))
            .is_some_and(|digits| digits.parse::<i64>().is_ok());
        // Without a manifest nobody can tell what is of use.
        if !ours || listed.is_empty() || listed.iter().any(|entry| entry == name) {
            return Ok(false);
        }
        tracing::info!(file = name, "removing a base that was never put in place");
        self.dir.unlink(&self.path_of(name))?;
        Ok(true)
    }
}

/// Where a segment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub start_offset: u64,
    /// Behind its last stream byte.
    pub end_offset: u64,
    pub replid: [u8; 40],
    pub created_unix_ms: u64,
}

/// Whether a name in the append-only directory is that of a file under construction. Sidecars
/// are rewritten by the server through names of their own, which are left alone.
fn is_temporary(name: &str, names: &Names) -> bool {
    name == temporary_manifest_name(names)
        || name.starts_with("temp-rewriteaof-")
        || name == format!("temp_{}.incr", names.file_name)
}
