//! Appending to a segment, and making it durable from another thread.
//!
//! One [`SegmentWriter`] writes; any number of [`SegmentSyncer`] clones sync (one at a
//! time). Bytes that [`SegmentWriter::write`] has accepted are in the page cache: they
//! survive the death of the process. What [`SegmentSyncer::sync`] reports is on the disk.
//!
//! Invariants:
//! - the file ends at a whole write: a failed write is cut back before the error returns,
//!   and if even that fails the writer refuses everything further;
//! - a failed sync is final: the kernel may have dropped the pages, so no sync of this
//!   segment is tried again, and nothing is written to it but what had to be written anyway
//!   ([`SegmentWriter::write_undurable`]);
//! - the sidecar's header is durable before the segment's first byte exists.

mod again;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fs::{Fs, FsFile, OpenMode, directory_of, is_no_space};
use crate::segment::{SegmentLayout, select_prefix};
use crate::sidecar::{
    HexId, SidecarError, SidecarHeader, SidecarReader, SidecarWriter, Verification, rewrite_up_to,
    sidecar_path,
};
use again::write_again;

/// What a new segment starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStart {
    /// Stream offset of its first stream byte.
    pub start_offset: u64,
    /// Database selected in the stream there.
    pub database: u32,
    /// Replication id of the stream.
    pub replid: HexId,
    /// Run id of the server.
    pub run_id: HexId,
    /// Epoch of the run.
    pub epoch: u64,
}

/// Why bytes were not appended. The segment holds exactly the writes accepted before.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full; the writer works again once there is room.
    #[error("no space left for the log (kept up to offset {kept_offset}): {source}")]
    NoSpace {
        /// Stream offset behind the last whole write.
        kept_offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Another error; the partial write was cut back.
    #[error("write to the log failed (kept up to offset {kept_offset}): {source}")]
    Io {
        /// Stream offset behind the last whole write.
        kept_offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The partial write could not be cut back: the file's end is unknown. Final.
    #[error("the log's tail could not be cut back after a failed write")]
    TailUnknown,
    /// A sync of this segment failed before. Final.
    #[error("an fsync of this log file failed before")]
    SyncFailed,
}

/// Why a sync did not make the log durable.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// This sync failed. Final for this segment.
    #[error("fsync of the log failed: {0}")]
    Failed(io::Error),
    /// An earlier one failed; nothing was tried.
    #[error("an fsync of this log file failed before")]
    FailedBefore,
}

/// Why a segment could not be begun or continued.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file to begin already has bytes.
    #[error("log file {0} is not empty")]
    NotEmpty(PathBuf),
    /// The segment to continue has no sidecar: Redis wrote it. Begin a new one.
    #[error("log file {0} has no sidecar")]
    NoSidecar(PathBuf),
    /// The segment is damaged at or before its durable watermark.
    #[error("log file {0} is damaged before its last sync")]
    Damaged(PathBuf),
    /// The sidecar can't be used.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
}

/// Bytes to append that need not be in memory as a whole.
pub trait Source {
    /// Gives all bytes in their order, piece by piece; the same each time.
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

impl Source for [u8] {
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        take(self)
    }
}

impl Source for Vec<u8> {
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        take(self)
    }
}

impl<const N: usize> Source for [u8; N] {
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        take(self)
    }
}

