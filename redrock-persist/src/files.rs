//! What the persister tells about its files: Status and List.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use redrock_log::manifest::FileKind as ManifestKind;
use redrock_proto::model::{FileInfo, FileKind, HexId, LogKind, SharedPath};
use redrock_proto::{RpcError, v1};

use crate::aof::keeper::Keeper;
use crate::aof::segments::{contiguous, known_segments};
use crate::error::Result;
use crate::jobs::Activity;
use crate::session::Session;

/// A path of a request: relative to the data directory, without `..`.
pub fn shared_path(text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let plain = !text.is_empty()
        && text.len() <= 4096
        && !text.contains('\0')
        && path
            .components()
            .all(|part| !matches!(part, std::path::Component::ParentDir));
    if plain {
        Ok(path.to_owned())
    } else {
        Err(RpcError::invalid("path must be a path without `..`"))
    }
}

/// Which of the paths don't exist.
pub fn missing(session: &Session, paths: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let dir = &session.source.dir;
    let mut missing = Vec::new();
    for path in paths {
        if !dir.exists(&dir.root().join(path))? {
            missing.push(path.clone());
        }
    }
    Ok(missing)
}

/// The answer to Status.
pub fn status(session: &Session) -> v1::PersistStatus {
    let present = session.jobs.present();
    let activity = present
        .as_ref()
        .map_or(v1::Activity::Idle, |job| job.activity.to_wire());
    let log = session.log.borrow().clone();
    let append_only = log.is_some_and(|log| log.kind == LogKind::AppendOnly);
    let current_bytes = match session.keeper_now() {
        Some(keeper) if append_only => keeper.total_bytes(),
        _ => 0,
    };
    v1::PersistStatus {
        activity: activity.into(),
        progress: present.map(|job| job.progress.message()),
        last_save: session.jobs.history(Activity::Save).last,
        last_rewrite: session.jobs.history(Activity::Rewrite).last,
        last_backup: session.jobs.history(Activity::Backup).last,
        append_only,
        aof_current_bytes: current_bytes,
        aof_base_bytes: if append_only {
            session.aof_base_bytes()
        } else {
            0
        },
        rewrite_retry_unix_ms: session.rewrite_failures().retry_unix_ms(),
        pins: u32::try_from(session.pins.lock().count()).unwrap_or(u32::MAX),
    }
}

/// The answer to List. Blocks on the disk.
pub fn list(session: &Session, wanted: v1::FileKind) -> Result<v1::ListFilesReply> {
    let log = session.log.borrow().clone();
    let mut files = Vec::new();
    let mut oldest_offset = 0;
    if let Some(keeper) = session.keeper_now() {
        list_log(session, &keeper, &mut files);
        let segments = contiguous(known_segments(&keeper, log.as_ref()));
        oldest_offset = segments.first().map_or(0, |segment| segment.start_offset);
    }
    let settings = session.settings.borrow().clone();
    if let Some(settings) = settings {
        let sets = settings.backup_folder(session.source.dir.root());
        files.extend(backups(session, &sets)?);
        let path = session.source.dir.root().join(&settings.dbfilename);
        if let Some(file) = file_info(session, FileKind::Dump, &path, 0) {
            files.push(file);
        }
    }
    files.sort_by_key(|file| (file.kind, file.seq, file.created_unix_ms));
    let files = files
        .into_iter()
        .filter(|file| wanted == v1::FileKind::Unspecified || file.kind.to_wire() == wanted)
        .map(v1::FileInfo::from)
        .collect();
    Ok(v1::ListFilesReply {
        files,
        oldest_offset,
        replid: log.map_or(String::new(), |log| log.replid.to_string()),
    })
}

/// Backup sets that can be read.
fn backups(session: &Session, sets: &Path) -> Result<Vec<FileInfo>> {
    let sets = crate::backup::list::sets(sets)?.into_iter();
    Ok(sets
        .filter_map(|set| {
            let manifest = set.manifest.ok()?;
            Some(FileInfo {
                kind: FileKind::Backup,
                path: SharedPath::new(session.source.dir.root(), &set.path),
                bytes: manifest.bytes(),
                seq: 0,
                start_offset: manifest.stream.map_or(0, |stream| stream.last_offset),
                replid: None,
                created_unix_ms: manifest.made_unix_ms,
                pinned_by: Vec::new(),
            })
        })
        .collect())
}

fn list_log(session: &Session, keeper: &Keeper, files: &mut Vec<FileInfo>) {
    let manifest = keeper.manifest().unwrap_or_default();
    let all = manifest.files_to_load().chain(&manifest.history);
    for entry in all {
        let kind = match entry.kind {
            ManifestKind::Base => FileKind::Base,
            ManifestKind::Incr => FileKind::Segment,
            ManifestKind::History => FileKind::History,
        };
        let seq = u64::try_from(entry.sequence).unwrap_or(0);
        let path = keeper.path_of(&entry.name);
        let Some(mut file) = file_info(session, kind, &path, seq) else {
            continue;
        };
        if let Some(extent) = keeper.extent(&entry.name) {
            file.start_offset = extent.start_offset;
            file.replid = std::str::from_utf8(&extent.replid)
                .ok()
                .and_then(HexId::parse);
            file.created_unix_ms = extent.created_unix_ms;
        }
        files.push(file);
    }
}

/// `None` if the file isn't there.
pub fn file_info(session: &Session, kind: FileKind, path: &Path, seq: u64) -> Option<FileInfo> {
    let root = session.source.dir.root();
    let bytes = session.source.dir.fs().metadata(path).ok()?.len;
    let relative = path.strip_prefix(root).unwrap_or(path);
    let created = std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, crate::progress::millis);
    Some(FileInfo {
        kind,
        path: SharedPath::new(root, path),
        bytes,
        seq,
        start_offset: 0,
        replid: None,
        created_unix_ms: created,
        pinned_by: session.pins.lock().holders_of(relative),
    })
}
