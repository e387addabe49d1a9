//! A snapshot that is being received, into a file that outlives its link and this process if the
//! master can go on with it.
//!
//! - A file that the master named by an id has that id in its name, and so many bytes of it as it is
//!   long: it is written from front to back only. It is kept while its link is down, one at a time,
//!   for as long as its master is followed.
//! - What another process left is taken up if the machine has not been started since: what is in the
//!   page cache outlives a process, and nothing here is synced.
//! - The rest may come from another file only if that has the same length and checksum, and the
//!   checksum of the whole is compared when it is loaded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::apply::Snapshot;
use super::spool::{self, Kind, remove_files};
use crate::context::{Context, Position};
use crate::snapshot_id::{Held, SnapshotId};

/// Another one at each start of the machine.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_ID_DIGITS: usize = 32;
/// Links in a row that bring nothing of it: the master can't go on with it, whatever it says.
const VAIN_LINKS_MAX: u32 = 3;

/// A snapshot being written. Unless [`finish`](SnapshotFile::finish) is
/// called, its file is removed with it, or left for the next process where that can go on with it.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    context: Arc<Context>,
    path: PathBuf,
    file: Arc<File>,
    id: Option<SnapshotId>,
    bytes: u64,
    /// The disk did not take all.
    is_broken: bool,
    /// More than one link brought it.
    is_pieced: bool,
    vain_links: u32,
    whole: bool,
}

impl SnapshotFile {
    pub(super) fn create(
        context: &Arc<Context>,
        id: Option<SnapshotId>,
    ) -> io::Result<SnapshotFile> {
        let name = id.and_then(|id| Some(format!("{id}-{}", boot_id()?)));
        let (path, file) = spool::create(&context.data_dir, Kind::Snapshot(name.as_deref()))?;
        Ok(SnapshotFile {
            context: Arc::clone(context),
            path,
            file: Arc::new(file),
            id,
            bytes: 0,
            is_broken: false,
            is_pieced: false,
            vain_links: 0,
            whole: false,
        })
    }

    /// Takes up what a former process was receiving; all else of that kind is removed.
    pub(super) fn adopt(context: &Arc<Context>) -> Option<SnapshotFile> {
        let boot_id = boot_id();
        let mut adopted: Option<SnapshotFile> = None;
        let entries = std::fs::read_dir(spool::directory(&context.data_dir)).ok()?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((id, boot)) = name.and_then(parse_name) else {
                continue;
            };
            let opened = open(context, path.clone(), id);
            match opened {
                Ok(file)
                    if boot_id.as_deref() == Some(boot)
                        && (1..=id.bytes).contains(&file.bytes)
                        && adopted
                            .as_ref()
                            .is_none_or(|known| known.bytes < file.bytes) =>
                {
                    adopted = Some(file);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "could not take up a snapshot");
                    remove_files(&context.guard, &[path]);
                }
            }
        }
        if let Some(file) = &adopted {
            tracing::info!(bytes = file.bytes, path = %file.path.display(),
                "a part of a snapshot is there");
        }
        adopted
    }

    /// Length of what is there.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What to tell a master that may go on with it.
    pub(super) fn held(&self) -> Option<Held> {
        let id = self.id.filter(|_| self.can_be_resumed())?;
        Some(Held {
            id,
            bytes: self.bytes,
        })
    }

    pub(super) fn can_be_resumed(&self) -> bool {
        let has_more = self.bytes > 0 && self.vain_links < VAIN_LINKS_MAX;
        self.id.is_some() && !self.is_broken && has_more
    }

    /// The last link brought some of it, and the next may bring the rest.
    pub(super) fn got_on(&self) -> bool {
        self.can_be_resumed() && self.vain_links == 0
    }

    /// The rest begins to come.
    pub(super) fn begin_link(&mut self) {
        self.is_pieced = true;
        self.vain_links += 1;
    }

    /// Appends `buffer[from..to]` and gives the buffer back.
    pub(super) async fn append(
        &mut self,
        buffer: Vec<u8>,
        from: usize,
        to: usize,
    ) -> anyhow::Result<Vec<u8>> {
        let (file, at) = (Arc::clone(&self.file), self.bytes);
        let writing = tokio::task::spawn_blocking(move || {
            let result = file.write_all_at(buffer.get(from..to).unwrap_or_default(), at);
            (buffer, result)
        });
        self.is_broken = true;
        let (buffer, result) = writing.await.context("write the snapshot")?;
        result.context("write the snapshot")?;
        self.is_broken = false;
        self.vain_links = 0;
        self.bytes += to.saturating_sub(from) as u64;
        Ok(buffer)
    }

    pub(super) fn finish(mut self, position: Position) -> Snapshot {
        self.whole = true;
        Snapshot {
            path: self.path.clone(),
            bytes: self.bytes,
            is_pieced: self.is_pieced,
            position,
        }
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        // At the end of this process, or of the server's run, the next one may go on.
        let is_left = self.id.is_some() && self.context.tasks.token().is_cancelled();
        if !self.whole && !is_left {
            remove_files(&self.context.guard, std::slice::from_ref(&self.path));
        }
    }
}

fn open(context: &Arc<Context>, path: PathBuf, id: SnapshotId) -> io::Result<SnapshotFile> {
    let file = File::options().read(true).write(true).open(&path)?;
    let bytes = file.metadata()?.len();
    Ok(SnapshotFile {
        context: Arc::clone(context),
        path,
        file: Arc::new(file),
        id: Some(id),
        bytes,
        is_broken: false,
        is_pieced: true,
        vain_links: 0,
        whole: false,
    })
}

/// Id and start of the machine in the name of a file that may be gone on with.
pub(super) fn parse_name(name: &str) -> Option<(SnapshotId, &str)> {
    let rest = name.strip_prefix("snapshot-")?.strip_suffix(".rdb")?;
    let (_number, rest) = rest.split_once('-')?;
    let (id, boot) = rest.rsplit_once('-')?;
    Some((SnapshotId::parse(id)?, boot))
}

/// 32 digits.
fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string(BOOT_ID_FILE).ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    (digits.len() == BOOT_ID_DIGITS).then_some(digits)
}
