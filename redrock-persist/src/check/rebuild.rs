//! A manifest made anew from the files in its folder.

use std::path::Path;

use redrock_log::fs::RealFs;
use redrock_log::manifest::{FileEntry, FileKind, Manifest, Names};
use redrock_log::sidecar::{FormerEnd, SidecarReader};
use redrock_proto::RpcError;

use crate::data_dir::parent;
use crate::error::{Result, sidecar_error};
use crate::rdb_head::RdbHead;
use crate::restore::build::length;

/// A log file in the folder.
struct Found {
    entry: FileEntry,
    sidecar: Option<SidecarReader>,
    /// First and last stream offset, if its sidecar tells.
    offsets: Option<(u64, u64)>,
}

impl Found {
    /// Whether it begins at this offset of the stream.
    fn begins_at(&self, offset: u64) -> bool {
        self.offsets.is_some_and(|(start, _)| start == offset)
    }
}

/// The names that a manifest's path stands for.
pub(super) fn names(path: &Path) -> Result<Names> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_suffix(".manifest"))
        .map(Names::new)
        .ok_or_else(|| RpcError::invalid(format!("{} is no manifest's name", path.display())))
}

/// The files that belong together without doubt: the newest base, and the log files that go on
/// from its offset without a gap; without sidecars, one base and all log files. `None` if there
/// is a doubt.
pub(super) fn manifest(path: &Path) -> Result<Option<Manifest>> {
    let (directory, names) = (parent(path), names(path)?);
    let present = std::fs::read_dir(directory)
        .map_err(|error| crate::error::io_error("read", directory, &error))?;
    let (mut bases, mut segments) = (Vec::new(), Vec::new());
    for entry in present.filter_map(std::result::Result::ok) {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if let Some(sequence) = names.incr_sequence(&name) {
            segments.push(segment(directory, name, sequence)?);
        } else if let Some(sequence) = base_sequence(&names, &name) {
            bases.push(listed(name, sequence, FileKind::Base, None));
        }
    }
    bases.sort_by_key(|entry| entry.sequence);
    segments.sort_by_key(|found: &Found| found.entry.sequence);
    let incr = match bases.last() {
        Some(base) => following(directory, base, bases.len(), segments)?,
        None => joined(begun(directory, segments)?),
    };
    Ok(incr
        .filter(|incr| !bases.is_empty() || !incr.is_empty())
        .map(|incr| Manifest {
            base: bases.pop(),
            history: Vec::new(),
            incr,
        }))
}

fn base_sequence(names: &Names, name: &str) -> Option<i64> {
    let rest = name.strip_prefix(&names.file_name)?.strip_prefix('.')?;
    let (sequence, kind) = rest.split_once('.')?;
    matches!(kind, "base.rdb" | "base.aof")
        .then(|| sequence.parse().ok())
        .flatten()
}

fn listed(name: String, sequence: i64, kind: FileKind, start_offset: Option<u64>) -> FileEntry {
    FileEntry {
        name,
        sequence,
        kind,
        start_offset,
        end_offset: None,
    }
}

fn segment(directory: &Path, name: String, sequence: i64) -> Result<Found> {
    let path = directory.join(&name);
    let sidecar = SidecarReader::open(&RealFs, &path).map_err(sidecar_error)?;
    let offsets = sidecar.as_ref().map(|reader| {
        let layout = reader.header().layout;
        (layout.start_offset, layout.offset_at(length(&path)))
    });
    let start = offsets.map(|(start, _)| start);
    Ok(Found {
        entry: listed(name, sequence, FileKind::Incr, start),
        sidecar,
        offsets,
    })
}

/// Without those that were made for a switch that did not happen: they stand nowhere.
fn begun(directory: &Path, segments: Vec<Found>) -> Result<Vec<Found>> {
    let (mut kept, mut former) = (Vec::new(), None);
    for found in segments {
        let path = directory.join(&found.entry.name);
        let sequence = found.entry.sequence.unsigned_abs();
        let is_unbegun = match &found.sidecar {
            Some(sidecar) => sidecar.is_unbegun_at(&RealFs, &path, sequence, former),
            None => Ok(length(&path) == 0),
        };
        if is_unbegun.map_err(sidecar_error)? {
            continue;
        }
        former = found
            .offsets
            .map(|(_, offset)| FormerEnd { offset, sequence });
        kept.push(found);
    }
    Ok(kept)
}

/// The log files behind a base.
fn following(
    directory: &Path,
    base: &FileEntry,
    bases: usize,
    mut segments: Vec<Found>,
) -> Result<Option<Vec<FileEntry>>> {
    segments
        .retain(|found| found.sidecar.is_some() || length(&directory.join(&found.entry.name)) > 0);
    let ours = segments.iter().all(|found| found.sidecar.is_some()) && !segments.is_empty();
    if !ours {
        // Files of Redis say nothing about their place: one base leaves no choice.
        return Ok((bases == 1).then(|| segments.into_iter().map(|found| found.entry).collect()));
    }
    let head = RdbHead::read(&RealFs, &directory.join(&base.name)).ok();
    let Some(cut) = head.and_then(|head| head.offset()) else {
        return Ok(None);
    };
    // The last one that begins at the base's cut and has bytes of the stream; or else the last one
    // at all: what is before it belongs to another base then, and says nothing about it.
    let has_bytes = |found: &Found| found.offsets.is_some_and(|(start, end)| start < end);
    let first = segments
        .iter()
        .rposition(|found| found.begins_at(cut) && has_bytes(found))
        .or_else(|| segments.iter().rposition(|found| found.begins_at(cut)));
    let Some(first) = first else {
        return Ok(None);
    };
    let behind = segments.into_iter().skip(first).collect();
    Ok(joined(begun(directory, behind)?))
}

/// All of them, if each goes on where the one before ends.
fn joined(segments: Vec<Found>) -> Option<Vec<FileEntry>> {
    let gap = segments.windows(2).any(|pair| match pair {
        [one, next] => match (one.offsets, next.offsets) {
            (Some((_, end)), Some((start, _))) => end != start,
            _ => false,
        },
        _ => false,
    });
    (!gap).then(|| segments.into_iter().map(|found| found.entry).collect())
}
