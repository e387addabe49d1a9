//! From any form to the superset form, and from there to a file's.
//!
//! Most rewriting changes strings only (compressed or not), so a [`Rewriter`]
//! follows the walker and copies everything else. What changes the layout
//! (historic blobs, small sets for version 10) goes through the decoded object.
//!
//! Invariant: decoding what comes out gives what decoding what went in gave,
//! but for what the target can't hold: which of two encodings a set has, and a
//! consumer's active time before version 11.

use std::borrow::Cow;

use super::decode::decode;
use super::error::ObjectError;
use super::input::{Body, Cursor, Input, StringRef};
use super::walk::walk_value;
use super::{Object, encode, types};
use crate::listpack::ListPackRef;
use crate::lzf::{self, Compressor};

/// Shorter strings are never compressed, as in Redis.
const COMPRESS_BYTES_MIN: usize = 21;
/// Bytes of a listpack without elements.
const EMPTY_LISTPACK_BYTES: usize = 7;
/// Redis compresses only what gets shorter by this much at least.
const COMPRESS_GAIN_BYTES: usize = 4;

/// A value in the superset form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized<'a> {
    /// The type byte, which may differ from the one given.
    pub object_type: u8,
    /// The payload; borrowed if nothing had to change.
    pub payload: Cow<'a, [u8]>,
}

/// Brings a value into the superset form: historic types become today's, LZF
/// strings are decompressed. A payload that is there already is borrowed.
///
/// A value that is rewritten as a whole is fully checked; one that is copied is
/// checked in structure only, and a decode later may still refuse it. Empty
/// collections are found in both cases.
pub fn normalize(object_type: u8, payload: &[u8]) -> Result<Normalized<'_>, ObjectError> {
    let mut cursor = Cursor::new(payload);
    walk_value(&mut cursor, object_type)?;
    cursor.finish()?;
    let needs_decode = match object_type {
        types::STREAM_LISTPACKS_2 => false,
        types::LIST_QUICKLIST_2 => has_empty_node(payload)?,
        other => !types::is_superset_type(other),
    };
    if needs_decode {
        let object = decode(object_type, payload)?;
        let mut out = Vec::with_capacity(payload.len());
        object.encode(&mut out);
        return Ok(Normalized {
            object_type: object.object_type(),
            payload: Cow::Owned(out),
        });
    }
    check_not_empty(object_type, payload)?;
    if object_type != types::STREAM_LISTPACKS_2 && !cursor.saw_compressed {
        return Ok(Normalized {
            object_type,
            payload: Cow::Borrowed(payload),
        });
    }
    let mut out = Vec::with_capacity(payload.len());
    let active = match object_type {
        types::STREAM_LISTPACKS_2 => ActiveTime::Add,
        _ => ActiveTime::Keep,
    };
    let mut rewriter = Rewriter::new(payload, &mut out, Strings::Expand, active);
    walk_value(&mut rewriter, object_type)?;
    let object_type = match object_type {
        types::STREAM_LISTPACKS_2 => types::STREAM_LISTPACKS_3,
        same => same,
    };
    Ok(Normalized {
        object_type,
        payload: Cow::Owned(out),
    })
}

