//! Chains: a base, the log files that continue it, and the times that both cover.
//!
//! They are found in append-only folders (the one in force and, as long as replaced files are
//! kept, older ones), in data directories, and in backup sets. Reading only.

use std::path::{Path, PathBuf};

use redrock_log::fs::Fs;
use redrock_log::history::{Histories, ReplicationState};
use redrock_log::manifest::{self, FileEntry, Manifest, Names};
use redrock_log::sidecar::{FormerEnd, SidecarReader};
use redrock_proto::RpcError;
use redrock_proto::model::HexId;

use crate::backup::set::SetManifest;
use crate::error::{Result, io_error, manifest_error, sidecar_error};
use crate::rdb_head::RdbHead;

/// What can be restored from one base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The folder or file that it was found in, for people.
    pub origin: PathBuf,
    pub form: Form,
    /// Absent if the log begins with the empty data set, or the base is the dump itself.
    pub base: Option<Base>,
    /// In their order; none for a dump.
    pub segments: Vec<Segment>,
    /// First reachable moment, unix milliseconds: the base's.
    pub begins_ms: u64,
    /// Last moment for which it is known what the data set was.
    pub covered_ms: u64,
}

/// How a server loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// An append-only folder of this name, its files named after `names`.
    Log { folder: String, names: Names },
    /// An RDB file of this name: one moment.
    Dump { name: String },
}

/// The file that a chain begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub path: PathBuf,
    pub entry: Option<FileEntry>,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub path: PathBuf,
    pub entry: FileEntry,
    pub bytes: u64,
    /// When the file was written to last, unix milliseconds.
    pub modified_ms: u64,
    /// What its sidecar says; `None` for files that Redis wrote.
    pub place: Option<Place>,
}

/// Where a segment of ours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub start_offset: u64,
    pub end_offset: u64,
    pub prefix_bytes: u64,
    pub begun_ms: u64,
}

impl Chain {
    /// Whether a time can be restored from it exactly.
    pub fn covers(&self, unix_ms: u64) -> bool {
        self.is_log() && (self.begins_ms..=self.covered_ms).contains(&unix_ms)
    }

    pub fn is_log(&self) -> bool {
        matches!(self.form, Form::Log { .. })
    }

    /// First and last stream offset, where they are known.
    pub fn offsets(&self) -> Option<(u64, u64)> {
        let first = self.segments.first()?.place?;
        let last = self.segments.last()?.place?;
        Some((first.start_offset, last.end_offset))
    }
}

/// Finds all chains in a folder or file; `now_ms` is how far the log of a data directory is
/// taken to reach. The oldest comes first within each folder.
pub fn find(fs: &dyn Fs, path: &Path, now_ms: u64) -> Result<Vec<Chain>> {
    let metadata = fs
        .metadata(path)
        .map_err(|error| io_error("read", path, &error))?;
    if !metadata.is_dir {
        return Ok(vec![dump(fs, path)?]);
    }
    if let Some(set) = SetManifest::load(fs, path)? {
        return in_folder(fs, path, set.covered_unix_ms);
    }
    let mut chains = in_folder(fs, path, now_ms)?;
    if chains.is_empty() {
        for folder in folders(fs, path)? {
            if let Some(set) = SetManifest::load(fs, &folder)? {
                chains.extend(in_folder(fs, &folder, set.covered_unix_ms)?);
            }
        }
    }
    if chains.is_empty() {
        let text = format!(
            "{} holds no append only files, no RDB file and no backup sets",
            path.display()
        );
        return Err(RpcError::not_found(text));
    }
    Ok(chains)
}

