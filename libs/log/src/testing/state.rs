//! The model behind [`super::PowerLossFs`]: live and durable views of files and names.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CrashMode, TestRandom};
use crate::fs::{Metadata, OpenMode, directory_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Directory,
}

#[derive(Debug, Clone)]
enum FileChange {
    Write { position: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileChange>,
    allocated: u64,
}

/// One change of names; applied to the durable view when a directory it touches is synced.
#[derive(Debug, Clone)]
struct NameChange {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
}

impl NameChange {
    fn touches(&self, directory: &Path) -> bool {
        let added = self.added.as_ref().map(|(path, _)| path);
        self.removed
            .iter()
            .chain(added)
            .any(|path| directory_of(path) == directory)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
    pub(super) operations: u64,
    pub(super) faults: Vec<(u64, i32)>,
    pub(super) power_lost_at: Option<u64>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) sync_time: Duration,
    pub(super) generation: u64,
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn apply_file(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { position, bytes } => {
            let start = *position as usize;
            let end = start + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(bytes);
        }
        FileChange::SetLen(len) => content.resize(*len as usize, 0),
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    if let Some(path) = &change.removed {
        names.remove(path);
    }
    if let Some((path, node)) = &change.added {
        names.insert(path.clone(), *node);
    }
}

impl State {
    pub(super) fn add_durable_root(&mut self, root: PathBuf) {
        self.live.insert(root.clone(), Node::Directory);
        self.durable.insert(root, Node::Directory);
    }

    /// Counts a changing operation and fails it if a fault or the power loss is due.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let at = self.operations;
        self.operations += 1;
        if self.power_lost_at.is_some_and(|lost| at >= lost) {
            return Err(io::Error::other("the power is lost"));
        }
        if let Some(index) = self.faults.iter().position(|(fault, _)| *fault == at) {
            let (_, code) = self.faults.swap_remove(index);
            return Err(errno(code));
        }
        Ok(())
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| errno(libc::EIO))
    }

