//! What can be read of a damaged RDB, written anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use redrock_log::fs::{Fs, OpenMode, RealFs};
use redrock_rdb::file::{EntryMeta, Item, RdbReader, RdbWriter, ReaderOptions, WriterOptions};
use redrock_rdb::object::decode;

use crate::error::{Result, io_error};
use crate::rdb_head::FileReader;
use redrock_proto::RpcError;

/// Keys named in a report.
const NAMED_MAX: usize = 10;
const VERSION_WRITTEN_MIN: u16 = 10;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) kept_keys: u64,
    /// Keys whose values make no sense.
    pub(super) skipped_keys: u64,
    /// Some of their names.
    pub(super) skipped: Vec<String>,
    /// Keys that the file says it has and that were not reached.
    pub(super) missing_keys: u64,
    /// Bytes behind the point at which reading ended.
    pub(super) unread_bytes: u64,
    /// Why it ended, if not at the file's end.
    pub(super) stopped: Option<String>,
}

impl Salvaged {
    /// What is lost, for people.
    pub(super) fn loss(&self) -> String {
        let mut text = format!("keeps {} keys", self.kept_keys);
        if self.skipped_keys > 0 {
            let names = self.skipped.join(", ");
            text.push_str(&format!(
                "; loses {} keys whose values are damaged or modules' ({names})",
                self.skipped_keys
            ));
        }
        match &self.stopped {
            Some(why) => text.push_str(&format!(
                "; loses the {} bytes behind ({why}), {} more keys by the file's own count",
                self.unread_bytes, self.missing_keys
            )),
            None if self.skipped_keys == 0 => {
                text.push_str(": all that it holds; what the checksum misses can't be told");
            }
            None => {}
        }
        text
    }
}

/// Reads as far as possible; writes what was read to `target`, if there is one, and syncs it.
pub(super) fn read(path: &Path, target: Option<&Path>) -> Result<Salvaged> {
    let failed = |error: io::Error| io_error("read", path, &error);
    let file = RealFs.open(path, OpenMode::Read).map_err(failed)?;
    let bytes = file.len().map_err(failed)?;
    let options = ReaderOptions {
        normalize: false,
        verify_checksum: false,
        allow_trailing: true,
        ..ReaderOptions::default()
    };
    let mut reader = RdbReader::new(FileReader::new(file), options)
        .map_err(|error| RpcError::corrupt(format!("{}: {error}", path.display())))?;
    let mut writer = match target {
        Some(target) => Some(Output::create(target, reader.version())?),
        None => None,
    };
    let mut salvaged = Salvaged::default();
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    let mut database = 0;
    loop {
        let position = reader.offset();
        let item = match reader.next_item() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            Err(error) => {
                salvaged.stopped = Some(error.to_string());
                salvaged.unread_bytes = bytes.saturating_sub(position);
                break;
            }
        };
        match &item {
            Item::SelectDb(number) => database = *number,
            Item::ResizeDb { keys, .. } => _ = expected.insert(database, *keys),
            _ => {}
        }
        if salvaged.take(&item)
            && let Some(output) = &mut writer
        {
            output.put(&item)?;
        }
    }
    let told: u64 = expected
        .values()
        .fold(0, |sum, keys| sum.saturating_add(*keys));
    let read = salvaged.kept_keys.saturating_add(salvaged.skipped_keys);
    salvaged.missing_keys = told.saturating_sub(read);
    if let Some(output) = writer {
        output.finish()?;
    }
    Ok(salvaged)
}

impl Salvaged {
    /// Counts an item; whether it is worth keeping.
    fn take(&mut self, item: &Item) -> bool {
        let key = match item {
            Item::Entry(entry) if decode(entry.object_type, &entry.payload).is_ok() => {
                self.kept_keys += 1;
                return true;
            }
            Item::Entry(entry) => &entry.key,
            // Without its module nobody can tell whether the value is whole.
            Item::ModuleKey(skipped) => &skipped.key,
            _ => return true,
        };
        self.skipped_keys += 1;
        if self.skipped.len() < NAMED_MAX {
            let shown = key.get(..128).unwrap_or(key);
            self.skipped.push(shown.escape_ascii().to_string());
        }
        false
    }
}

/// The new file.
struct Output<'a> {
    path: &'a Path,
    writer: RdbWriter<BufWriter<File>>,
}

impl<'a> Output<'a> {
    fn create(path: &'a Path, version: u16) -> Result<Output<'a>> {
        let options = WriterOptions {
            // Values are copied as they are: later versions read all earlier forms.
            version: version.max(VERSION_WRITTEN_MIN),
            checksum: true,
        };
        let created =
            File::create(path).and_then(|file| RdbWriter::new(BufWriter::new(file), options));
        let writer = created.map_err(|error| io_error("write", path, &error))?;
        Ok(Output { path, writer })
    }

    fn put(&mut self, item: &Item) -> Result<()> {
        let writer = &mut self.writer;
        let put = match item {
            Item::Aux { key, value } => writer.aux(key, value),
            Item::SelectDb(number) => writer.select_db(*number),
            Item::ResizeDb { keys, expires } => writer.resize_db(*keys, *expires),
            Item::Function(code) => writer.function(code),
            Item::Entry(entry) => {
                let meta = EntryMeta {
                    expire_at_ms: entry.expire_at_ms,
                    idle_secs: entry.idle_secs,
                    frequency: entry.frequency,
                };
                writer.entry(&entry.key, &meta, entry.object_type, &entry.payload)
            }
            // Nobody but the module could read them, and no key is lost with them.
            Item::ModuleAux(_) | Item::ModuleKey(_) | Item::EmptyKey(_) => Ok(()),
        };
        put.map_err(|error| io_error("write", self.path, &error))
    }

    fn finish(self) -> Result<()> {
        let finished = || -> io::Result<()> {
            let (sink, _) = self.writer.finish()?;
            let file = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()
        };
        finished().map_err(|error| io_error("write", self.path, &error))
    }
}
