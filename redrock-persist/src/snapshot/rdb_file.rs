//! An RDB file under construction: records in, in any order of databases, a whole file out.
//!
//! Redis loads a file that selects a database several times (`SELECTDB` only sets the target of
//! the entries that follow), which is what lets records be written as they come.
//!
//! Invariants:
//! - memory is bounded: a value is held as a whole only up to [`LARGE_VALUE_BYTES`], larger ones
//!   pass in pieces (and uncompressed, which every reader takes);
//! - a value that can't be written fails the file, naming database and key: none is skipped.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redrock_proto::RpcError;
use redrock_proto::model::record::{Access, RecordHeader};
use redrock_proto::model::{Begin, Database};
use redrock_rdb::file::{EntryMeta, RdbWriter, WriterOptions, Written};
use redrock_rdb::object::{ObjectError, Target, Transcoder, pipe_value, piped_type, types};

use super::file_sink::FileSink;
use crate::error::{Result, io_error};
use crate::progress::unix_ms;

/// From this length on a value is not held as a whole (the longest payload of a Records frame).
pub(super) const LARGE_VALUE_BYTES: usize = 256 * 1024;
/// A large value of a type that has no other form for the file's version is transcoded in
/// memory up to this length. Only listpack-encoded sets are concerned, whose length the server's
/// own limits keep far below.
const WHOLE_VALUE_BYTES_MAX: u64 = 64 << 20;

/// How soon a pause notices that nobody wants the file any more.
const PAUSE_STEP: Duration = Duration::from_millis(20);

/// How the file is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOptions {
    /// 10, 11 or 12.
    pub version: u16,
    pub compress: bool,
    pub checksum: bool,
    /// The file is the base of an append-only log.
    pub aof_base: bool,
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdbSummary {
    pub written: Written,
    /// Bytes of the dirty part, at the file's head, and their checksum.
    pub dirty: (u64, u64),
    /// Values copied byte for byte.
    pub copied: u64,
    /// Values that had to be changed for the file.
    pub transcoded: u64,
}

/// The file under construction.
pub(super) struct RdbFile {
    writer: RdbWriter<FileSink>,
    transcoder: Transcoder,
    scratch: Vec<u8>,
    path: std::path::PathBuf,
    /// Databases whose sizes have not been written yet.
    unsized_databases: Vec<Database>,
    database: Option<u32>,
    dirty: (u64, u64),
    copied: u64,
    transcoded: u64,
    /// A pause before each key, and what ends it early.
    pause: (Duration, Arc<AtomicBool>),
}

/// Everything of an entry but its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryHeader<'a> {
    pub database: u32,
    pub key: &'a [u8],
    pub meta: EntryMeta,
    pub object_type: u8,
}

impl<'a> From<&RecordHeader<'a>> for EntryHeader<'a> {
    fn from(header: &RecordHeader<'a>) -> EntryHeader<'a> {
        EntryHeader {
            database: header.database,
            key: header.key,
            meta: EntryMeta {
                expire_at_ms: header.expires_unix_ms,
                idle_secs: match header.access {
                    Access::IdleSeconds(seconds) => Some(seconds),
                    _ => None,
                },
                frequency: match header.access {
                    Access::Frequency(frequency) => Some(frequency),
                    _ => None,
                },
            },
            object_type: header.object_type,
        }
    }
}

impl RdbFile {
    /// Begins the file: header, aux fields, functions.
    pub(super) fn begin(
        sink: FileSink,
        path: &std::path::Path,
        options: FileOptions,
        begin: &Begin,
    ) -> Result<RdbFile> {
        let failed = |error: io::Error| io_error("write", path, &error);
        let writer_options = WriterOptions {
            version: options.version,
            checksum: options.checksum,
        };
        let mut writer = RdbWriter::new(sink, writer_options).map_err(failed)?;
        write_aux(&mut writer, options, begin).map_err(failed)?;
        for code in &begin.functions {
            writer.function(code).map_err(failed)?;
        }
        Ok(RdbFile {
            writer,
            transcoder: Transcoder::new(Target {
                version: options.version,
                compress: options.compress,
            }),
            scratch: Vec::new(),
            path: path.to_owned(),
            unsized_databases: begin.databases.clone(),
            database: None,
            dirty: (0, 0),
            copied: 0,
            transcoded: 0,
            pause: (Duration::ZERO, Arc::default()),
        })
    }

