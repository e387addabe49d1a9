//! Reading an RDB file from front to back.
//!
//! Invariants: one entry is in memory at a time; nothing is allocated beyond
//! 64 KiB ahead of the bytes that came; what belongs to modules is skipped
//! without being held; nothing after the file's end is consumed; every error
//! has its offset and, inside an entry, the key.

use std::borrow::Cow;
use std::io::Read;

use super::modules::{ModuleKey, ModuleType};
use super::source::Source;
use super::{EntryPlace, FileError, FileErrorKind, MAGIC, MAGIC_VALKEY};
use super::{VERSION_CHECKSUM_MIN, VERSION_MAX, VERSION_MIN, opcode};
use crate::number::parse_i64;
use crate::object::{
    Cursor, ObjectError, copy_length, copy_string, copy_value, normalize, skip_module_fields, types,
};

/// Types that later versions add count up from the last known one, opcodes down from 243: below
/// this a key follows.
const UNKNOWN_TYPE_MAX: u8 = 127;
/// The longest key that is read to name a value of an unknown type.
const UNKNOWN_KEY_BYTES_MAX: usize = 64 << 10;

/// How to read.
#[derive(Debug, Clone, Copy)]
pub struct ReaderOptions {
    /// Bring values into the superset form.
    pub normalize: bool,
    /// Compare the checksum at the end (`rdbchecksum`).
    pub verify_checksum: bool,
    /// Accept bytes after the end, as in an append-only file with an RDB in
    /// front. Redis ignores them in any file.
    pub allow_trailing: bool,
    /// The most bytes that the encoded form of one value, key or field may
    /// have.
    pub value_bytes_max: usize,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            normalize: true,
            verify_checksum: true,
            allow_trailing: false,
            value_bytes_max: usize::MAX,
        }
    }
}