    fn file_at(&self, path: &Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn require_directory(&self, path: &Path) -> io::Result<()> {
        match self.live.get(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        apply_name(&mut self.live, &change);
        self.pending.push(change);
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        let existing = self.file_at(path);
        match (mode, existing) {
            (OpenMode::CreateNew, Ok(_)) => Err(errno(libc::EEXIST)),
            (OpenMode::CreateTruncate, Ok(inode)) => {
                self.step()?;
                self.set_len(inode, 0)?;
                Ok(inode)
            }
            (_, Ok(inode)) => Ok(inode),
            (OpenMode::Read | OpenMode::ReadWrite, Err(error)) => Err(error),
            (_, Err(error)) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            (_, Err(_)) => {
                self.require_directory(directory_of(path))?;
                self.step()?;
                let inode = self.next_inode;
                self.next_inode += 1;
                self.inodes.insert(inode, Inode::default());
                self.change_names(NameChange {
                    removed: None,
                    added: Some((path.to_owned(), Node::File(inode))),
                });
                Ok(inode)
            }
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.live.get(path) {
            Some(Node::Directory) => return Ok(()),
            Some(Node::File(_)) => return Err(errno(libc::EEXIST)),
            None => {}
        }
        self.require_directory(directory_of(path))?;
        self.step()?;
        self.change_names(NameChange {
            removed: None,
            added: Some((path.to_owned(), Node::Directory)),
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file_at(from)?;
        self.require_directory(directory_of(to))?;
        self.step()?;
        self.change_names(NameChange {
            removed: Some(from.to_owned()),
            added: Some((to.to_owned(), Node::File(inode))),
        });
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.file_at(path)?;
        self.step()?;
        self.change_names(NameChange {
            removed: Some(path.to_owned()),
            added: None,
        });
        Ok(())
    }

    pub(super) fn hard_link(&mut self, original: &Path, link: &Path) -> io::Result<()> {
        let inode = self.file_at(original)?;
        if self.live.contains_key(link) {
            return Err(errno(libc::EEXIST));
        }
        self.require_directory(directory_of(link))?;
        self.step()?;
        self.change_names(NameChange {
            removed: None,
            added: Some((link.to_owned(), Node::File(inode))),
        });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.require_directory(path)?;
        self.step()?;
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change.touches(path) {
                apply_name(&mut self.durable, &change);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.require_directory(path)?;
        Ok(self
            .live
            .keys()
            .filter(|name| *name != path && directory_of(name) == path)
            .filter_map(|name| name.file_name().map(OsString::from))
            .collect())
    }

    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match self.live.get(path) {
            None => Err(errno(libc::ENOENT)),
            Some(Node::Directory) => Ok(Metadata {
                len: 0,
                is_dir: true,
                modified_unix_ms: None,
            }),
            Some(Node::File(inode)) => Ok(Metadata {
                len: self.len(*inode)?,
                is_dir: false,
                modified_unix_ms: None,
            }),
        }
    }

    pub(super) fn len(&self, inode: u64) -> io::Result<u64> {
        let inode = self.inodes.get(&inode).ok_or_else(|| errno(libc::EIO))?;
        Ok(inode.live.len() as u64)
    }

    pub(super) fn read_at(
        &self,
        inode: u64,
        buffer: &mut [u8],
        position: u64,
    ) -> io::Result<usize> {
        let inode = self.inodes.get(&inode).ok_or_else(|| errno(libc::EIO))?;
        let rest = inode.live.get(position as usize..).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn used_bytes(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| inode.allocated.max(inode.live.len() as u64))
            .sum()
    }

    pub(super) fn write_at(
        &mut self,
        inode: u64,
        bytes: &[u8],
        position: u64,
    ) -> io::Result<usize> {
        let used = self.used_bytes();
        let capacity = self.capacity_bytes;
        let inode = self.inode(inode)?;
        let held = inode.allocated.max(inode.live.len() as u64);
        let end_max = capacity.map_or(u64::MAX, |capacity| held + capacity.saturating_sub(used));
        let room = end_max.saturating_sub(position).min(bytes.len() as u64) as usize;
        if room == 0 && !bytes.is_empty() {
            return Err(errno(libc::ENOSPC));
        }
        let change = FileChange::Write {
            position,
            bytes: bytes[..room].to_vec(),
        };
        apply_file(&mut inode.live, &change);
        inode.pending.push(change);
        Ok(room)
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64) -> io::Result<()> {
        let inode = self.inode(inode)?;
        let change = FileChange::SetLen(len);
        apply_file(&mut inode.live, &change);
        inode.pending.push(change);
        inode.allocated = inode.allocated.min(len);
        Ok(())
    }

    pub(super) fn allocate(&mut self, inode: u64, len: u64) -> io::Result<()> {
        let used = self.used_bytes();
        let capacity = self.capacity_bytes.unwrap_or(u64::MAX);
        let inode = self.inode(inode)?;
        let held = inode.allocated.max(inode.live.len() as u64);
        if len.saturating_sub(held) > capacity.saturating_sub(used) {
            return Err(errno(libc::ENOSPC));
        }
        inode.allocated = inode.allocated.max(len);
        if (inode.live.len() as u64) < len {
            let change = FileChange::SetLen(len);
            apply_file(&mut inode.live, &change);
            inode.pending.push(change);
        }
        Ok(())
    }

    pub(super) fn sync_file(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            for change in std::mem::take(&mut inode.pending) {
                apply_file(&mut inode.durable, &change);
            }
        }
    }

    /// After a failed sync the pages count as clean although the medium never got them.
    pub(super) fn drop_pending(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.pending.clear();
        }
    }

    pub(super) fn crash(&mut self, mode: CrashMode) {
        let mut random = TestRandom::new(match mode {
            CrashMode::TornPrefix { seed } | CrashMode::Scattered { seed } => seed,
            CrashMode::DropAll | CrashMode::KeepAll => 0,
        });
        for change in std::mem::take(&mut self.pending) {
            let kept = match mode {
                CrashMode::DropAll => false,
                CrashMode::KeepAll => true,
                CrashMode::TornPrefix { .. } | CrashMode::Scattered { .. } => random.coin(),
            };
            if kept {
                apply_name(&mut self.durable, &change);
            }
        }
        // Files in a directory whose own creation was lost are gone with it.
        let names = std::mem::take(&mut self.durable);
        self.durable = names
            .iter()
            .filter(|(path, _)| {
                let directory = directory_of(path);
                !self.live.contains_key(directory) || names.contains_key(directory)
            })
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        self.live = self.durable.clone();
        let mut inodes: Vec<_> = self.inodes.keys().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            if let Some(inode) = self.inodes.get_mut(&inode) {
                crash_file(inode, mode, &mut random);
            }
        }
        let live = &self.live;
        self.inodes
            .retain(|inode, _| live.values().any(|node| *node == Node::File(*inode)));
        self.power_lost_at = None;
        self.faults.clear();
        self.generation += 1;
    }

    pub(super) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.file_at(path).ok()?;
        Some(self.inodes.get(&inode)?.live.clone())
    }

    pub(super) fn flip_bits(&mut self, path: &Path, position: u64, mask: u8) -> bool {
        let Ok(inode) = self.file_at(path) else {
            return false;
        };
        let Some(inode) = self.inodes.get_mut(&inode) else {
            return false;
        };
        let mut found = false;
        for view in [&mut inode.live, &mut inode.durable] {
            if let Some(byte) = view.get_mut(position as usize) {
                *byte ^= mask;
                found = true;
            }
        }
        found
    }
}

fn crash_file(inode: &mut Inode, mode: CrashMode, random: &mut TestRandom) {
    let pending = std::mem::take(&mut inode.pending);
    let survivors = match mode {
        CrashMode::DropAll => 0,
        CrashMode::KeepAll | CrashMode::Scattered { .. } => pending.len(),
        CrashMode::TornPrefix { .. } => random.below(pending.len() as u64 + 1) as usize,
    };
    let scattered = matches!(mode, CrashMode::Scattered { .. });
    for (index, change) in pending.into_iter().take(survivors).enumerate() {
        let last_of_prefix = matches!(mode, CrashMode::TornPrefix { .. }) && index + 1 == survivors;
        let fate = if scattered { random.below(3) } else { 0 };
        match change {
            FileChange::Write { position, bytes } if fate == 1 || last_of_prefix => {
                let kept = random.below(bytes.len() as u64 + 1) as usize;
                let torn = FileChange::Write {
                    position,
                    bytes: bytes[..kept].to_vec(),
                };
                if kept > 0 {
                    apply_file(&mut inode.durable, &torn);
                }
            }
            FileChange::Write { position, bytes } if fate == 2 => {
                // The length may have reached the disk without the bytes: zeros.
                if random.coin() {
                    let end = (position as usize + bytes.len()).max(inode.durable.len());
                    inode.durable.resize(end, 0);
                }
            }
            other => apply_file(&mut inode.durable, &other),
        }
    }
    inode.live = inode.durable.clone();
    inode.allocated = inode.allocated.min(inode.live.len() as u64);
}
