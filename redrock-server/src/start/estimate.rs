//! Whether the data set will fit into memory, estimated before any of it is read.
//!
//! With the feature off all of it must: a start that is refused with the figures is better than one
//! that is killed half-way. What an RDB tells of itself is the least that it needs: values in memory
//! are no smaller than in a file, but for LZF, so that a compressed one needs more than its length.
//! Redis and this server note the memory that they used at the time (`used-mem`); that of a server
//! that tiered is its hot part only. So the larger of both figures counts. Commands tell nothing:
//! later ones may delete what earlier ones wrote.

use crate::config::Config;
use anyhow::{Context as _, bail};
use redrock_log::fs::{Fs, FsFile, OpenMode};
use redrock_log::scan::{Content, detect_content};
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Fields that are looked at; a file has about ten.
const FIELDS_MAX: usize = 256;
/// No field is longer; a value that is ends the head anyway.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// What a file consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// An RDB and nothing else.
    Whole,
    /// An RDB, or none, and commands behind it.
    Preamble,
}

/// Refuses a file that needs more memory than is free, with both figures, unless tiering is on or
/// `load-anyway` is set. Changes nothing.
pub(super) fn refuse_what_does_not_fit(
    config: &Config,
    fs: &dyn Fs,
    path: &Path,
    extent: Extent,
) -> anyhow::Result<()> {
    if config.memory.tiering || config.snapshot.load_anyway {
        return Ok(());
    }
    let Some(free) = crate::memory::available_bytes() else {
        return Ok(());
    };
    let named = || format!("look at {}", path.display());
    let file = fs.open(path, OpenMode::Read).with_context(named)?;
    let file_bytes = match extent {
        Extent::Whole => file.len().with_context(named)?,
        Extent::Preamble => 0,
    };
    let used = match detect_content(file.as_ref()).with_context(named)? {
        Content::Rdb => used_memory(file),
        _ => None,
    };
    match refusal(path, file_bytes, used, free) {
        Some(text) => bail!(text),
        None => Ok(()),
    }
}

/// What to say if the data need more than is free.
fn refusal(path: &Path, file_bytes: u64, used: Option<u64>, free: u64) -> Option<String> {
    let need = file_bytes.max(used.unwrap_or(0));
    if need <= free {
        return None;
    }
    let why = match used {
        Some(used) if used > file_bytes => "what its writer used",
        _ => "the length of the file",
    };
    Some(format!(
        "the data set needs at least {need} bytes of memory ({why}, {}) and {free} bytes are free. \
         What to do: turn tiering on (maxmemory and enable-rocksdb-feature yes), free memory, or set \
         load-anyway yes. Nothing was changed",
        path.display()
    ))
}

/// `used-mem` in the fields before the first key. A head that can't be read tells nothing: what is
/// wrong with it the load says.
fn used_memory(file: Arc<dyn FsFile>) -> Option<u64> {
    let options = ReaderOptions {
        allow_trailing: true,
        value_bytes_max: FIELD_BYTES_MAX,
        ..ReaderOptions::default()
    };
    let mut reader = RdbReader::new(FromStart { file, position: 0 }, options).ok()?;
    for _ in 0..FIELDS_MAX {
        match reader.next_item().ok()?? {
            Item::Aux { key, value } if key == b"used-mem" => {
                return std::str::from_utf8(&value).ok()?.parse().ok();
            }
            Item::Aux { .. } => {}
            _ => return None,
        }
    }
    None
}

/// Reads a file from its start, counting nothing: it is read again by the load.
struct FromStart {
    file: Arc<dyn FsFile>,
    position: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redrock_log::fs::RealFs;
    use redrock_rdb::file::{RdbWriter, WriterOptions};

    fn used(fields: &[(&str, &str)], more: &[u8]) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.rdb");
        let mut writer = RdbWriter::new(Vec::new(), WriterOptions::default()).unwrap();
        for (name, value) in fields {
            writer.aux(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let (bytes, _) = writer.finish().unwrap();
        std::fs::write(&path, [&bytes[..], more].concat()).unwrap();
        used_memory(RealFs.open(&path, OpenMode::Read).unwrap())
    }

    #[test]
    fn the_head_of_a_file_tells_what_its_writer_used() {
        assert_eq!(
            used(&[("ctime", "1"), ("used-mem", "12345678901")], b""),
            Some(12_345_678_901)
        );
        assert_eq!(used(&[("used-mem", "7")], b"*1\r\n$4\r\nPING\r\n"), Some(7));
        assert_eq!(used(&[("ctime", "1")], b""), None);
        assert_eq!(used(&[("used-mem", "much")], b""), None);
    }

    #[test]
    fn the_larger_figure_is_told_with_where_it_is_from() {
        let path = Path::new("/d/dump.rdb");
        let text = refusal(path, 10, Some(30), 20).unwrap();
        assert!(
            text.contains("at least 30 bytes of memory (what its writer used, /d/dump.rdb)"),
            "{text}"
        );
        let text = refusal(path, 40, Some(30), 20).unwrap();
        assert!(
            text.contains("at least 40 bytes") && text.contains("20 bytes are free"),
            "{text}"
        );
        assert!(text.contains("load-anyway yes"), "{text}");
        assert_eq!(refusal(path, 20, Some(19), 20), None);
        assert_eq!(refusal(path, 0, None, 20), None);
    }
}
