//! Making a set.
//!
//! 1. [`Making::begin`]: a folder under a temporary name; nothing else sees it as a set.
//! 2. [`Making::place_log`] or [`Making::place_dump`]: files are linked, what still grows is copied up
//!    to a whole command that is durable. Nothing may be removed from the source meanwhile: the
//!    caller holds rewrites and retention back. From then on the source may change as it likes.
//! 3. [`Making::finish`]: checksums, description, syncs, rename.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use redrock_log::failpoint;
use redrock_log::fs::{Fs, OpenMode, RealFs, write_durably};
use redrock_log::manifest::Names;
use redrock_proto::RpcError;
use tokio_util::sync::CancellationToken;

use super::set::{
    FileRole, INFO_NAME, SUMS_NAME, SetContent, SetFile, SetManifest, SetStream, is_inside,
};
use super::sums::{self, Sums};
use super::{list, retention};
use crate::error::{Result, io_error};
use crate::moment;
use crate::place::{Staging, link_or_copy, remove_leftovers};
use crate::progress::unix_ms;
use crate::restore::build::{Built, build, length};
use crate::restore::chain::{self, Chain};
use crate::restore::choose::Target;
use crate::restore::cut::pieces;

/// Longest name of a set.
const NAME_BYTES_MAX: usize = 128;
/// Name of the dump that a set holds if it was made for the set.
pub const DUMP_NAME: &str = "dump.rdb";

/// A check before every rename and removal, such as that the data directory is still ours.
pub type Check<'a> = &'a dyn Fn() -> io::Result<()>;

/// A set under construction.
#[derive(Debug)]
pub struct Making {
    sets: PathBuf,
    name: String,
    staging: Staging,
    made_unix_ms: u64,
    placed: Option<Placed>,
}

/// What has been put into the set.
#[derive(Debug)]
struct Placed {
    content: SetContent,
    begins_unix_ms: u64,
    covered_unix_ms: u64,
    stream: Option<SetStream>,
    built: Built,
}

/// A set that is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub path: PathBuf,
    pub manifest: SetManifest,
    pub built: Built,
}

impl Making {
    /// Begins a set below `sets`, which is created if need be; named by the time without a name.
    pub fn begin(sets: &Path, name: Option<&str>) -> Result<Making> {
        let made_unix_ms = unix_ms();
        let name = match name {
            Some(name) => checked_name(name)?.to_owned(),
            None => moment::file_name(made_unix_ms),
        };
        std::fs::create_dir_all(sets).map_err(|error| io_error("create", sets, &error))?;
        let removed = remove_leftovers(sets).map_err(|error| io_error("clean", sets, &error))?;
        if removed > 0 {
            tracing::info!(
                removed,
                "removed what was left of backups that were not finished"
            );
        }
        let target = sets.join(&name);
        if RealFs.exists(&target).unwrap_or(true) {
            let text = format!("there is a backup named {name} already");
            return Err(RpcError::invalid(text).with_hint("choose another name"));
        }
        Ok(Making {
            staging: Staging::begin(&target)?,
            sets: sets.to_owned(),
            name,
            made_unix_ms,
            placed: None,
        })
    }

    /// Puts the data set of an append-only folder in. Everything acknowledged before the call is
    /// part of it.
    pub fn place_log(&mut self, directory: &Path, names: &Names) -> Result<()> {
        let covered_unix_ms = unix_ms();
        let chain = chain::present(&RealFs, directory, names, covered_unix_ms)?;
        let chain = chain.ok_or_else(|| {
            let text = format!("{} holds no append only files", directory.display());
            RpcError::not_found(text)
        })?;
        let pieces = pieces(&RealFs, &chain, Target::Latest)?;
        for piece in pieces.iter().filter(|piece| !piece.followed) {
            sync(&piece.segment.path)?;
        }
        let built = build(self.staging.path(), &chain, &pieces, true)?;
        self.pass("backup-placed")?;
        let end = pieces.iter().rev().find_map(|piece| piece.end_offset());
        self.placed = Some(Placed {
            content: SetContent::Log,
            begins_unix_ms: chain.begins_ms,
            covered_unix_ms,
            stream: stream(&chain, end),
            built,
        });
        Ok(())
    }

    /// Links an RDB file that is only ever replaced.
    pub fn place_dump(&mut self, dump: &Path) -> Result<()> {
        let name = dump.file_name().unwrap_or_default();
        link_or_copy(dump, &self.staging.path().join(name))?;
        self.note_dump(dump)
    }

    /// Where a dump for this set alone is to be written; [`Making::note_made_dump`] follows.
    pub fn dump_path(&self) -> PathBuf {
        self.staging.path().join(DUMP_NAME)
    }

    /// Takes note of the dump at [`Making::dump_path`].
    pub fn note_made_dump(&mut self) -> Result<()> {
        self.note_dump(&self.dump_path())
    }

