//! Buffered bytes with a running offset and checksum.
//!
//! The checksum is brought up to date in large pieces: when the buffer is
//! refilled and when it is asked for.

use std::io::{Error, ErrorKind, Read, Result};

use crate::crc64::Crc64;

const BUFFER_BYTES: usize = 64 * 1024;

pub(super) struct Source<R> {
    inner: R,
    buffer: Box<[u8]>,
    /// What is consumed and not yet in the checksum starts here.
    summed: usize,
    /// What is not yet consumed starts here.
    start: usize,
    /// What was read from `inner` ends here.
    end: usize,
    /// Offset in the stream of the buffer's first byte.
    base: u64,
    /// `None` if nobody will ask.
    crc: Option<Crc64>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R, with_checksum: bool) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            summed: 0,
            start: 0,
            end: 0,
            base: 0,
            crc: with_checksum.then(Crc64::new),
        }
    }

    /// Number of bytes consumed so far.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// The checksum of what was consumed so far, if it is kept.
    pub(super) fn checksum(&mut self) -> Option<u64> {
        self.sum();
        self.crc.map(|crc| crc.value())
    }

    /// The reader, and what was read from it and not consumed.
    pub(super) fn into_parts(self) -> (R, Vec<u8>) {
        let rest = self
            .buffer
            .get(self.start..self.end)
            .unwrap_or(&[])
            .to_vec();
        (self.inner, rest)
    }

    /// Whether there is nothing left. May read.
    pub(super) fn at_end(&mut self) -> Result<bool> {
        Ok(self.start == self.end && self.fill()? == 0)
    }

    fn sum(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.update(self.buffer.get(self.summed..self.start).unwrap_or(&[]));
        }
        self.summed = self.start;
    }

    /// Reads into the empty buffer. Gives the number of bytes, 0 at the end.
    fn fill(&mut self) -> Result<usize> {
        self.sum();
        self.base += self.start as u64;
        (self.summed, self.start, self.end) = (0, 0, 0);
        loop {
            match self.inner.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.end = count.min(self.buffer.len());
                    return Ok(self.end);
                }
            }
        }
    }
}

impl<R: Read> Read for Source<R> {
    #[inline]
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if out.is_empty() || (self.start == self.end && self.fill()? == 0) {
            return Ok(0);
        }
        let available = self.buffer.get(self.start..self.end).unwrap_or(&[]);
        let count = available.len().min(out.len());
        if let (Some(target), Some(bytes)) = (out.get_mut(..count), available.get(..count)) {
            target.copy_from_slice(bytes);
        }
        self.start += count;
        Ok(count)
    }

    #[inline]
    fn read_exact(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            match self.read(out)? {
                0 => return Err(Error::from(ErrorKind::UnexpectedEof)),
                count => out = out.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}
