//! What the ring has no room for: a file without a name.
//!
//! EXEC and scripts can't wait once they have changed something. What they leave behind beyond the
//! ring's size goes here, under the lock, into the page cache; the consumer reads it in its own
//! time. Size and time are bounded: beyond them the snapshot fails, never the command.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a spool may hold.
const SPOOL_BYTES_MAX: u64 = 4 << 30;
/// How long writing to it may take in all.
const SPOOL_TIME_MAX: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: u64,
    spent: Duration,
    waiting: VecDeque<Spooled>,
}

/// What a spooled piece is.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Packed records and their number.
    Records(u32),
    /// The payload of one value whose record has this header.
    Value(Vec<u8>),
}

/// A piece of the file.
#[derive(Debug)]
pub struct Spooled {
    file: Arc<File>,
    at: u64,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub content: Content,
}

impl Spooled {
    /// Reads `bytes` from `position` on.
    pub fn read(&self, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, self.at + position)?;
        Ok(buffer)
    }
}

impl Spool {
    /// An empty one in a folder; its file has no name from the start.
    pub fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(crate::unnamed_file::create(folder, "snapshot")?),
            end: 0,
            spent: Duration::ZERO,
            waiting: VecDeque::new(),
        })
    }

    /// Appends a piece.
    pub fn push(&mut self, parts: [&[u8]; 2], content: Content) -> io::Result<()> {
        let started = Instant::now();
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if self.end + bytes > SPOOL_BYTES_MAX || self.spent > SPOOL_TIME_MAX {
            return Err(io::Error::other("old values do not leave fast enough"));
        }
        let at = self.end;
        for part in parts {
            self.file.write_all_at(part, self.end)?;
            self.end += part.len() as u64;
        }
        self.spent += started.elapsed();
        self.waiting.push_back(Spooled {
            file: self.file.clone(),
            at,
            bytes,
            content,
        });
        Ok(())
    }

    /// The oldest piece.
    pub fn pop(&mut self) -> Option<Spooled> {
        self.waiting.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