    fn note_dump(&mut self, dump: &Path) -> Result<()> {
        let made = chain::made_ms(&RealFs, dump)?;
        self.pass("backup-placed")?;
        self.placed = Some(Placed {
            content: SetContent::Dump,
            begins_unix_ms: made,
            covered_unix_ms: made,
            stream: None,
            built: Built::default(),
        });
        Ok(())
    }

    fn pass(&self, point: &str) -> Result<()> {
        failpoint::hit(point).map_err(|error| io_error("pass", Path::new(point), &error))
    }

    /// Sums the files up, describes the set and gives it its name. Reads every file that the
    /// newest former set does not share.
    pub fn finish(self, check: Check<'_>, cancel: &CancellationToken) -> Result<Made> {
        let placed = self
            .placed
            .as_ref()
            .ok_or_else(|| RpcError::internal("a backup without files"))?;
        let manifest = SetManifest {
            made_unix_ms: self.made_unix_ms,
            begins_unix_ms: placed.begins_unix_ms,
            covered_unix_ms: placed.covered_unix_ms,
            content: placed.content,
            stream: placed.stream.clone(),
            files: files(self.staging.path())?,
        };
        let (folder, built) = (self.staging.path(), placed.built);
        let text = manifest.format();
        self.write(INFO_NAME, &text)?;
        let mut sums = self.sum_up(folder, &manifest, cancel)?;
        sums.insert(INFO_NAME.to_owned(), sums::sum_bytes(text.as_bytes()));
        self.pass("backup-summed")?;
        self.write(SUMS_NAME, &sums::format(&sums))?;
        let path = self.sets.join(&self.name);
        self.staging.commit("backup", check)?;
        Ok(Made {
            path,
            manifest,
            built,
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.staging.path().join(name);
        write_durably(&RealFs, &path, text.as_bytes())
            .map_err(|error| io_error("write", &path, &error))
    }

    fn sum_up(
        &self,
        folder: &Path,
        manifest: &SetManifest,
        cancel: &CancellationToken,
    ) -> Result<Sums> {
        let former = match list::newest(&self.sets)? {
            Some(newest) => sums::by_inode(&newest.path),
            None => BTreeMap::new(),
        };
        let mut found = Sums::new();
        for file in &manifest.files {
            let path = folder.join(&file.path);
            let known = sums::identity(&path).and_then(|identity| former.get(&identity));
            let sum = match known {
                Some(sum) => sum.clone(),
                None => sums::sum_file(&path, cancel)?,
            };
            found.insert(file.path.clone(), sum);
        }
        Ok(found)
    }
}

/// Removes the sets that are too many; gives their names. What can't be removed is tried again
/// after the next backup.
pub fn remove_surplus(sets: &Path, keep: usize, check: Check<'_>) -> Result<Vec<String>> {
    let present = list::sets(sets)?;
    let surplus = retention::surplus(&present, keep);
    for name in &surplus {
        let path = sets.join(name);
        failpoint::hit("backup-before-removal")
            .and_then(|()| crate::place::remove_folder(&path, check))
            .map_err(|error| io_error("remove", &path, &error))?;
    }
    Ok(surplus)
}

/// A name that can stand in a path and is not taken for a set under construction.
pub fn checked_name(name: &str) -> Result<&str> {
    let plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.starts_with(crate::place::TEMPORARY)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    match plain {
        true => Ok(name),
        false => Err(
            RpcError::invalid(format!("{name:?} can't name a backup")).with_hint(
                "1 to 128 of A-Z, a-z, 0-9, '.', '_', '-', the first one not '.', and not 'temp-'",
            ),
        ),
    }
}

fn stream(chain: &Chain, end: Option<u64>) -> Option<SetStream> {
    let (first_offset, _) = chain.offsets()?;
    Some(SetStream {
        first_offset,
        last_offset: end?,
    })
}

/// What is copied of a file that still grows has been made durable in the original too.
fn sync(path: &Path) -> Result<()> {
    RealFs
        .open(path, OpenMode::Read)
        .and_then(|file| file.sync_data())
        .map_err(|error| io_error("sync", path, &error))
}

/// All files of the set, ascending by path.
fn files(folder: &Path) -> Result<Vec<SetFile>> {
    let mut found = Vec::new();
    for path in list::files_below(folder)? {
        let relative = path.strip_prefix(folder).unwrap_or(&path);
        let text = relative.to_str().filter(|text| is_inside(text));
        let text = text.ok_or_else(|| {
            RpcError::invalid(format!("{relative:?} can't be part of a backup set"))
                .with_hint("rename the file: control characters and backslashes do not fit")
        })?;
        found.push(SetFile {
            role: role(text),
            bytes: length(&path),
            path: text.to_owned(),
        });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn role(path: &str) -> FileRole {
    if path.ends_with(".manifest") {
        FileRole::Manifest
    } else if path.ends_with(".meta") {
        FileRole::Sidecar
    } else if path.ends_with(".incr.aof") {
        FileRole::Segment
    } else if path.contains('/') {
        FileRole::Base
    } else {
        FileRole::Dump
    }
}
