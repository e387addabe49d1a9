//! Reading an RDB from front to back, values included.

use std::io::{self, Read};
use std::sync::Arc;

use redrock_log::fs::FsFile;
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};
use redrock_rdb::object::{ObjectError, decode};

use crate::progress::ActionProgress;

/// Keys between two updates of the progress.
const PROGRESS_KEYS: u64 = 1024;

/// What was found in a sound file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RdbContent {
    pub version: u16,
    pub keys: u64,
    /// Where the RDB ends; more may follow in an append-only file.
    pub end: u64,
    /// Keys that only a module can read.
    pub module_keys: u64,
}

/// Checks the RDB at the start of `file`; the error is the text for people.
pub(super) fn check_rdb(
    file: &Arc<dyn FsFile>,
    allow_trailing: bool,
    progress: &ActionProgress,
) -> Result<RdbContent, String> {
    let options = ReaderOptions {
        allow_trailing,
        ..ReaderOptions::default()
    };
    let source = FileReader {
        file: Arc::clone(file),
        position: 0,
    };
    let mut reader = RdbReader::new(source, options).map_err(|error| error.to_string())?;
    let (mut keys, mut module_keys) = (0, 0);
    loop {
        match reader.next_item().map_err(|error| error.to_string())? {
            None => break,
            Some(Item::Entry(entry)) => {
                keys += 1;
                match decode(entry.object_type, &entry.payload) {
                    Ok(_) => {}
                    Err(ObjectError::Module { .. }) => module_keys += 1,
                    Err(error) => {
                        let key = entry.key.get(..128).unwrap_or(&entry.key);
                        return Err(format!(
                            "{error} (key '{}', before RDB offset {})",
                            key.escape_ascii(),
                            reader.offset()
                        ));
                    }
                }
                if keys % PROGRESS_KEYS == 0 {
                    progress.written(reader.offset(), keys);
                }
            }
            Some(_) => {}
        }
    }
    Ok(RdbContent {
        version: reader.version(),
        keys,
        end: reader.offset(),
        module_keys,
    })
}

struct FileReader {
    file: Arc<dyn FsFile>,
    position: u64,
}

impl Read for FileReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(target, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
