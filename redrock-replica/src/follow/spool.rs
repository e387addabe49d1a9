//! The spool: what the master has sent and the server has not applied yet.
//!
//! `<dir>/spool/` holds at most one snapshot and the stream behind it in files
//! of a bounded length. Nothing in it is durable state: after a crash the
//! server's log says where to go on, and whatever lies here is removed.
//!
//! Invariants:
//! - files follow each other without a gap, and each begins at a *safe*
//!   offset: between commands, outside MULTI;
//! - readers are told of bytes up to the last safe offset only, so that a link
//!   may be resumed there (as Redis does: another master may not have what was
//!   half sent) without taking back anything announced;
//! - each unlink is preceded by the epoch check (I8).

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use parking_lot::Mutex;
use redrock_log::epoch::EpochGuard;
use redrock_proto::model::{HexId, SharedPath, SpoolState};
use tokio::sync::Notify;

use super::partial;
use crate::context::Position;
use crate::framing::Framer;

/// Length at which a new file is begun, unless the limit is small.
const FILE_BYTES: u64 = 64 << 20;
/// Files that the limit is divided into at least.
const FILES_MIN: u64 = 8;

/// Directory of the spool in the data directory.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("spool")
}

/// Makes the directory, or removes what a former process left in it but for snapshots that may be
/// gone on with.
pub(crate) fn clean(data_dir: &Path, guard: &EpochGuard) -> anyhow::Result<()> {
    let directory = directory(data_dir);
    match std::fs::create_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result.context("make the spool directory")?,
    }
    let list = || format!("list the spool directory {}", directory.display());
    for entry in std::fs::read_dir(&directory).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if is_ours(&path) && !is_partial(&path) {
            guard
                .unlink(&path)
                .context("remove a left-over spool file")?;
        }
    }
    Ok(())
}

/// Names that this module makes; others are left alone.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        (name.starts_with("snapshot-") && name.ends_with(".rdb"))
            || (name.starts_with("stream-") && name.ends_with(".spool"))
    })
}

fn is_partial(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| partial::parse_name(name).is_some())
}

/// Numbers files apart, for the life of the process.
static NEXT_FILE: AtomicU64 = AtomicU64::new(1);

/// A new, empty file of the spool.
pub(crate) fn create(data_dir: &Path, kind: Kind<'_>) -> io::Result<(PathBuf, File)> {
    let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
    let name = match kind {
        Kind::Snapshot(None) => format!("snapshot-{number}.rdb"),
        Kind::Snapshot(Some(name)) => format!("snapshot-{number}-{name}.rdb"),
        Kind::Stream(start) => format!("stream-{number}-{start}.spool"),
    };
    let path = directory(data_dir).join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    Ok((path, file))
}

/// What a file holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// Named so that another process knows it.
    Snapshot(Option<&'a str>),
    /// From this offset on.
    Stream(u64),
}

#[derive(Debug)]
struct SpoolFile {
    path: PathBuf,
    start: u64,
    /// Readable end: a safe offset.
    end: u64,
    complete: bool,
}

#[derive(Debug)]
struct Inner {
    files: VecDeque<SpoolFile>,
    replid: HexId,
    /// Counts changes of the id.
    version: u64,
    closed: bool,
}

/// What writer and applier share.
#[derive(Debug)]
pub(crate) struct SpoolShared {
    inner: Mutex<Inner>,
    /// Rung at every change.
    pub(crate) changed: Notify,
}

impl SpoolShared {
    /// Id of the stream, and how often it has changed.
    pub(crate) fn replid(&self) -> (HexId, u64) {
        let inner = self.inner.lock();
        (inner.replid, inner.version)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Nothing will be added any more. The caller removes the files.
    pub(crate) fn close(&self) -> Vec<PathBuf> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        self.changed.notify_waiters();
        inner.files.drain(..).map(|file| file.path).collect()
    }

    /// The earliest state that tells of bytes behind `offset`.
    pub(crate) fn next_state(&self, offset: u64, data_dir: &Path) -> Option<SpoolState> {
        let inner = self.inner.lock();
        let file = inner.files.iter().find(|file| file.end > offset)?;
        Some(SpoolState {
            path: SharedPath::new(data_dir, &file.path),
            start_offset: file.start,
            readable_end_offset: file.end,
        })
    }

    /// Offsets that can be read.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let inner = self.inner.lock();
        Some((inner.files.front()?.start, inner.files.back()?.end))
    }

    /// Takes files that lie wholly before `offset` out of the list; the caller
    /// removes them.
    pub(crate) fn take_applied(&self, offset: u64) -> Vec<PathBuf> {
        let mut inner = self.inner.lock();
        let mut taken = vec![];
        while let Some(file) = inner.files.front()
            && file.complete
            && file.end <= offset
        {
            taken.extend(inner.files.pop_front().map(|file| file.path));
        }
        if !taken.is_empty() {
            self.changed.notify_waiters();
        }
        taken
    }
}

