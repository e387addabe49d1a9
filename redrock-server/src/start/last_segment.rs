//! The log file that new effects go to: the last one that the manifest names, or a new one.

use super::append_only::LoadedLog;
use super::directory::{DataDirectory, names};
use crate::config::Config;
use anyhow::{Context as _, bail};
use redrock_log::fs::{Fs, OpenMode};
use redrock_log::manifest::{self, FileEntry, Manifest};
use redrock_log::sidecar::{FormerEnd, HexId, SidecarReader, Verification};
use redrock_log::writer::{SegmentStart, SegmentWriter};
use std::path::{Path, PathBuf};

/// How the last listed file ends.
#[derive(Debug)]
pub(super) enum LastSegment {
    /// A segment of ours.
    Ours {
        entry: FileEntry,
        path: PathBuf,
        verification: Box<Verification>,
        start_offset: u64,
        end_offset: u64,
        replid: HexId,
    },
    /// Listed and without a byte of the stream: made for a switch that did not happen.
    Empty { entry: FileEntry, path: PathBuf },
    /// None, or one that Redis wrote.
    Foreign,
}

/// Where the file before ends, if it is one of ours, and its stream's id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Former {
    pub(super) end: FormerEnd,
    pub(super) replid: HexId,
}

/// Fails if the segment does not begin where the one before ends.
pub(super) fn refuse_gap(
    sidecar: &SidecarReader,
    entry: &FileEntry,
    former: Former,
) -> anyhow::Result<()> {
    let (start, end) = (sidecar.header().layout.start_offset, former.end.offset);
    if start != end {
        bail!(
            "there is a gap in the log: {} starts at stream offset {start}, the file before it ends at \
             {end}; a file between them is missing from the manifest or was cut. Restore it, or \
             restore the directory from a backup or a replica",
            entry.name
        );
    }
    Ok(())
}

/// Takes away what there is of a prefix.
fn make_empty(fs: &dyn Fs, path: &Path) -> anyhow::Result<()> {
    fs.open(path, OpenMode::CreateTruncate)
        .with_context(|| format!("empty {}", path.display()))?;
    Ok(())
}

/// Where new effects go.
#[derive(Debug)]
pub(super) struct Opened {
    /// The writer.
    pub(super) segment: SegmentWriter,
    /// Its number.
    pub(super) sequence: u64,
    /// Database selected at its end.
    pub(super) database: usize,
}

/// Opens the segment that the log goes on in: the last one if it is ours, else a new one that the
/// manifest is made to name (the first one of our log, the one case in which the server writes a
/// manifest).
pub(super) fn open(
    config: &Config,
    data: &DataDirectory,
    loaded: Option<LoadedLog>,
    start: &SegmentStart,
) -> anyhow::Result<Opened> {
    let names = names(config);
    let directory = data.log_directory(config);
    let fs = data.fs.as_ref();
    let now = crate::clock::unix_ms() as u64;
    let database = loaded.as_ref().map_or(0, |loaded| loaded.database);
    let manifest = match loaded {
        Some(LoadedLog {
            last:
                LastSegment::Ours {
                    entry,
                    path,
                    verification,
                    ..
                },
            ..
        }) => {
            let segment = SegmentWriter::resume(fs, &path, &verification)?;
            return Ok(Opened {
                segment,
                sequence: sequence(&entry),
                database,
            });
        }
        Some(LoadedLog {
            last: LastSegment::Empty { entry, path },
            ..
        }) => {
            make_empty(fs, &path)?;
            let segment = SegmentWriter::begin(fs, &path, start, now)?;
            return Ok(Opened {
                segment,
                sequence: sequence(&entry),
                database,
            });
        }
        Some(LoadedLog { manifest, .. }) => manifest,
        None => Manifest::default(),
    };
    fs.create_dir(&directory)
        .with_context(|| format!("create {}", directory.display()))?;
    fs.sync_dir(&data.path)
        .with_context(|| format!("sync {}", data.path.display()))?;
    let mut number = manifest.next_incr_sequence(&names);
    // What an earlier run began and did not come to list.
    while fs
        .metadata(&directory.join(names.incr(number)))
        .is_ok_and(|file| file.len > 0)
    {
        number += 1;
    }
    let path = directory.join(names.incr(number));
    let segment = SegmentWriter::begin(fs, &path, start, now)?;
    let listed = manifest.with_incr(&names, number, Some(start.start_offset))?;
    manifest::store(fs, &directory, &names, &listed).context("write the AOF manifest")?;
    Ok(Opened {
        segment,
        sequence: number.unsigned_abs(),
        database,
    })
}

pub(super) fn sequence(entry: &FileEntry) -> u64 {
    entry.sequence.unsigned_abs()
}