/// The chains of an append-only folder, or of a data directory or set that holds one.
fn in_folder(fs: &dyn Fs, path: &Path, covered_ms: u64) -> Result<Vec<Chain>> {
    let mut chains = log_chains(fs, path, covered_ms)?;
    if !chains.is_empty() {
        return Ok(chains);
    }
    for folder in folders(fs, path)? {
        chains.extend(log_chains(fs, &folder, covered_ms)?);
    }
    // A file that can't be read tells nothing, as one that is not there.
    let histories = Histories::load(fs, path).ok().flatten();
    for name in names(fs, path)? {
        if name.ends_with(".rdb") && !name.starts_with("temp-") {
            let dump = dump(fs, &path.join(&name))?;
            forget_what_came_later(fs, &mut chains, &dump, histories.as_ref())?;
            chains.push(dump);
        }
    }
    Ok(chains)
}

/// A dump of a stream that goes on where the log has ended says that the log was turned off before:
/// it tells nothing about the time behind its last write.
fn forget_what_came_later(
    fs: &dyn Fs,
    chains: &mut [Chain],
    dump: &Chain,
    histories: Option<&Histories>,
) -> Result<()> {
    let Some(base) = &dump.base else {
        return Ok(());
    };
    let head = RdbHead::read(fs, &base.path)?;
    for chain in chains.iter_mut().filter(|chain| chain.is_log()) {
        if let (true, Some(last)) = (
            is_later(&head, dump, chain, histories),
            chain.segments.last(),
        ) {
            chain.covered_ms = chain.covered_ms.min(last.modified_ms);
        }
    }
    Ok(())
}

/// Whether a dump was made behind the end of a log. With replicas its offset is higher. Without
/// any nobody counts on, and the stream gets another id, which the log's history does not know;
/// so do dumps that are from before the log.
fn is_later(head: &RdbHead, dump: &Chain, log: &Chain, histories: Option<&Histories>) -> bool {
    let dumped = head.offset().unwrap_or(0);
    if log.offsets().is_some_and(|(_, end)| dumped > end) {
        return true;
    }
    let Some(last) = log.segments.last() else {
        return false;
    };
    let sequence = u64::try_from(last.entry.sequence).unwrap_or(0);
    let history = histories.and_then(|histories| histories.of_log(sequence));
    let replid = head.field("repl-id").and_then(HexId::parse);
    let is_other =
        |history: &ReplicationState| replid.is_none_or(|id| !history.knows(&id.digits(), dumped));
    history.is_some_and(is_other) && dump.begins_ms >= last.modified_ms
}

fn names(fs: &dyn Fs, path: &Path) -> Result<Vec<String>> {
    let names = fs
        .list(path)
        .map_err(|error| io_error("read", path, &error))?;
    let utf8 = names.into_iter().filter_map(|name| name.into_string().ok());
    Ok(utf8.collect())
}

fn folders(fs: &dyn Fs, path: &Path) -> Result<Vec<PathBuf>> {
    let paths = names(fs, path)?.into_iter();
    Ok(paths
        .filter(|name| !name.starts_with("temp-"))
        .map(|name| path.join(name))
        .filter(|path| fs.metadata(path).is_ok_and(|metadata| metadata.is_dir))
        .collect())
}

/// The chain in force in an append-only folder; `None` if it has no manifest.
pub fn present(
    fs: &dyn Fs,
    directory: &Path,
    names: &Names,
    covered_ms: u64,
) -> Result<Option<Chain>> {
    let manifest = manifest::load(fs, directory, names).map_err(manifest_error)?;
    let Some(manifest) = manifest else {
        return Ok(None);
    };
    let (base, segments) = (manifest.base.as_ref(), &manifest.incr);
    chain(fs, directory, names, base, segments, covered_ms).map(Some)
}

/// The names that manifests in a folder stand for.
pub fn manifests(fs: &dyn Fs, directory: &Path) -> Result<Vec<Names>> {
    let found = names(fs, directory)?;
    let listed = found.iter().filter(|name| !name.starts_with("temp-"));
    Ok(listed
        .filter_map(|name| name.strip_suffix(".manifest"))
        .map(Names::new)
        .collect())
}

fn log_chains(fs: &dyn Fs, directory: &Path, covered_ms: u64) -> Result<Vec<Chain>> {
    let mut chains = Vec::new();
    for names in manifests(fs, directory)? {
        let manifest = manifest::load(fs, directory, &names).map_err(manifest_error)?;
        let Some(manifest) = manifest else {
            continue;
        };
        chains.extend(of_manifest(fs, directory, &names, &manifest, covered_ms)?);
    }
    Ok(chains)
}

