//! A thread that writes one piece of a file while the next is made, past the page cache where the file system
//! lets it (`O_DIRECT`).
//!
//! What goes through the page cache costs more of the processor there than making it does: pages are taken,
//! filled, found places for, sent and given back one by one. And the file's pages push others out that are wanted.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use redrock_log::fs::FsFile;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::pages::Pages;

/// Bytes written at once. Two such pieces are all that there is in memory.
const PIECE_BYTES: usize = 1 << 20;
/// What places in file and memory must be multiples of, on any disk there is.
const ALIGNMENT: usize = 4096;

/// A piece of the file.
struct Piece {
    bytes: Vec<u8>,
    /// Where in `bytes` it begins.
    start: usize,
    length: usize,
}

impl Piece {
    fn new() -> Self {
        let bytes = vec![0; PIECE_BYTES + ALIGNMENT];
        // A vector's bytes stay where they are while it is moved.
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self {
            bytes,
            start,
            length: 0,
        }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    fn is_full(&self) -> bool {
        self.length == PIECE_BYTES
    }

    /// Takes what it has room for; how much that was.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(PIECE_BYTES - self.length);
        let at = self.start + self.length;
        self.bytes[at..at + count].copy_from_slice(&bytes[..count]);
        self.length += count;
        count
    }
}

/// See the module. A piece that could not be written ends it: every later call fails as well.
pub(super) struct Writer {
    filling: Piece,
    /// `None`: it has ended.
    pieces: Option<SyncSender<Piece>>,
    /// What was written comes back to be filled again.
    written: Receiver<io::Result<Piece>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Begins at the file's beginning. `None` for files without a descriptor, and without a thread.
    pub(super) fn start(file: &Arc<dyn FsFile>) -> Option<Self> {
        file.as_fd()?;
        let (pieces, to_write) = sync_channel::<Piece>(1);
        let (back, written) = sync_channel(2);
        let job = Job {
            file: Arc::clone(file),
            is_direct: set_direct(&**file, true),
            position: 0,
            pages: Pages::default(),
        };
        back.send(Ok(Piece::new())).ok()?;
        let thread = std::thread::Builder::new().name("snapshot-file".into());
        let thread = thread.spawn(move || job.run(&to_write, &back));
        if let Err(error) = &thread {
            tracing::debug!(%error, "no thread to write a snapshot");
            set_direct(&**file, false);
        }
        Some(Self {
            filling: Piece::new(),
            pieces: Some(pieces),
            written,
            thread: Some(thread.ok()?),
        })
    }

    /// Takes all bytes; waits while the piece before is being written.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.filling.take(bytes);
            bytes = &bytes[count..];
            if self.filling.is_full() {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let mut next = self.written.recv().map_err(|_| ended())??;
        next.length = 0;
        let full = std::mem::replace(&mut self.filling, next);
        let pieces = self.pieces.as_ref().ok_or_else(ended)?;
        pieces.send(full).map_err(|_| ended())
    }

    /// Waits until all that it took is written; it takes no more then.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.pieces = None;
        let last = self.written.recv().map_err(|_| ended())?;
        last.map(drop)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            // It has told its error, if it had one.
            let _ = thread.join();
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("an earlier piece could not be written")
}

/// Whether the file is written past the page cache from now on.
fn set_direct(file: &dyn FsFile, on: bool) -> bool {
    let Some(fd) = file.as_fd() else {
        return false;
    };
    let set = fcntl_getfl(fd).and_then(|mut flags| {
        flags.set(OFlags::DIRECT, on);
        fcntl_setfl(fd, flags)
    });
    set.is_ok() && on
}

/// The thread's side.
struct Job {
    file: Arc<dyn FsFile>,
    is_direct: bool,
    position: u64,
    pages: Pages,
}

impl Job {
    fn run(mut self, pieces: &Receiver<Piece>, back: &SyncSender<io::Result<Piece>>) {
        for piece in pieces {
            let written = self.write(piece.filled()).map(|()| piece);
            let failed = written.is_err();
            // Nobody may wait for it any more.
            if back.send(written).is_err() || failed {
                return;
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The file's end need not be where a block ends.
        if self.is_direct && !bytes.len().is_multiple_of(ALIGNMENT) {
            self.is_direct = set_direct(&*self.file, false);
        }
        match self.file.write_all_at(bytes, self.position) {
            // Some file systems take the flag and not what is written with it.
            Err(error) if self.is_direct && error.raw_os_error() == Some(libc::EINVAL) => {
                self.is_direct = set_direct(&*self.file, false);
                self.file.write_all_at(bytes, self.position)?;
            }
            written => written?,
        }
        self.position += bytes.len() as u64;
        match self.is_direct {
            true => Ok(()),
            false => self.pages.written(&*self.file, self.position),
        }
    }
}