    /// Makes the writing slow: `delay` before each key, until it is `cancelled`.
    pub(super) fn pause_before_keys(&mut self, delay: Duration, cancelled: Arc<AtomicBool>) {
        self.pause = (delay, cancelled);
    }

    fn wait_before_key(&self) -> Result<()> {
        let (delay, cancelled) = &self.pause;
        if delay.is_zero() {
            return Ok(());
        }
        let end = Instant::now() + *delay;
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(RpcError::cancelled("the snapshot was given up"));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::park_timeout(left.min(PAUSE_STEP));
        }
    }

    /// Bytes so far, those in the buffer included.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Entries so far.
    pub(super) fn entries(&self) -> u64 {
        self.writer.entries()
    }

    /// Writes an entry whose value is at hand.
    pub(super) fn value(&mut self, header: &EntryHeader<'_>, payload: &[u8]) -> Result<()> {
        if payload.len() > LARGE_VALUE_BYTES
            && piped_type(header.object_type, self.transcoder.target().version).is_some()
        {
            let mut rest = payload;
            self.piped(header, &mut rest)?;
            return match rest {
                [] => Ok(()),
                _ => Err(damaged(header, "bytes after the value's end")),
            };
        }
        self.select(header.database)?;
        if self.transcoder.copies(header.object_type) {
            self.copied += 1;
            return self
                .writer
                .entry(header.key, &header.meta, header.object_type, payload)
                .map_err(|error| self.failed(&error));
        }
        self.scratch.clear();
        if header.object_type == types::STRING {
            return self.string(header, payload);
        }
        let done = self
            .transcoder
            .transcode(header.object_type, payload, &mut self.scratch)
            .map_err(|error| value_error(header, &error))?;
        if done.copied {
            self.copied += 1;
        } else {
            self.transcoded += 1;
        }
        let written = self
            .writer
            .entry(header.key, &header.meta, done.object_type, &self.scratch);
        self.scratch.shrink_to(2 * LARGE_VALUE_BYTES);
        written.map_err(|error| self.failed(&error))
    }

    /// Writes a string, which most values are: without a copy if it is to be as it is.
    fn string(&mut self, header: &EntryHeader<'_>, payload: &[u8]) -> Result<()> {
        let kept = self
            .transcoder
            .keeps_string(payload, &mut self.scratch)
            .map_err(|error| value_error(header, &error))?;
        let bytes = if kept {
            self.copied += 1;
            payload
        } else {
            self.transcoded += 1;
            &self.scratch
        };
        let written = self
            .writer
            .entry(header.key, &header.meta, types::STRING, bytes);
        self.scratch.shrink_to(2 * LARGE_VALUE_BYTES);
        written.map_err(|error| self.failed(&error))
    }

    /// Writes an entry whose value comes from `reader`; what follows the value there is left.
    pub(super) fn large_value<R: Read>(
        &mut self,
        header: &EntryHeader<'_>,
        reader: &mut R,
    ) -> Result<()> {
        if piped_type(header.object_type, self.transcoder.target().version).is_some() {
            return self.piped(header, reader);
        }
        let mut payload = Vec::new();
        reader
            .take(WHOLE_VALUE_BYTES_MAX + 1)
            .read_to_end(&mut payload)
            .map_err(|error| value_error(header, &ObjectError::Io(error)))?;
        if payload.len() as u64 > WHOLE_VALUE_BYTES_MAX {
            return Err(damaged(header, "longer than its type may be"));
        }
        self.value(header, &payload)
    }

    fn piped<R: Read>(&mut self, header: &EntryHeader<'_>, reader: &mut R) -> Result<()> {
        self.select(header.database)?;
        let version = self.transcoder.target().version;
        let object_type = piped_type(header.object_type, version)
            .ok_or_else(|| damaged(header, "not in the form in which values are kept"))?;
        self.writer
            .entry_start(header.key, &header.meta, object_type)
            .map_err(|error| self.failed(&error))?;
        if object_type == header.object_type {
            self.copied += 1;
        } else {
            self.transcoded += 1;
        }
        let writer = &mut self.writer;
        pipe_value(reader, header.object_type, version, |bytes| {
            writer.entry_bytes(bytes)
        })
        .map_err(|error| value_error(header, &error))?;
        Ok(())
    }

    /// Before each entry: its database.
    fn select(&mut self, database: u32) -> Result<()> {
        self.wait_before_key()?;
        if self.database == Some(database) {
            return Ok(());
        }
        self.writer
            .select_db(database.into())
            .map_err(|error| self.failed(&error))?;
        self.database = Some(database);
        let at = self
            .unsized_databases
            .iter()
            .position(|sizes| sizes.index == database);
        if let Some(at) = at {
            let sizes = self.unsized_databases.swap_remove(at);
            self.writer
                .resize_db(sizes.keys, sizes.expires)
                .map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// The dirty part is whole: what has been written is what a warm start reads.
    pub(super) fn end_dirty_part(&mut self) -> Result<()> {
        self.dirty = self.writer.so_far().map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// Ends the file and syncs it.
    pub(super) fn finish(self) -> Result<RdbSummary> {
        let path = self.path;
        let (mut sink, written) = self
            .writer
            .finish()
            .map_err(|error| io_error("write", &path, &error))?;
        sink.sync()?;
        Ok(RdbSummary {
            written,
            dirty: self.dirty,
            copied: self.copied,
            transcoded: self.transcoded,
        })
    }

    fn failed(&self, error: &io::Error) -> RpcError {
        io_error("write", &self.path, error)
    }
}

/// The fields that Redis writes, in its order, then ours.
fn write_aux(
    writer: &mut RdbWriter<FileSink>,
    options: FileOptions,
    begin: &Begin,
) -> io::Result<()> {
    // The version whose files these are to any reader.
    let redis_version: &[u8] = match options.version {
        10 => b"7.0.15",
        11 => b"7.2.4",
        _ => b"7.4.0",
    };
    let bits: &[u8] = if cfg!(target_pointer_width = "64") {
        b"64"
    } else {
        b"32"
    };
    writer.aux(b"redis-ver", redis_version)?;
    writer.aux(b"redis-bits", bits)?;
    writer.aux(b"ctime", (unix_ms() / 1000).to_string().as_bytes())?;
    writer.aux(b"used-mem", begin.used_memory_bytes.to_string().as_bytes())?;
    let stream_db = begin.stream_db.unwrap_or(0);
    writer.aux(b"repl-stream-db", stream_db.to_string().as_bytes())?;
    writer.aux(b"repl-id", begin.replid.as_str().as_bytes())?;
    writer.aux(b"repl-offset", begin.log_offset.to_string().as_bytes())?;
    let aof_base: &[u8] = if options.aof_base { b"1" } else { b"0" };
    writer.aux(b"aof-base", aof_base)?;
    writer.aux(b"redrock-ver", env!("CARGO_PKG_VERSION").as_bytes())?;
    for (name, value) in &begin.aux {
        writer.aux(name.as_bytes(), value)?;
    }
    Ok(())
}

/// The key as people can read it, cut.
fn key_text(key: &[u8]) -> String {
    let shown = key.get(..128).unwrap_or(key);
    let dots = if shown.len() < key.len() { "..." } else { "" };
    format!("'{}'{dots}", shown.escape_ascii())
}

fn value_error(header: &EntryHeader<'_>, error: &ObjectError) -> RpcError {
    let key = key_text(header.key);
    let database = header.database;
    match error {
        ObjectError::Io(error) => {
            let context = format!("value of key {key} in database {database}:");
            io_error("copy the", std::path::Path::new(&context), error)
        }
        ObjectError::NotInVersion { version, .. } => RpcError::unsupported(format!(
            "key {key} in database {database} can't be written in RDB version {version}: {error}"
        ))
        .with_hint("set rdb-version 12, or remove the key"),
        _ => RpcError::corrupt(format!(
            "the value of key {key} in database {database} is damaged: {error}"
        ))
        .with_hint("the file was not replaced; delete or overwrite the key and save again"),
    }
}

/// A value that isn't what it should be.
pub(super) fn damaged(header: &EntryHeader<'_>, problem: &'static str) -> RpcError {
    RpcError::corrupt(format!(
        "the value of key {} in database {} is damaged: {problem}",
        key_text(header.key),
        header.database
    ))
    .with_hint("the file was not replaced; delete or overwrite the key and save again")
}
