//! What an RDB says about itself before its first key.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use redrock_log::fs::{Fs, FsFile, OpenMode};
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};

use crate::error::{Result, io_error};
use redrock_proto::RpcError;

/// Fields that a file may have; more are some other file's trouble.
const FIELDS_MAX: usize = 256;

/// Version and fields of an RDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdbHead {
    pub version: u16,
    /// Name and value, in their order.
    pub fields: Vec<(String, String)>,
}

impl RdbHead {
    /// Reads the fields in front of the first key; values are not looked at.
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<RdbHead> {
        let file = fs
            .open(path, OpenMode::Read)
            .map_err(|error| io_error("open", path, &error))?;
        let damaged = |error| RpcError::corrupt(format!("{}: {error}", path.display()));
        let options = ReaderOptions {
            allow_trailing: true,
            // No field is longer; a value that is ends the head anyway.
            value_bytes_max: 1 << 20,
            ..ReaderOptions::default()
        };
        let mut reader = RdbReader::new(FileReader::new(file), options).map_err(damaged)?;
        let mut head = RdbHead {
            version: reader.version(),
            fields: Vec::new(),
        };
        while head.fields.len() < FIELDS_MAX {
            match reader.next_item() {
                Ok(Some(Item::Aux { key, value })) => head.fields.push((text(&key), text(&value))),
                Err(error) if head.fields.is_empty() => return Err(damaged(error)),
                _ => break,
            }
        }
        Ok(head)
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// When it was made (`ctime`), unix milliseconds; whole seconds.
    pub fn made_unix_ms(&self) -> Option<u64> {
        self.field("ctime")?.parse::<u64>().ok()?.checked_mul(1000)
    }

    /// The stream offset of its cut.
    pub fn offset(&self) -> Option<u64> {
        self.field("repl-offset")?.parse().ok()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a file from its beginning.
pub(crate) struct FileReader {
    file: Arc<dyn FsFile>,
    position: u64,
}

impl FileReader {
    pub(crate) fn new(file: Arc<dyn FsFile>) -> FileReader {
        FileReader { file, position: 0 }
    }
}

impl Read for FileReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(target, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
