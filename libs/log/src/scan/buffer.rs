//! A window over a file: the command being parsed and what was read ahead of it.

use std::io;
use std::ops::Range;

use crate::fs::FsFile;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A buffer that a huge command has grown is given back beyond this.
const KEEP_BYTES: usize = 1024 * 1024;

/// The outcome of reading one line.
#[derive(Debug)]
pub(super) enum Line {
    /// Range in the window of the line without its end.
    Whole(Range<usize>),
    /// The file ends before the line does, well-formed so far.
    Incomplete,
    /// The byte at this file position can't stand there.
    Bad {
        /// File position.
        at: u64,
    },
}

/// Bytes `start..` of the file; `cursor` separates what is consumed from what is ahead.
#[derive(Debug)]
pub(super) struct Window<'f> {
    file: &'f dyn FsFile,
    file_bytes: u64,
    buffer: Vec<u8>,
    /// File position of `buffer[0]`.
    base: u64,
    /// Start of the current command in the buffer.
    begin: usize,
    cursor: usize,
}

impl<'f> Window<'f> {
    pub(super) fn new(file: &'f dyn FsFile, position: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            file_bytes: file.len()?,
            buffer: Vec::new(),
            base: position,
            begin: 0,
            cursor: 0,
        })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// File position of the current command.
    pub(super) fn start(&self) -> u64 {
        self.base + self.begin as u64
    }

    /// File position of the next byte to consume.
    pub(super) fn position(&self) -> u64 {
        self.base + self.cursor as u64
    }

    pub(super) fn bytes_left(&self) -> u64 {
        self.file_bytes.saturating_sub(self.position())
    }

    /// The current command's consumed bytes; ranges count from its first one.
    pub(super) fn consumed(&self) -> &[u8] {
        self.buffer.get(self.begin..self.cursor).unwrap_or(&[])
    }

    /// Bytes of a range that [`Self::take`] or [`Self::line`] returned.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.consumed().get(range).unwrap_or(&[])
    }

    /// Forgets the current command; the next one starts at the cursor.
    pub(super) fn release(&mut self) {
        self.begin = self.cursor;
        if self.begin == self.buffer.len() {
            self.base += self.begin as u64;
            self.buffer.clear();
            self.begin = 0;
            self.cursor = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// Reads until `ahead` bytes stand behind the cursor or the file ends; returns how
    /// many do.
    fn fill(&mut self, ahead: usize) -> io::Result<usize> {
        let available = self.buffer.len() - self.cursor;
        if available >= ahead {
            return Ok(available);
        }
        if self.begin > 0 {
            self.buffer.drain(..self.begin);
            self.base += self.begin as u64;
            self.cursor -= self.begin;
            self.begin = 0;
        }
        let have = self.buffer.len();
        let end = self.base + have as u64;
        let wanted = (ahead - available).max(READ_BYTES) as u64;
        let wanted = wanted.min(self.file_bytes.saturating_sub(end)) as usize;
        self.buffer.resize(have + wanted, 0);
        let window = self.buffer.get_mut(have..).unwrap_or(&mut []);
        let count = self.file.read_full_at(window, end)?;
        self.buffer.truncate(have + count);
        if count < wanted {
            // The file shrank while it was read: what is gone is treated as its end.
            self.file_bytes = end + count as u64;
        }
        Ok(self.buffer.len() - self.cursor)
    }

    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        self.fill(1)?;
        Ok(self.buffer.get(self.cursor).copied())
    }

    /// A byte of the file by position, without consuming anything.
    pub(super) fn byte_in_file(&self, position: u64) -> io::Result<Option<u8>> {
        let mut byte = [0u8; 1];
        let count = self.file.read_full_at(&mut byte, position)?;
        Ok((count == 1).then_some(byte[0]))
    }

    /// Consumes `count` bytes, which the caller has checked to be in the file.
    pub(super) fn take(&mut self, count: usize) -> io::Result<Range<usize>> {
        let available = self.fill(count)?;
        let count = count.min(available);
        let from = self.cursor - self.begin;
        self.cursor += count;
        Ok(from..from + count)
    }

    /// Consumes a line of at most `bytes_max`, its end included. With `length_line` the
    /// bytes behind the first one must be digits and the end CRLF; else any byte may
    /// stand before the newline.
    pub(super) fn line(&mut self, bytes_max: usize, length_line: bool) -> io::Result<Line> {
        let available = self.fill(bytes_max)?.min(bytes_max);
        let ahead = self.buffer.get(self.cursor..).unwrap_or(&[]);
        let line_start = self.position();
        let from = self.cursor - self.begin;
        let mut digits = 0;
        for (index, byte) in ahead.iter().take(available).enumerate() {
            let previous = index.checked_sub(1).and_then(|before| ahead.get(before));
            let behind_return = length_line && previous == Some(&b'\r');
            match byte {
                b'\n' if !length_line || behind_return => {
                    let end = if length_line { index - 1 } else { index };
                    self.cursor += index + 1;
                    return Ok(Line::Whole(from..from + end));
                }
                _ if !length_line || index == 0 => {}
                b'\r' if digits > 0 && !behind_return => {}
                b'0'..=b'9' if !behind_return => digits += 1,
                _ => {
                    return Ok(Line::Bad {
                        at: line_start + index as u64,
                    });
                }
            }
        }
        if available < bytes_max {
            return Ok(Line::Incomplete);
        }
        Ok(Line::Bad {
            at: line_start + available as u64,
        })
    }
}
