//! Bytes of the stream on their way to the segment.
//!
//! Most are in memory. What a transaction writes beyond a mebibyte is in a file without a name
//! ([`Overflow`]) and is read from there when its turn comes.

use redrock_log::writer::Source;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// What a transaction may hold in memory of its effects.
pub const MEMORY_BYTES_MAX: usize = 1 << 20;
/// How much of a file is in memory at a time.
const READ_BYTES: usize = 256 << 10;

/// Bytes in a file without a name.
#[derive(Debug, Clone)]
pub struct Overflow {
    file: Arc<File>,
    bytes: u64,
}

impl Overflow {
    /// An empty one; its file is in `folder`.
    pub fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(crate::unnamed_file::create(folder, "effects")?),
            bytes: 0,
        })
    }

    /// Their number.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds some. After an error it is as before.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Source for Overflow {
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        while at < self.bytes {
            let count = buffer.len().min((self.bytes - at) as usize);
            let part = buffer.get_mut(..count).unwrap_or_default();
            self.file.read_exact_at(part, at)?;
            take(part)?;
            at += count as u64;
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Files, each with the place among `bytes` that it stands before. There are always bytes
    /// behind one: the end of its transaction.
    files: VecDeque<(usize, Overflow)>,
}

impl Batch {
    /// What is in memory, for adding to it.
    pub fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds bytes that are in a file. Something must be added behind them under the same lock.
    pub fn push_file(&mut self, file: Overflow) {
        if file.bytes > 0 {
            self.files.push_back((self.bytes.len(), file));
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The place behind all that is in it: a length in memory.
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// All bytes up to the place `end`, those in files too.
    pub fn part(&self, end: usize) -> Part<'_> {
        let count = self.files.partition_point(|(at, _)| *at < end);
        Part {
            bytes: self.bytes.get(..end).unwrap_or(&self.bytes),
            files: self.files.iter().take(count),
        }
    }

    /// Forgets all up to the place `end`; keeps room for `capacity_max` bytes at most.
    pub fn consume(&mut self, end: usize, capacity_max: usize) {
        self.bytes.drain(..end.min(self.bytes.len()));
        if self.bytes.capacity() > capacity_max {
            self.bytes.shrink_to(capacity_max);
        }
        while self.files.front().is_some_and(|(at, _)| *at < end) {
            self.files.pop_front();
        }
        for (at, _) in &mut self.files {
            *at -= end;
        }
    }
}

/// See [`Batch::part`].
pub struct Part<'a> {
    bytes: &'a [u8],
    files: std::iter::Take<std::collections::vec_deque::Iter<'a, (usize, Overflow)>>,
}

impl Part<'_> {
    /// Their number.
    pub fn bytes(&self) -> u64 {
        let files = self.files.clone().map(|(_, file)| file.bytes());
        self.bytes.len() as u64 + files.sum::<u64>()
    }
}

impl Source for Part<'_> {
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut from = 0;
        for (at, file) in self.files.clone() {
            take(self.bytes.get(from..*at).unwrap_or_default())?;
            file.visit(take)?;
            from = *at;
        }
        take(self.bytes.get(from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(source: &impl Source) -> Vec<u8> {
        let mut all = Vec::new();
        let visited = source.visit(&mut |piece| {
            all.extend_from_slice(piece);
            Ok(())
        });
        visited.unwrap();
        all
    }

    #[test]
    fn bytes_in_memory_and_in_files_come_out_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let big = vec![b'x'; READ_BYTES + 7];
        let mut file = Overflow::create(folder.path()).unwrap();
        file.push(&big).unwrap();
        let mut batch = Batch::default();
        batch.memory().extend_from_slice(b"one");
        batch.push_file(file.clone());
        batch.memory().extend_from_slice(b"two");
        let switch = batch.end();
        batch.push_file(file);
        batch.push_file(Overflow::create(folder.path()).unwrap());
        batch.memory().extend_from_slice(b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let first = [b"one", big.as_slice(), b"two"].concat();
        assert_eq!(collect(&batch.part(switch)), first);
        assert_eq!(batch.part(switch).bytes(), first.len() as u64);
        let second = [big.as_slice(), b"three"].concat();
        assert_eq!(
            collect(&batch.part(batch.end())),
            [first, second.clone()].concat()
        );
        batch.consume(switch, 0);
        assert_eq!(collect(&batch.part(batch.end())), second);
        batch.consume(batch.end(), 0);
        assert!(batch.is_empty() && collect(&batch.part(0)).is_empty());
    }
}