/// The chain in force and those of replaced bases that are still there, oldest first.
fn of_manifest(
    fs: &dyn Fs,
    directory: &Path,
    names: &Names,
    manifest: &Manifest,
    covered_ms: u64,
) -> Result<Vec<Chain>> {
    let present = chain(
        fs,
        directory,
        names,
        manifest.base.as_ref(),
        &manifest.incr,
        covered_ms,
    )?;
    let mut chains = vec![present];
    let mut newer_base = manifest.base.as_ref();
    for (base, segments) in replaced(names, &manifest.history) {
        // The first base of all replaced a log that began with the empty data set.
        let from_nothing = base.is_none() && newer_base.is_some_and(|newer| newer.sequence == 1);
        newer_base = base;
        let Ok(mut older) = chain(fs, directory, names, base, &segments, covered_ms) else {
            // Replaced files may go at any time, and nothing relies on them.
            continue;
        };
        if !joins(fs, &older, from_nothing) {
            continue;
        }
        let newer = chains.last();
        let end = older.segments.last().and_then(|last| last.place);
        let next = newer.and_then(|newer| newer.segments.first()?.place);
        older.covered_ms = match (end, next) {
            (Some(end), Some(next)) if end.end_offset == next.start_offset => next.begun_ms,
            _ => older.segments.last().map_or(0, |last| last.modified_ms),
        };
        chains.push(older);
    }
    chains.reverse();
    Ok(chains)
}

/// Replaced bases, newest first, each with the log files that continued it: a rewrite puts these
/// before it into the history. The oldest log files may have no base there.
fn replaced<'a>(
    names: &Names,
    history: &'a [FileEntry],
) -> Vec<(Option<&'a FileEntry>, Vec<FileEntry>)> {
    let mut found = Vec::new();
    let mut block = Vec::new();
    for entry in history {
        if names.is_base(&entry.name) {
            found.push((Some(entry), std::mem::take(&mut block)));
        } else {
            block.push(entry.clone());
        }
    }
    if !block.is_empty() {
        found.push((None, block));
    }
    found
}

/// Whether base and log files follow each other without a gap; some may have been removed. A log
/// `from_nothing` begins with the stream.
fn joins(fs: &dyn Fs, chain: &Chain, from_nothing: bool) -> bool {
    let places: Option<Vec<Place>> = chain.segments.iter().map(|segment| segment.place).collect();
    let Some(places) = places else {
        return false;
    };
    let cut = match &chain.base {
        Some(base) => RdbHead::read(fs, &base.path)
            .ok()
            .and_then(|head| head.offset()),
        None => from_nothing.then_some(0),
    };
    let begins = places.first().map(|place| place.start_offset);
    begins.is_some()
        && cut == begins
        && places
            .windows(2)
            .all(|pair| matches!(pair, [one, next] if one.end_offset == next.start_offset))
}

fn chain(
    fs: &dyn Fs,
    directory: &Path,
    names: &Names,
    base: Option<&FileEntry>,
    segments: &[FileEntry],
    covered_ms: u64,
) -> Result<Chain> {
    let base = base.map(|entry| Base {
        path: directory.join(&entry.name),
        entry: Some(entry.clone()),
    });
    let (mut found, mut former) = (Vec::new(), None);
    for entry in segments {
        if let Some(segment) = segment(fs, directory, entry, former)? {
            former = segment.place.map(|place| FormerEnd {
                offset: place.end_offset,
                sequence: entry.sequence.unsigned_abs(),
            });
            found.push(segment);
        }
    }
    let segments = found;
    let begun = segments.first().and_then(|segment| segment.place);
    let begins_ms = match (begun, &base) {
        (Some(place), _) => place.begun_ms,
        (None, Some(base)) => made_ms(fs, &base.path)?,
        (None, None) => 0,
    };
    let folder = directory.file_name().and_then(|name| name.to_str());
    Ok(Chain {
        origin: directory.to_owned(),
        form: Form::Log {
            folder: folder.unwrap_or("appendonlydir").to_owned(),
            names: names.clone(),
        },
        base,
        segments,
        begins_ms,
        covered_ms,
    })
}