/// Whether a list has a node without elements, which decoding drops.
fn has_empty_node(payload: &[u8]) -> Result<bool, ObjectError> {
    let mut cursor = Cursor::new(payload);
    for _ in 0..cursor.length()? {
        let packed = cursor.length()? == encode::NODE_PACKED;
        // An empty listpack is too short to be compressed.
        if let Body::Raw(bytes) = cursor.string_ref()?.body
            && packed
            && bytes.len() == EMPTY_LISTPACK_BYTES
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_not_empty(object_type: u8, payload: &[u8]) -> Result<(), ObjectError> {
    let mut cursor = Cursor::new(payload);
    let empty = match object_type {
        types::SET | types::HASH | types::ZSET_2 | types::LIST_QUICKLIST_2 => cursor.length()? == 0,
        types::HASH_METADATA => {
            cursor.skip(8)?;
            cursor.length()? == 0
        }
        types::HASH_LISTPACK | types::ZSET_LISTPACK | types::SET_LISTPACK => {
            is_empty_listpack(&mut cursor)?
        }
        types::HASH_LISTPACK_EX => {
            cursor.skip(8)?;
            is_empty_listpack(&mut cursor)?
        }
        _ => false,
    };
    if empty {
        Err(ObjectError::EmptyKey)
    } else {
        Ok(())
    }
}

fn is_empty_listpack(cursor: &mut Cursor<'_>) -> Result<bool, ObjectError> {
    Ok(matches!(cursor.string_ref()?.body, Body::Raw(bytes) if bytes.len() == EMPTY_LISTPACK_BYTES))
}

/// What a file wants its values to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// RDB version: 10 (Redis 7.0), 11 (7.2) or 12 (7.4).
    pub version: u16,
    /// Whether strings are compressed (`rdbcompression`).
    pub compress: bool,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcoded {
    /// The type byte of what was written.
    pub object_type: u8,
    /// Whether the payload was copied as it is.
    pub copied: bool,
}

/// Writes values for one target; keeps the compressor between them.
#[derive(Debug)]
pub struct Transcoder {
    target: Target,
    compressor: Option<Compressor>,
}

impl Transcoder {
    /// A transcoder for `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            compressor: target.compress.then(Compressor::new),
        }
    }

    /// What it writes for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether values of this type are copied byte for byte, provided they are
    /// in the superset form already: the caller may then copy by itself and
    /// spare the walk.
    pub fn copies(&self, object_type: u8) -> bool {
        types::is_superset_type(object_type)
            && types::version_of(object_type) <= self.target.version
            && !self.target.compress
    }

    /// Whether a string is written as it is: else its form for the target has been appended to `out`. Spares
    /// most strings the copies that [`Transcoder::transcode`] makes.
    pub fn keeps_string(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<bool, ObjectError> {
        let mut cursor = Cursor::new(payload);
        let string = cursor.string_ref()?;
        cursor.finish()?;
        let kept = match (&mut self.compressor, string.body) {
            (_, Body::Int(_)) | (None, Body::Raw(_)) => true,
            (Some(compressor), Body::Raw(bytes)) => {
                bytes.len() < COMPRESS_BYTES_MIN || !write_compressed(compressor, bytes, out)
            }
            // It has to be looked into.
            (_, Body::Lzf { .. }) => {
                self.transcode(types::STRING, payload, out)?;
                false
            }
        };
        Ok(kept)
    }

    /// Appends `payload` to `out` in the target's form. Any form may come in,
    /// the superset form is cheapest.
    ///
    /// Fails with [`ObjectError::NotInVersion`] for a hash with field expiry
    /// and a version before 12; one of which no field expires any more becomes
    /// an ordinary hash. After an error `out` is as it was.
    pub fn transcode(
        &mut self,
        object_type: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Transcoded, ObjectError> {
        let start = out.len();
        let result = self.transcode_from_any(object_type, payload, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn transcode_from_any(
        &mut self,
        object_type: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Transcoded, ObjectError> {
        let normal = normalize(object_type, payload)?;
        let borrowed = matches!(normal.payload, Cow::Borrowed(_));
        let mut transcoded = self.transcode_superset(normal.object_type, &normal.payload, out)?;
        transcoded.copied &= borrowed && transcoded.object_type == object_type;
        Ok(transcoded)
    }

    fn transcode_superset(
        &mut self,
        object_type: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Transcoded, ObjectError> {
        let version = self.target.version;
        let strings = match &mut self.compressor {
            Some(compressor) => Strings::Compress(compressor),
            None => Strings::Keep,
        };
        let fits = types::version_of(object_type) <= version;
        match object_type {
            types::SET_LISTPACK if !fits => {
                write_plain_set(payload, strings, out)?;
                Ok(Transcoded {
                    object_type: types::SET,
                    copied: false,
                })
            }
            types::STREAM_LISTPACKS_3 if !fits => {
                let mut rewriter = Rewriter::new(payload, out, strings, ActiveTime::Drop);
                walk_value(&mut rewriter, object_type)?;
                Ok(Transcoded {
                    object_type: types::STREAM_LISTPACKS_2,
                    copied: false,
                })
            }
            types::HASH_METADATA | types::HASH_LISTPACK_EX if !fits => {
                write_plain_hash(object_type, payload, version, strings, out)?;
                Ok(Transcoded {
                    object_type: types::HASH,
                    copied: false,
                })
            }
            _ if !fits => Err(ObjectError::NotInVersion {
                object_type,
                version,
            }),
            _ if matches!(strings, Strings::Keep) => {
                out.extend_from_slice(payload);
                Ok(Transcoded {
                    object_type,
                    copied: true,
                })
            }
            _ => {
                let mut rewriter = Rewriter::new(payload, out, strings, ActiveTime::Keep);
                walk_value(&mut rewriter, object_type)?;
                let copied = !rewriter.changed;
                Ok(Transcoded {
                    object_type,
                    copied,
                })
            }
        }
    }
}

/// [`Transcoder::transcode`] for a single value.
pub fn transcode(
    object_type: u8,
    payload: &[u8],
    target: Target,
    out: &mut Vec<u8>,
) -> Result<Transcoded, ObjectError> {
    Transcoder::new(target).transcode(object_type, payload, out)
}

/// Writes a small set the way versions before 11 hold it.
fn write_plain_set(
    payload: &[u8],
    mut strings: Strings<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ObjectError> {
    let blob = Cursor::new(payload).content()?;
    let listpack = ListPackRef::from_bytes(&blob)?;
    encode::length(out, listpack.len() as u64);
    for member in listpack.iter() {
        match &mut strings {
            Strings::Compress(compressor) if member.len() >= COMPRESS_BYTES_MIN => {
                let mut text = Default::default();
                let bytes = member.bytes(&mut text);
                if !write_compressed(compressor, bytes, out) {
                    encode::string(out, bytes);
                }
            }
            _ => encode::string(out, member.bytes(&mut Default::default())),
        }
    }
    Ok(())
}

/// Writes a hash of which no field expires the way versions before 12 hold it.
fn write_plain_hash(
    object_type: u8,
    payload: &[u8],
    version: u16,
    mut strings: Strings<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ObjectError> {
    let fields = match decode(object_type, payload)? {
        Object::HashTtl(fields) if fields.iter().all(|(_, _, time)| time.is_none()) => fields,
        _ => {
            return Err(ObjectError::NotInVersion {
                object_type,
                version,
            });
        }
    };
    encode::length(out, fields.len() as u64);
    for text in fields.iter().flat_map(|(field, value, _)| [field, value]) {
        let compressed = match &mut strings {
            Strings::Compress(compressor) if text.len() >= COMPRESS_BYTES_MIN => {
                write_compressed(compressor, text, out)
            }
            _ => false,
        };
        if !compressed {
            encode::string(out, text);
        }
    }
    Ok(())
}

/// Appends `bytes` as an LZF string if that is shorter.
fn write_compressed(compressor: &mut Compressor, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let bytes_max = bytes.len().saturating_sub(COMPRESS_GAIN_BYTES);
    let Some(compressed) = compressor.shorter(bytes, bytes_max) else {
        return false;
    };
    out.push(0xc0 | super::input::ENCODING_LZF);
    encode::length(out, compressed.len() as u64);
    encode::length(out, bytes.len() as u64);
    out.extend_from_slice(compressed);
    true
}

/// What becomes of strings.
enum Strings<'c> {
    Keep,
    Expand,
    Compress(&'c mut Compressor),
}

/// What becomes of consumers' active times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ActiveTime {
    Keep,
    Drop,
    /// The seen time serves for it, as in Redis.
    Add,
}

/// Copies what the walker reads, but for strings and active times.
struct Rewriter<'a, 'o, 'c> {
    cursor: Cursor<'a>,
    out: &'o mut Vec<u8>,
    strings: Strings<'c>,
    active: ActiveTime,
    changed: bool,
}

impl<'a, 'o, 'c> Rewriter<'a, 'o, 'c> {
    fn new(
        payload: &'a [u8],
        out: &'o mut Vec<u8>,
        strings: Strings<'c>,
        active: ActiveTime,
    ) -> Self {
        Self {
            cursor: Cursor::new(payload),
            out,
            strings,
            active,
            changed: false,
        }
    }

    /// Writes another form of `string` if there is to be one.
    fn rewrite(&mut self, string: &StringRef<'a>) -> Result<bool, ObjectError> {
        match (&mut self.strings, string.body) {
            (Strings::Expand, Body::Lzf { compressed, len }) => {
                encode::length(self.out, len as u64);
                lzf::decompress_into(compressed, len, self.out)?;
                Ok(true)
            }
            (Strings::Compress(compressor), Body::Raw(bytes))
                if bytes.len() >= COMPRESS_BYTES_MIN =>
            {
                Ok(write_compressed(compressor, bytes, self.out))
            }
            _ => Ok(false),
        }
    }
}

impl Input for Rewriter<'_, '_, '_> {
    fn offset(&self) -> usize {
        self.cursor.offset()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError> {
        let array = self.cursor.array()?;
        self.out.extend_from_slice(&array);
        Ok(array)
    }

    fn skip(&mut self, count: u64) -> Result<(), ObjectError> {
        self.out.extend_from_slice(self.cursor.take(count)?);
        Ok(())
    }

    fn string(&mut self) -> Result<(), ObjectError> {
        let string = self.cursor.string_ref()?;
        if self.rewrite(&string)? {
            self.changed = true;
        } else {
            self.out.extend_from_slice(string.encoded);
        }
        Ok(())
    }

    fn consumer_times(&mut self, has_active: bool) -> Result<(), ObjectError> {
        let seen: [u8; 8] = self.array()?;
        match self.active {
            ActiveTime::Keep if has_active => self.skip(8),
            ActiveTime::Keep => Ok(()),
            ActiveTime::Drop => self.cursor.skip(8),
            ActiveTime::Add => {
                self.out.extend_from_slice(&seen);
                Ok(())
            }
        }
    }
}