/// A request in the stream to tell the applied offset, by its own offset.
pub(crate) type GetAck = u64;

/// Writes the stream. Methods block on the disk: call them where that is fine.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    data_dir: PathBuf,
    shared: Arc<SpoolShared>,
    framer: Framer,
    in_transaction: bool,
    file: Arc<File>,
    file_start: u64,
    file_bytes_max: u64,
    received: u64,
    safe: u64,
    getacks: Vec<GetAck>,
}

impl SpoolWriter {
    /// A stream that begins at `position`.
    pub(crate) fn create(
        data_dir: &Path,
        position: Position,
        limit_bytes: u64,
    ) -> io::Result<SpoolWriter> {
        let (path, file) = create(data_dir, Kind::Stream(position.offset))?;
        let first = SpoolFile {
            path,
            start: position.offset,
            end: position.offset,
            complete: false,
        };
        let shared = SpoolShared {
            inner: Mutex::new(Inner {
                files: VecDeque::from([first]),
                replid: position.replid,
                version: 0,
                closed: false,
            }),
            changed: Notify::new(),
        };
        Ok(SpoolWriter {
            data_dir: data_dir.to_owned(),
            shared: Arc::new(shared),
            framer: Framer::new(position.offset),
            in_transaction: false,
            file: Arc::new(file),
            file_start: position.offset,
            file_bytes_max: (limit_bytes / FILES_MIN).clamp(4096, FILE_BYTES),
            received: position.offset,
            safe: position.offset,
            getacks: Vec::new(),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<SpoolShared> {
        &self.shared
    }

    /// End of what is received; the last bytes may be half a command.
    pub(crate) fn received_offset(&self) -> u64 {
        self.received
    }

    /// Where a link would be resumed.
    pub(crate) fn position(&self) -> Position {
        Position {
            replid: self.shared.replid().0,
            offset: self.safe,
        }
    }

    /// Bytes on disk that the server hasn't applied or that await removal.
    pub(crate) fn bytes(&self) -> u64 {
        let inner = self.shared.inner.lock();
        let start = inner.files.front().map_or(self.received, |file| file.start);
        self.received - start
    }

    /// The GETACK commands seen since the last call.
    pub(crate) fn take_getacks(&mut self) -> Vec<GetAck> {
        std::mem::take(&mut self.getacks)
    }

    /// Appends bytes of the stream.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let before = self.received;
        let (mut safe, mut in_transaction) = (self.safe, self.in_transaction);
        let getacks = &mut self.getacks;
        self.framer.push(bytes, |command| {
            if command.is(&[b"multi"]) {
                in_transaction = true;
            } else if command.is(&[b"exec"]) || command.is(&[b"discard"]) {
                in_transaction = false;
            } else if command.argc == 3 && command.is(&[b"replconf", b"getack"]) {
                getacks.push(command.start);
            }
            if !in_transaction {
                safe = command.end;
            }
        })?;
        self.in_transaction = in_transaction;
        let split = usize::try_from(safe.saturating_sub(before)).unwrap_or(0);
        let file_bytes = before - self.file_start;
        let rotates = file_bytes >= self.file_bytes_max && safe > before;
        if !rotates {
            self.write(bytes)?;
            self.publish(safe);
            return Ok(());
        }
        let (head, tail) = bytes.split_at_checked(split).unwrap_or((bytes, &[]));
        self.write(head)?;
        self.publish(safe);
        self.rotate().context("begin a spool file")?;
        self.write(tail)
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let at = self.received - self.file_start;
        self.file
            .write_all_at(bytes, at)
            .context("write to the spool")?;
        self.received += bytes.len() as u64;
        Ok(())
    }

    fn publish(&mut self, safe: u64) {
        if safe == self.safe {
            return;
        }
        self.safe = safe;
        if let Some(file) = self.shared.inner.lock().files.back_mut() {
            file.end = safe;
        }
        self.shared.changed.notify_waiters();
    }

    /// Only where `received == safe`.
    fn rotate(&mut self) -> io::Result<()> {
        if self.shared.is_closed() {
            // Nobody would remove another file before the next start.
            return Err(io::Error::other("the spool is closed"));
        }
        let (path, file) = create(&self.data_dir, Kind::Stream(self.safe))?;
        self.file = Arc::new(file);
        self.file_start = self.safe;
        let mut inner = self.shared.inner.lock();
        if let Some(last) = inner.files.back_mut() {
            last.complete = true;
        }
        inner.files.push_back(SpoolFile {
            path,
            start: self.safe,
            end: self.safe,
            complete: false,
        });
        Ok(())
    }

    /// Forgets what was received behind the safe offset: the link is resumed
    /// there, under `replid` if the master told one.
    pub(crate) fn resume(&mut self, replid: Option<HexId>) -> io::Result<()> {
        self.file.set_len(self.safe - self.file_start)?;
        self.received = self.safe;
        self.framer = Framer::new(self.safe);
        self.in_transaction = false;
        self.getacks.clear();
        if let Some(replid) = replid {
            let mut inner = self.shared.inner.lock();
            if inner.replid != replid {
                inner.replid = replid;
                inner.version += 1;
            }
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }
}

/// Removes files; a failure is logged and costs the disk space only.
pub(crate) fn remove_files(guard: &EpochGuard, paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = guard.unlink(path) {
            tracing::warn!(%error, path = %path.display(), "could not remove a spool file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redrock_log::epoch::begin_run;
    use redrock_log::fs::RealFs;

    fn guard(dir: &Path) -> EpochGuard {
        let epoch = begin_run(&RealFs, dir, [b'a'; 40]).unwrap();
        EpochGuard::new(Arc::new(RealFs), dir, epoch)
    }

    fn position(offset: u64) -> Position {
        Position {
            replid: HexId::from_bytes([1; 20]),
            offset,
        }
    }

    fn writer(dir: &Path, guard: &EpochGuard, limit_bytes: u64) -> SpoolWriter {
        clean(dir, guard).unwrap();
        SpoolWriter::create(dir, position(1000), limit_bytes).unwrap()
    }

    /// All that a reader sees, file by file.
    fn read_all(shared: &SpoolShared, dir: &Path, from: u64) -> Vec<u8> {
        let (mut at, mut bytes) = (from, vec![]);
        while let Some(state) = shared.next_state(at, dir) {
            let file = std::fs::read(state.path.resolve(dir)).unwrap();
            let part = |offset: u64| (offset - state.start_offset) as usize;
            bytes.extend_from_slice(&file[part(at)..part(state.readable_end_offset)]);
            at = state.readable_end_offset;
        }
        bytes
    }

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

    #[test]
    fn readers_see_whole_commands_outside_transactions_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = writer(dir.path(), &guard(dir.path()), 1 << 30);
        let shared = Arc::clone(spool.shared());
        let stream = [
            SET,
            b"*1\r\n$5\r\nMULTI\r\n",
            SET,
            b"*1\r\n$4\r\nEXEC\r\n",
            b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n",
        ]
        .concat();
        let multi = SET.len();
        let behind = 2 * SET.len() + 15 + 14;
        for (at, byte) in stream.iter().enumerate() {
            spool.append(&[*byte]).unwrap();
            let visible = match at + 1 {
                n if n < multi => 0,
                n if n < behind => multi,
                n if n < stream.len() => behind,
                n => n,
            };
            assert_eq!(shared.range(), Some((1000, 1000 + visible as u64)));
        }
        assert_eq!(read_all(&shared, dir.path(), 1000), stream);
        assert_eq!(spool.take_getacks(), [1000 + behind as u64]);
    }

    #[test]
    fn files_are_bounded_and_vanish_once_applied() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        let mut spool = writer(dir.path(), &guard, 4096 * FILES_MIN);
        let shared = Arc::clone(spool.shared());
        let stream = SET.repeat(1000);
        for chunk in stream.chunks(777) {
            spool.append(chunk).unwrap();
        }
        assert!(shared.inner.lock().files.len() > 4);
        assert_eq!(read_all(&shared, dir.path(), 1000), stream);
        assert_eq!(spool.bytes(), stream.len() as u64);
        let end = 1000 + stream.len() as u64;
        remove_files(&guard, &shared.take_applied(end - 1));
        remove_files(&guard, &shared.take_applied(end));
        let left = std::fs::read_dir(directory(dir.path())).unwrap().count();
        assert_eq!(left, 1, "the file being written stays");
        assert!(spool.bytes() < 8192);
    }

    #[test]
    fn a_resumed_link_goes_on_behind_the_last_whole_command() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = writer(dir.path(), &guard(dir.path()), 1 << 30);
        spool.append(SET).unwrap();
        spool.append(&SET[..10]).unwrap();
        let asked = spool.position();
        assert_eq!(asked.offset, 1000 + SET.len() as u64);
        let other = HexId::from_bytes([2; 20]);
        spool.resume(Some(other)).unwrap();
        spool.append(SET).unwrap();
        assert_eq!(spool.shared().replid(), (other, 1));
        let shared = Arc::clone(spool.shared());
        assert_eq!(read_all(&shared, dir.path(), 1000), SET.repeat(2));
        assert!(spool.append(b"*nonsense\r\n").is_err());
    }

    #[test]
    fn what_a_crash_left_is_removed_and_foreign_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        clean(dir.path(), &guard).unwrap();
        create(dir.path(), Kind::Snapshot(None)).unwrap();
        create(dir.path(), Kind::Stream(5)).unwrap();
        let id = "5-100-00000000000000ab-boot";
        let (partial, _) = create(dir.path(), Kind::Snapshot(Some(id))).unwrap();
        std::fs::write(directory(dir.path()).join("notes"), "x").unwrap();
        clean(dir.path(), &guard).unwrap();
        // What another process may go on with is looked at later.
        std::fs::remove_file(partial).unwrap();
        let names: Vec<_> = std::fs::read_dir(directory(dir.path()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["notes"]);
    }
}