/// `None` if it was made for a switch that did not happen: it stands nowhere.
fn segment(
    fs: &dyn Fs,
    directory: &Path,
    entry: &FileEntry,
    former: Option<FormerEnd>,
) -> Result<Option<Segment>> {
    let path = directory.join(&entry.name);
    let bytes = fs
        .metadata(&path)
        .map_err(|error| io_error("read", &path, &error))?
        .len;
    let sidecar = SidecarReader::open(fs, &path).map_err(sidecar_error)?;
    let sequence = entry.sequence.unsigned_abs();
    let is_unbegun = match &sidecar {
        Some(sidecar) => sidecar.is_unbegun_at(fs, &path, sequence, former),
        None => Ok(bytes == 0),
    };
    if is_unbegun.map_err(sidecar_error)? {
        return Ok(None);
    }
    let place = sidecar.map(|reader| {
        let header = reader.header();
        Place {
            start_offset: header.layout.start_offset,
            end_offset: header.layout.offset_at(bytes),
            prefix_bytes: u64::from(header.layout.prefix_bytes),
            begun_ms: header.created_unix_ms,
        }
    });
    Ok(Some(Segment {
        modified_ms: modified_ms(fs, &path)?,
        path,
        entry: entry.clone(),
        bytes,
        place,
    }))
}

fn dump(fs: &dyn Fs, path: &Path) -> Result<Chain> {
    // It tells whole seconds. Its cut was within that one, and before the file was there.
    let told = made_ms(fs, path)?;
    let made = modified_ms(fs, path)?.clamp(told, told.saturating_add(999));
    let name = path.file_name().map(|name| name.to_string_lossy());
    Ok(Chain {
        origin: path.to_owned(),
        form: Form::Dump {
            name: name.unwrap_or_default().into_owned(),
        },
        base: Some(Base {
            path: path.to_owned(),
            entry: None,
        }),
        segments: Vec::new(),
        begins_ms: made,
        covered_ms: made,
    })
}

/// When an RDB was made; a base of commands tells nothing, so its file does.
pub fn made_ms(fs: &dyn Fs, path: &Path) -> Result<u64> {
    let made = match path.extension() {
        Some(extension) if extension == "rdb" => RdbHead::read(fs, path)?.made_unix_ms(),
        _ => None,
    };
    match made {
        Some(made) => Ok(made),
        None => modified_ms(fs, path),
    }
}

fn modified_ms(fs: &dyn Fs, path: &Path) -> Result<u64> {
    let metadata = fs
        .metadata(path)
        .map_err(|error| io_error("read", path, &error))?;
    Ok(metadata.modified_unix_ms.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use redrock_log::manifest::FileKind;

    use super::*;

    fn entry(name: &str) -> FileEntry {
        FileEntry {
            name: name.into(),
            sequence: 1,
            kind: FileKind::History,
            start_offset: None,
            end_offset: None,
        }
    }

    #[test]
    fn replaced_bases_are_continued_by_what_the_same_rewrite_replaced() {
        let history = [
            entry("appendonly.aof.3.incr.aof"),
            entry("appendonly.aof.4.incr.aof"),
            entry("appendonly.aof.2.base.rdb"),
            entry("appendonly.aof.2.incr.aof"),
            entry("appendonly.aof.1.base.rdb"),
            entry("appendonly.aof.1.incr.aof"),
        ];
        let found = replaced(&Names::default(), &history);
        let found: Vec<(&str, usize)> = found
            .iter()
            .map(|(base, segments)| {
                let name = base.map_or("", |base| base.name.as_str());
                (name, segments.len())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("appendonly.aof.2.base.rdb", 2),
                ("appendonly.aof.1.base.rdb", 1),
                ("", 1)
            ]
        );
    }
}