/// What a file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A field about the file.
    Aux {
        /// Its name.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The database of the entries that follow; 0 until the first of these.
    SelectDb(u64),
    /// The sizes of that database, as a hint.
    ResizeDb {
        /// Number of keys.
        keys: u64,
        /// Number of keys with an expiry.
        expires: u64,
    },
    /// The source code of a function library.
    Function(Vec<u8>),
    /// Data of a module apart from keys, skipped. Redis refuses to start
    /// without the module.
    ModuleAux(ModuleType),
    /// A key with a module's value, skipped. Redis refuses that, too.
    ModuleKey(ModuleKey),
    /// A key and its value.
    Entry(Entry),
    /// A key with an empty collection, which an old bug could leave. Redis
    /// skips it. Found only when normalizing.
    EmptyKey(Vec<u8>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The type byte of the value.
    pub object_type: u8,
    /// The value's bytes.
    pub payload: Vec<u8>,
    /// Expiry in milliseconds since the epoch.
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last access, under an LRU policy.
    pub idle_secs: Option<u64>,
    /// Access frequency counter, under an LFU policy.
    pub frequency: Option<u8>,
}

/// Reads one file.
pub struct RdbReader<R> {
    source: Source<R>,
    options: ReaderOptions,
    version: u16,
    ended: bool,
    /// Of the entry that comes next. They stay until then, whatever stands between, as in Redis.
    attributes: Attributes,
    /// The selected database, for errors.
    database: u64,
    /// Where the last item, or type byte, was.
    item_offset: u64,
    /// The key that is being read, for errors.
    key: Option<Vec<u8>>,
}

/// What may come before an entry's type.
#[derive(Default)]
struct Attributes {
    expire_at_ms: Option<i64>,
    idle_secs: Option<u64>,
    frequency: Option<u8>,
}

impl<R: Read> RdbReader<R> {
    /// Reads the header.
    pub fn new(inner: R, options: ReaderOptions) -> Result<Self, FileError> {
        let source = Source::new(inner, options.verify_checksum);
        let mut reader = Self {
            source,
            options,
            version: 0,
            ended: false,
            attributes: Attributes::default(),
            database: 0,
            item_offset: 0,
            key: None,
        };
        match reader.read_header() {
            Ok(version) => reader.version = version,
            Err(kind) => return Err(reader.fail(kind)),
        }
        Ok(reader)
    }

    /// The file's version.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Number of bytes consumed so far. Once `next_item` has given `None`, this
    /// is where the RDB ends.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// Where the item that `next_item` gave last begins: its opcode, or an entry's type byte.
    pub fn item_offset(&self) -> u64 {
        self.item_offset
    }

    /// The entry that `next_item` gave last, for errors.
    pub fn place_of(&self, key: &[u8]) -> EntryPlace {
        EntryPlace {
            database: self.database,
            offset: self.item_offset,
            key: key.to_vec(),
        }
    }

    /// The reader, and what was read from it beyond [`RdbReader::offset`].
    pub fn into_parts(self) -> (R, Vec<u8>) {
        self.source.into_parts()
    }

    /// The next item; `None` at the end, with the checksum verified. After an
    /// error nothing more can be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, FileError> {
        if self.ended {
            return Ok(None);
        }
        self.key = None;
        let item = self.read_item().map_err(|kind| self.fail(kind))?;
        self.ended = item.is_none();
        Ok(item)
    }

    fn fail(&mut self, kind: FileErrorKind) -> FileError {
        self.ended = true;
        let key = self.key.take();
        FileError {
            kind,
            offset: self.source.offset(),
            entry: key.map(|key| Box::new(self.place_of(&key))),
        }
    }

    fn read_header(&mut self) -> Result<u16, FileErrorKind> {
        let magic: [u8; 5] = self.array().map_err(|kind| match kind {
            FileErrorKind::Truncated => FileErrorKind::BadMagic,
            other => other,
        })?;
        let digits: [u8; 4] = match &magic {
            MAGIC => self.array()?,
            start if MAGIC_VALKEY.starts_with(start) => return Err(self.read_valkey_version()?),
            _ => return Err(FileErrorKind::BadMagic),
        };
        let unpadded = digits.trim_ascii_start();
        let zeros = unpadded.iter().take_while(|&&digit| digit == b'0').count();
        let version = unpadded.get(zeros..).and_then(parse_i64);
        match version.and_then(|version| u16::try_from(version).ok()) {
            Some(version @ VERSION_MIN..=VERSION_MAX) => Ok(version),
            _ => Err(FileErrorKind::BadVersion(digits.escape_ascii().to_string())),
        }
    }

    /// Behind the first five bytes of Valkey's name.
    fn read_valkey_version(&mut self) -> Result<FileErrorKind, FileErrorKind> {
        let [last, digits @ ..] = self.array::<4>()?;
        Ok(match Some(&last) == MAGIC_VALKEY.last() {
            true => FileErrorKind::Valkey(digits.escape_ascii().to_string()),
            false => FileErrorKind::BadMagic,
        })
    }

    fn read_item(&mut self) -> Result<Option<Item>, FileErrorKind> {
        loop {
            self.item_offset = self.source.offset();
            let [code] = self.array()?;
            match code {
                opcode::EXPIRETIME => {
                    let secs = i32::from_le_bytes(self.array()?);
                    self.attributes.expire_at_ms = Some(i64::from(secs) * 1000);
                }
                opcode::EXPIRETIME_MS => {
                    let at_ms = i64::from_le_bytes(self.array()?);
                    // Redis's mark for no expiry.
                    self.attributes.expire_at_ms = Some(at_ms).filter(|at_ms| *at_ms != -1);
                }
                opcode::IDLE => self.attributes.idle_secs = Some(self.length()?),
                opcode::FREQ => self.attributes.frequency = Some(self.array::<1>()?[0]),
                opcode::SLOT_INFO => {
                    // Slot, keys and expiries: hints for a table that we don't have.
                    for _ in 0..3 {
                        self.length()?;
                    }
                }
                opcode::SELECTDB => {
                    self.database = self.length()?;
                    return Ok(Some(Item::SelectDb(self.database)));
                }
                opcode::RESIZEDB => {
                    let keys = self.length()?;
                    return Ok(Some(Item::ResizeDb {
                        keys,
                        expires: self.length()?,
                    }));
                }
                opcode::AUX => {
                    let key = self.string()?;
                    return Ok(Some(Item::Aux {
                        key,
                        value: self.string()?,
                    }));
                }
                opcode::FUNCTION2 => return Ok(Some(Item::Function(self.string()?))),
                opcode::FUNCTION_PRE_GA => return Err(FileErrorKind::FunctionPreGa),
                opcode::MODULE_AUX => return self.read_module_aux().map(Some),
                opcode::EOF => return self.read_end().map(|()| None),
                types::MODULE_2 => return self.read_module_key().map(Some),
                object_type if types::is_object_type(object_type) => {
                    return self.read_entry(object_type).map(Some);
                }
                unknown => return Err(self.unknown(unknown)),
            }
        }
    }

    /// The error for a type or opcode that is not known; of a type the key is found out if possible.
    fn unknown(&mut self, code: u8) -> FileErrorKind {
        if code > UNKNOWN_TYPE_MAX {
            return FileErrorKind::UnknownOpcode(code);
        }
        let mut bytes = Vec::new();
        let key = copy_string(&mut self.source, &mut bytes, UNKNOWN_KEY_BYTES_MAX)
            .and_then(|()| Ok(Cursor::new(&bytes).content()?.into_owned()));
        self.key = key.ok();
        FileErrorKind::Object(ObjectError::UnknownType(code))
    }

    /// Reads a key, and keeps it where a failure finds it.
    fn read_key(&mut self) -> Result<Vec<u8>, FileErrorKind> {
        let key = self.string()?;
        Ok(self.key.insert(key).clone())
    }

    fn read_entry(&mut self, object_type: u8) -> Result<Item, FileErrorKind> {
        let attributes = std::mem::take(&mut self.attributes);
        let key = self.read_key()?;
        let mut payload = Vec::new();
        copy_value(
            &mut self.source,
            object_type,
            &mut payload,
            self.options.value_bytes_max,
        )
        .map_err(object_error)?;
        let mut entry = Entry {
            key,
            object_type,
            payload,
            expire_at_ms: attributes.expire_at_ms,
            idle_secs: attributes.idle_secs,
            frequency: attributes.frequency,
        };
        if self.options.normalize {
            let normal = match normalize(object_type, &entry.payload) {
                Ok(normal) => normal,
                Err(ObjectError::EmptyKey) => return Ok(Item::EmptyKey(entry.key)),
                Err(error) => return Err(FileErrorKind::Object(error)),
            };
            entry.object_type = normal.object_type;
            if let Cow::Owned(payload) = normal.payload {
                entry.payload = payload;
            }
        }
        Ok(Item::Entry(entry))
    }

    fn read_module_key(&mut self) -> Result<Item, FileErrorKind> {
        self.attributes = Attributes::default();
        let key = self.read_key()?;
        let start = self.source.offset();
        let module = ModuleType::of(self.length()?);
        skip_module_fields(&mut self.source).map_err(object_error)?;
        let bytes = self.source.offset() - start;
        Ok(Item::ModuleKey(ModuleKey { key, module, bytes }))
    }

    fn read_module_aux(&mut self) -> Result<Item, FileErrorKind> {
        const WHEN_OPCODE: u64 = 2;
        let module = ModuleType::of(self.length()?);
        if self.length()? != WHEN_OPCODE {
            let error = ObjectError::corrupt("module data without its time of loading", 0);
            return Err(FileErrorKind::Object(error));
        }
        self.length()?;
        skip_module_fields(&mut self.source).map_err(object_error)?;
        Ok(Item::ModuleAux(module))
    }

    fn read_end(&mut self) -> Result<(), FileErrorKind> {
        if self.version >= VERSION_CHECKSUM_MIN {
            let computed = self.source.checksum();
            let found = u64::from_le_bytes(self.array()?);
            if let Some(computed) = computed
                && found != 0
                && found != computed
            {
                return Err(FileErrorKind::Checksum { found, computed });
            }
        }
        if !self.options.allow_trailing && !self.source.at_end().map_err(FileErrorKind::Io)? {
            return Err(FileErrorKind::Trailing);
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileErrorKind> {
        let mut array = [0; N];
        self.source
            .read_exact(&mut array)
            .map_err(|error| object_error(ObjectError::Io(error)))?;
        Ok(array)
    }

    /// A length outside an entry's value.
    fn length(&mut self) -> Result<u64, FileErrorKind> {
        let mut bytes = Vec::new();
        copy_length(&mut self.source, &mut bytes).map_err(object_error)
    }

    /// A string outside an entry's value.
    fn string(&mut self) -> Result<Vec<u8>, FileErrorKind> {
        let mut bytes = Vec::new();
        copy_string(&mut self.source, &mut bytes, self.options.value_bytes_max)
            .map_err(object_error)?;
        let content = Cursor::new(&bytes)
            .content()
            .map_err(FileErrorKind::Object)?;
        Ok(content.into_owned())
    }
}

/// An end within a value is an end of the file.
fn object_error(error: ObjectError) -> FileErrorKind {
    match error {
        ObjectError::Truncated { .. } => FileErrorKind::Truncated,
        ObjectError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            FileErrorKind::Truncated
        }
        ObjectError::Io(error) => FileErrorKind::Io(error),
        other => FileErrorKind::Object(other),
    }
}

#[cfg(test)]
mod tests;
