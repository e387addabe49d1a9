//! Writing an RDB file.
//!
//! The writer frames; values come in the form that the file's version wants
//! (`object::Transcoder`). It keeps offset and checksum, and buffers, so that
//! the sink gets few large writes. Nothing is synced here.

use std::io::{Error, ErrorKind, Result, Write};

use super::{MAGIC, VERSION_CHECKSUM_MIN, VERSION_MAX, VERSION_WRITTEN_MIN, opcode};
use crate::crc64::Crc64;
use crate::object::{encode, types};

const BUFFER_BYTES: usize = 64 * 1024;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// RDB version: 10, 11 or 12.
    pub version: u16,
    /// Whether a checksum is computed (`rdbchecksum`); zeros otherwise.
    pub checksum: bool,
}

impl Default for WriterOptions {
    /// Version 10, which Redis 7.0 and all later ones load, with a checksum.
    fn default() -> Self {
        Self {
            version: VERSION_WRITTEN_MIN,
            checksum: true,
        }
    }
}

/// What a key has apart from name and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryMeta {
    /// Expiry in milliseconds since the epoch.
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last access, under an LRU policy.
    pub idle_secs: Option<u64>,
    /// Access frequency counter, under an LFU policy.
    pub frequency: Option<u8>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes, checksum included.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// The checksum in the file; 0 if none was computed.
    pub checksum: u64,
}

/// Writes one file.
pub struct RdbWriter<W> {
    sink: W,
    buffer: Vec<u8>,
    /// Bytes given to the sink.
    flushed: u64,
    entries: u64,
    version: u16,
    crc: Option<Crc64>,
}

impl<W: Write> RdbWriter<W> {
    /// Starts a file. A version that can't be written is an `InvalidInput`
    /// error.
    pub fn new(sink: W, options: WriterOptions) -> Result<Self> {
        let version = options.version;
        if !(VERSION_WRITTEN_MIN..=VERSION_MAX).contains(&version) {
            let text = format!("RDB version {version} can't be written");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        debug_assert!(version >= VERSION_CHECKSUM_MIN);
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(format!("{version:04}").as_bytes());
        let crc = options.checksum.then(Crc64::new);
        Ok(Self {
            sink,
            buffer,
            flushed: 0,
            entries: 0,
            version,
            crc,
        })
    }

    /// Number of bytes written so far, buffered ones included.
    pub fn bytes(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Number of entries written so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// A field about the file.
    pub fn aux(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.buffer.push(opcode::AUX);
        encode::string(&mut self.buffer, key);
        encode::string(&mut self.buffer, value);
        self.flush_if_full()
    }

    /// The database of the entries that follow.
    pub fn select_db(&mut self, database: u64) -> Result<()> {
        self.buffer.push(opcode::SELECTDB);
        encode::length(&mut self.buffer, database);
        self.flush_if_full()
    }

    /// The sizes of that database, as a hint to the loader.
    pub fn resize_db(&mut self, keys: u64, expires: u64) -> Result<()> {
        self.buffer.push(opcode::RESIZEDB);
        encode::length(&mut self.buffer, keys);
        encode::length(&mut self.buffer, expires);
        self.flush_if_full()
    }

    /// The source code of a function library.
    pub fn function(&mut self, code: &[u8]) -> Result<()> {
        self.buffer.push(opcode::FUNCTION2);
        encode::string(&mut self.buffer, code);
        self.flush_if_full()
    }

    /// A key and its value, which must have the form of the file's version.
    pub fn entry(
        &mut self,
        key: &[u8],
        meta: &EntryMeta,
        object_type: u8,
        payload: &[u8],
    ) -> Result<()> {
        self.entry_start(key, meta, object_type)?;
        self.entry_bytes(payload)
    }

    /// A key whose value follows in pieces by [`RdbWriter::entry_bytes`]. A
    /// type that the file's version does not know is an `InvalidInput` error.
    pub fn entry_start(&mut self, key: &[u8], meta: &EntryMeta, object_type: u8) -> Result<()> {
        let known = types::is_object_type(object_type);
        if !known || types::version_of(object_type) > self.version {
            let version = self.version;
            let text = format!("RDB type {object_type} in a file of version {version}");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        // Redis's order: expiry, then usage.
        if let Some(expire_at_ms) = meta.expire_at_ms {
            self.buffer.push(opcode::EXPIRETIME_MS);
            self.buffer.extend_from_slice(&expire_at_ms.to_le_bytes());
        }
        if let Some(idle_secs) = meta.idle_secs {
            self.buffer.push(opcode::IDLE);
            encode::length(&mut self.buffer, idle_secs);
        }
        if let Some(frequency) = meta.frequency {
            self.buffer.extend_from_slice(&[opcode::FREQ, frequency]);
        }
        self.buffer.push(object_type);
        encode::string(&mut self.buffer, key);
        self.entries += 1;
        self.flush_if_full()
    }

    /// A piece of the value of the entry that was started last.
    pub fn entry_bytes(&mut self, piece: &[u8]) -> Result<()> {
        if piece.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(piece);
            return self.flush_if_full();
        }
        self.flush_buffer()?;
        if let Some(crc) = &mut self.crc {
            crc.update(piece);
        }
        self.sink.write_all(piece)?;
        self.flushed += piece.len() as u64;
        Ok(())
    }

    /// What has been written so far: bytes, and their checksum (0 if none is
    /// computed). What is buffered goes to the sink.
    pub fn so_far(&mut self) -> Result<(u64, u64)> {
        self.flush_buffer()?;
        Ok((self.flushed, self.crc.map_or(0, |crc| crc.value())))
    }

    /// Ends the file and hands everything to the sink, which is flushed and
    /// given back.
    pub fn finish(mut self) -> Result<(W, Written)> {
        self.buffer.push(opcode::EOF);
        self.flush_buffer()?;
        let checksum = self.crc.map_or(0, |crc| crc.value());
        self.sink.write_all(&checksum.to_le_bytes())?;
        self.flushed += 8;
        self.sink.flush()?;
        let written = Written {
            bytes: self.flushed,
            entries: self.entries,
            checksum,
        };
        Ok((self.sink, written))
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() < BUFFER_BYTES {
            Ok(())
        } else {
            self.flush_buffer()
        }
    }

    fn flush_buffer(&mut self) -> Result<()> {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.buffer);
        }
        self.sink.write_all(&self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        // One large key or function must not hold its memory for good.
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }
}