#[derive(Debug)]
struct Shared {
    file: Arc<dyn FsFile>,
    layout: SegmentLayout,
    sidecar: Mutex<SidecarWriter>,
    /// Serializes syncs; never taken by the writer.
    syncing: Mutex<()>,
    durable_position: AtomicU64,
    sync_failed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded state is consistent between statements; a panic elsewhere in the
    // process must not stop the log.
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The one appender of a segment.
#[derive(Debug)]
pub struct SegmentWriter {
    shared: Arc<Shared>,
    path: PathBuf,
    position: u64,
    tail_unknown: bool,
}

/// Makes a segment durable; may be used from any thread while the writer writes.
#[derive(Debug, Clone)]
pub struct SegmentSyncer {
    shared: Arc<Shared>,
}

impl SegmentWriter {
    /// Begins a segment at `path`, which must not exist or be empty (as the persister
    /// offers it). Order: sidecar header written and synced, segment created, directory
    /// synced, prefix written and synced. When it returns, the empty segment is durable.
    pub fn begin(
        fs: &dyn Fs,
        path: &Path,
        start: &SegmentStart,
        unix_ms: u64,
    ) -> Result<Self, OpenError> {
        let failed = |action| {
            move |source| OpenError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let prefix = select_prefix(start.database);
        let layout = SegmentLayout {
            start_offset: start.start_offset,
            prefix_bytes: prefix.len() as u32,
        };
        match fs.metadata(path) {
            Ok(metadata) if metadata.len > 0 => {
                return Err(OpenError::NotEmpty(path.to_owned()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("look at")(error));
            }
            _ => {}
        }
        let header = SidecarHeader {
            layout,
            database: start.database,
            replid: start.replid,
            run_id: start.run_id,
            epoch: start.epoch,
            created_unix_ms: unix_ms,
        };
        let mut sidecar = SidecarWriter::create(fs, &sidecar_path(path), &header)
            .map_err(failed("create the sidecar of"))?;
        let file = match Self::create_with(fs, path, &prefix) {
            Ok(file) => file,
            Err(error) => {
                sidecar.withdraw();
                return Err(error);
            }
        };
        sidecar.note_written(&prefix, unix_ms);
        let position = prefix.len() as u64;
        Ok(Self::assemble(
            path, file, layout, sidecar, position, position,
        ))
    }

    /// Creates the file with its prefix, durably; left empty on an error, it can be begun again.
    fn create_with(fs: &dyn Fs, path: &Path, prefix: &[u8]) -> Result<Arc<dyn FsFile>, OpenError> {
        let failed = |action| {
            move |source| OpenError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let file = fs
            .open(path, OpenMode::CreateKeep)
            .map_err(failed("create"))?;
        fs.sync_dir(directory_of(path))
            .map_err(failed("sync the directory of"))?;
        file.write_all_at(prefix, 0)
            .and_then(|()| file.sync_data())
            .inspect_err(|_| {
                let _ = file.set_len(0);
            })
            .map_err(failed("write the prefix of"))?;
        Ok(file)
    }

    /// Continues a segment after a restart. `verification` is recovery's check of it; the
    /// tail has been judged, and cut where needed. Checksums that did not match beyond the
    /// watermark are taken anew from what the file holds, since that is what was replayed.
    ///
    /// Nothing is durable that was not before: sync before telling anyone so. The sync will write
    /// all that no sync is known to have covered, also pages that a failed one has left as clean.
    pub fn resume(
        fs: &dyn Fs,
        path: &Path,
        verification: &Verification,
    ) -> Result<Self, OpenError> {
        let failed = |action| {
            move |source| OpenError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        if verification.durable_damage.is_some() {
            return Err(OpenError::Damaged(path.to_owned()));
        }
        let no_sidecar = || OpenError::NoSidecar(path.to_owned());
        let modified_ms = fs
            .metadata(path)
            .map_err(failed("look at"))?
            .modified_unix_ms;
        let file = fs.open(path, OpenMode::ReadWrite).map_err(failed("open"))?;
        let mut position = file.len().map_err(failed("size"))?;
        let mut reader = SidecarReader::open(fs, path)?.ok_or_else(no_sidecar)?;
        let header = reader.header().clone();
        let believed = verification.verified_position.min(position);
        if reader.summary()?.checked_position > believed {
            rewrite_up_to(fs, path, believed)?;
            reader = SidecarReader::open(fs, path)?.ok_or_else(no_sidecar)?;
        }
        let prefix = select_prefix(header.database);
        if position < prefix.len() as u64 {
            // The power went before the prefix was synced: no stream byte was written.
            file.write_all_at(&prefix, 0)
                .and_then(|()| file.sync_data())
                .map_err(failed("write the prefix of"))?;
            position = prefix.len() as u64;
        }
        let durable = reader.summary()?.durable_position;
        write_again(file.as_ref(), durable, position).map_err(failed("write again the end of"))?;
        let sidecar = SidecarWriter::resume(fs, &reader, file.as_ref(), position, modified_ms)?;
        Ok(Self::assemble(
            path,
            file,
            header.layout,
            sidecar,
            position,
            durable,
        ))
    }

    fn assemble(
        path: &Path,
        file: Arc<dyn FsFile>,
        layout: SegmentLayout,
        sidecar: SidecarWriter,
        position: u64,
        durable_position: u64,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                file,
                layout,
                sidecar: Mutex::new(sidecar),
                syncing: Mutex::new(()),
                durable_position: AtomicU64::new(durable_position),
                sync_failed: AtomicBool::new(false),
            }),
            path: path.to_owned(),
            position,
            tail_unknown: false,
        }
    }

    /// Appends `bytes`, whole commands as the caller guarantees on a master, all or
    /// nothing; returns the stream offset behind them.
    pub fn write(
        &mut self,
        bytes: &(impl Source + ?Sized),
        unix_ms: u64,
    ) -> Result<u64, WriteError> {
        if self.tail_unknown {
            return Err(WriteError::TailUnknown);
        }
        if self.shared.sync_failed.load(Ordering::Acquire) {
            return Err(WriteError::SyncFailed);
        }
        self.append(bytes, unix_ms)
    }

    /// As [`Self::write`], also after a failed sync: for the effects of commands that ran
    /// before the failure was known. The bytes survive the death of the process; they will
    /// never be durable, since no further sync of this segment is made.
    pub fn write_undurable(
        &mut self,
        bytes: &(impl Source + ?Sized),
        unix_ms: u64,
    ) -> Result<u64, WriteError> {
        if self.tail_unknown {
            return Err(WriteError::TailUnknown);
        }
        self.append(bytes, unix_ms)
    }

    fn append(&mut self, bytes: &(impl Source + ?Sized), unix_ms: u64) -> Result<u64, WriteError> {
        let mut end = self.position;
        let written = bytes.visit(&mut |piece| {
            self.shared.file.write_all_at(piece, end)?;
            end += piece.len() as u64;
            Ok(())
        });
        if let Err(source) = written {
            if self.shared.file.set_len(self.position).is_err() {
                self.tail_unknown = true;
                return Err(WriteError::TailUnknown);
            }
            let kept_offset = self.offset();
            return Err(if is_no_space(&source) {
                WriteError::NoSpace {
                    kept_offset,
                    source,
                }
            } else {
                WriteError::Io {
                    kept_offset,
                    source,
                }
            });
        }
        // In one hold: a sync covers all of it or nothing.
        let mut sidecar = lock(&self.shared.sidecar);
        let noted = bytes.visit(&mut |piece| {
            sidecar.note_written(piece, unix_ms);
            Ok(())
        });
        drop(sidecar);
        if noted.is_err() {
            // What was read a moment ago can't be read again: the checksums are unknown.
            self.tail_unknown = true;
            return Err(WriteError::TailUnknown);
        }
        self.position = end;
        Ok(self.offset())
    }

    /// The stream offset behind the last accepted write.
    pub fn offset(&self) -> u64 {
        self.shared.layout.offset_at(self.position)
    }

    /// The file's length in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Offset arithmetic of this segment.
    pub fn layout(&self) -> SegmentLayout {
        self.shared.layout
    }

    /// The segment's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle for syncing from another thread.
    pub fn syncer(&self) -> SegmentSyncer {
        SegmentSyncer {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Ends the segment (rotation, clean shutdown): everything and the sidecar durable.
    /// The next segment's first byte may be written only after this returned, since a
    /// replay never crosses a gap. Returns the stream offset of its end.
    pub fn finish(self, unix_ms: u64) -> Result<u64, SyncError> {
        let syncer = self.syncer();
        let offset = syncer.sync(unix_ms)?;
        let _syncing = lock(&syncer.shared.syncing);
        // A sidecar that can't be synced only weakens detection: the log itself is safe.
        if let Err(error) = lock(&syncer.shared.sidecar).sync() {
            tracing::warn!(path = %self.path.display(), %error, "sidecar was not synced");
        }
        Ok(offset)
    }
}

impl SegmentSyncer {
    /// Makes everything durable that was written before the call; returns the stream
    /// offset up to which that holds. The writer is not held up meanwhile.
    pub fn sync(&self, unix_ms: u64) -> Result<u64, SyncError> {
        let shared = &self.shared;
        let _syncing = lock(&shared.syncing);
        if shared.sync_failed.load(Ordering::Acquire) {
            return Err(SyncError::FailedBefore);
        }
        let position = lock(&shared.sidecar).begin_sync();
        if position == shared.durable_position.load(Ordering::Acquire) {
            return Ok(shared.layout.offset_at(position));
        }
        if let Err(error) = shared.file.sync_data() {
            shared.sync_failed.store(true, Ordering::Release);
            return Err(SyncError::Failed(error));
        }
        // A record that does not fit on the disk lowers the watermark on file, nothing
        // else: the sync itself has succeeded.
        if let Err(error) = lock(&shared.sidecar).finish_sync(position, unix_ms) {
            tracing::debug!(%error, "durable record not written");
        }
        shared.durable_position.store(position, Ordering::Release);
        Ok(shared.layout.offset_at(position))
    }

    /// The stream offset that is known to be durable.
    pub fn durable_offset(&self) -> u64 {
        let position = self.shared.durable_position.load(Ordering::Acquire);
        self.shared.layout.offset_at(position)
    }

    /// Whether bytes were written that no sync covers yet.
    pub fn is_dirty(&self) -> bool {
        lock(&self.shared.sidecar).position() > self.shared.durable_position.load(Ordering::Acquire)
    }

    /// Whether both sync the same opened segment.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether a sync has failed.
    pub fn has_failed(&self) -> bool {
        self.shared.sync_failed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
