//! Writing the new folder.

use std::path::Path;

use redrock_log::fs::{Fs, RealFs};
use redrock_log::manifest::{self, FileEntry, FileKind, Manifest, Names};
use redrock_log::sidecar::copy_up_to;
use redrock_proto::RpcError;

use super::chain::{Base, Chain, Form};
use super::cut::Piece;
use crate::check::{Verdict, check_path};
use crate::error::{Result, io_error, sidecar_error};
use crate::place::{Placed, copy, link_or_copy};
use crate::progress::ActionProgress;

/// What was put into a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Built {
    pub linked_files: u64,
    pub linked_bytes: u64,
    pub copied_files: u64,
    pub copied_bytes: u64,
}

impl Built {
    fn note(&mut self, placed: Placed, bytes: u64) {
        let (files, total) = match placed {
            Placed::Linked => (&mut self.linked_files, &mut self.linked_bytes),
            Placed::Copied => (&mut self.copied_files, &mut self.copied_bytes),
        };
        *files += 1;
        *total += bytes;
    }
}

/// Puts the files of a chain into `folder`, as a server loads them. With `may_link` those that
/// are taken whole and never change again are linked. The originals stay as they are.
pub fn build(folder: &Path, chain: &Chain, pieces: &[Piece], may_link: bool) -> Result<Built> {
    match &chain.form {
        Form::Log {
            folder: name,
            names,
        } => {
            let directory = folder.join(name);
            RealFs
                .create_dir(&directory)
                .map_err(|error| io_error("create", &directory, &error))?;
            build_log(&directory, names, chain, pieces, may_link)
        }
        Form::Dump { name } => {
            let mut built = Built::default();
            if let Some(base) = &chain.base {
                place_base(base, &folder.join(name), may_link, &mut built)?;
            }
            Ok(built)
        }
    }
}

fn build_log(
    directory: &Path,
    names: &Names,
    chain: &Chain,
    pieces: &[Piece],
    may_link: bool,
) -> Result<Built> {
    let mut built = Built::default();
    let mut manifest = Manifest::default();
    if let Some(base) = &chain.base
        && let Some(entry) = &base.entry
    {
        place_base(base, &directory.join(&entry.name), may_link, &mut built)?;
        manifest.base = Some(listed(entry, FileKind::Base, None));
    }
    for (index, piece) in pieces.iter().enumerate() {
        // An empty one behind others is of no use; the first keeps the place in the stream.
        if piece.end == 0 && index > 0 {
            continue;
        }
        place_piece(piece, directory, may_link, &mut built)?;
        let start = piece.segment.place.map(|place| place.start_offset);
        let entry = listed(&piece.segment.entry, FileKind::Incr, start);
        manifest.incr.push(entry);
    }
    manifest::store(&RealFs, directory, names, &manifest)
        .map_err(|error| io_error("write", &directory.join(names.manifest()), &error))?;
    Ok(built)
}

fn listed(entry: &FileEntry, kind: FileKind, start_offset: Option<u64>) -> FileEntry {
    FileEntry {
        kind,
        start_offset: start_offset.or(entry.start_offset),
        end_offset: None,
        ..entry.clone()
    }
}

fn place_base(base: &Base, to: &Path, may_link: bool, built: &mut Built) -> Result<()> {
    let placed = match may_link {
        true => link_or_copy(&base.path, to)?,
        false => {
            copy(&base.path, to, u64::MAX)?;
            Placed::Copied
        }
    };
    built.note(placed, length(to));
    Ok(())
}

fn place_piece(piece: &Piece, directory: &Path, may_link: bool, built: &mut Built) -> Result<()> {
    let from = &piece.segment.path;
    let to = directory.join(&piece.segment.entry.name);
    // The last file with data is appended to, or its tail cut, by whoever starts here.
    let placed = match may_link && piece.followed && piece.is_whole() {
        true => link_or_copy(from, &to)?,
        false => {
            let copied = copy(from, &to, piece.end)?;
            if copied < piece.end {
                return Err(changed(from));
            }
            Placed::Copied
        }
    };
    built.note(placed, piece.end);
    copy_up_to(&RealFs, from, piece.end, &to).map_err(sidecar_error)
}

fn changed(path: &Path) -> RpcError {
    RpcError::busy(format!("{} was cut while it was read", path.display()))
}

/// Length of a file; 0 if it is gone.
pub fn length(path: &Path) -> u64 {
    RealFs.metadata(path).map_or(0, |metadata| metadata.len)
}

/// Reads everything in the new folder: an error if a start would refuse it.
pub fn verify(folder: &Path, progress: &ActionProgress) -> Result<(u64, u64)> {
    let (mut keys, mut commands) = (0, 0);
    for report in check_path(&RealFs, folder, progress) {
        let name = report
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        match report.verdict {
            Verdict::Sound | Verdict::Remark(_) => {}
            Verdict::Damaged(text) => {
                return Err(RpcError::corrupt(format!("{name}: {text}"))
                    .with_hint("the source is damaged; `redrock-persist check` tells more"));
            }
            Verdict::Unreadable(text) => return Err(RpcError::internal(format!("{name}: {text}"))),
        }
        keys += report.keys;
        commands += report.commands;
    }
    Ok((keys, commands))
}
