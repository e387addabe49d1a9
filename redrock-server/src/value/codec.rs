//! Values to and from RDB object encoding (I3): a record is the type byte, then the payload.

use super::list::List;
use super::stream::Stream;
use super::{Limits, Object, ObjectType, ValueRef};
use crate::keyspace::hot::entry::{INLINE_BYTES_MAX, NewValue};
use redrock_rdb::number::parse_i64;
use redrock_rdb::object::{
    self, ObjectError, Target, Transcoded, Transcoder, encode as rdb, types,
};
use std::cell::RefCell;
use std::sync::Arc;

/// A value read from a record, ready for an entry.
#[derive(Debug)]
pub enum Decoded {
    /// An integer string.
    Int(i64),
    /// A string short enough for its entry.
    Inline(Vec<u8>),
    /// Anything else.
    Heap(Arc<Object>),
}

impl Decoded {
    /// As [`NewValue`] wants it.
    pub fn as_new_value(&self) -> NewValue<'_> {
        match self {
            Self::Int(n) => NewValue::Int(*n),
            Self::Inline(bytes) => NewValue::Inline(bytes),
            Self::Heap(object) => NewValue::Heap(object.clone()),
        }
    }

    /// The value, to be read.
    pub fn as_value_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Int(n) => ValueRef::Int(*n),
            Self::Inline(bytes) => ValueRef::Str(bytes),
            Self::Heap(object) => object.as_value_ref(),
        }
    }

    /// Whether it is a hash with fields that expire.
    pub fn has_timed_fields(&self) -> bool {
        self.as_new_value().has_timed_fields()
    }

    /// Memory that the value takes, roughly, bytes.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Int(_) => 8,
            Self::Inline(bytes) => bytes.len(),
            Self::Heap(object) => object.memory_bytes(),
        }
    }

    fn string(bytes: Vec<u8>) -> Self {
        match if bytes.len() <= 20 {
            parse_i64(&bytes)
        } else {
            None
        } {
            Some(n) => Self::Int(n),
            None if bytes.len() <= INLINE_BYTES_MAX => Self::Inline(bytes),
            None => Self::Heap(Arc::new(Object::Raw(bytes))),
        }
    }
}

/// Appends a value's record: type byte and superset payload.
pub fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    let type_at = out.len();
    out.push(types::STRING);
    let type_byte = match value {
        ValueRef::Int(n) => {
            rdb::string(out, itoa::Buffer::new().format(n).as_bytes());
            types::STRING
        }
        ValueRef::Str(bytes) => {
            rdb::string(out, bytes);
            types::STRING
        }
        ValueRef::List(list) => list.encode(out),
        ValueRef::ZSet(zset) => zset.encode(out),
        ValueRef::Set(set) => set.encode(out),
        ValueRef::Hash(hash) => hash.encode(out),
        ValueRef::Stream(stream) => stream.encode(out),
    };
    out[type_at] = type_byte;
}

/// A value as DUMP writes it and RESTORE reads it.
pub fn dump(value: ValueRef<'_>, target: Target) -> Result<Vec<u8>, ObjectError> {
    let mut record = Vec::new();
    encode(value, &mut record);
    let (type_byte, payload) = record.split_first().unwrap_or((&types::STRING, &[]));
    let mut out = Vec::with_capacity(record.len() + 16);
    // The type is known when the rest is written.
    out.push(*type_byte);
    let written = transcode(target, *type_byte, payload, &mut out)?;
    drop(record);
    if let Some(first) = out.first_mut() {
        *first = written.object_type;
    }
    redrock_rdb::dump::seal(&mut out, 0, target.version);
    Ok(out)
}

/// By the thread's own transcoder: the table of its compressor is large beside most values.
fn transcode(
    target: Target,
    type_byte: u8,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<Transcoded, ObjectError> {
    thread_local! {
        static TRANSCODER: RefCell<Option<Transcoder>> = const { RefCell::new(None) };
    }
    TRANSCODER.with_borrow_mut(|kept| {
        let transcoder = kept.take().filter(|kept| kept.target() == target);
        let transcoder = kept.insert(transcoder.unwrap_or_else(|| Transcoder::new(target)));
        transcoder.transcode(type_byte, payload, out)
    })
}

/// The type of a record's value.
pub fn object_type(record: &[u8]) -> ObjectType {
    match record.first().copied().unwrap_or(types::STRING) {
        types::LIST | types::LIST_ZIPLIST | types::LIST_QUICKLIST | types::LIST_QUICKLIST_2 => {
            ObjectType::List
        }
        types::SET | types::SET_INTSET | types::SET_LISTPACK => ObjectType::Set,
        types::ZSET | types::ZSET_2 | types::ZSET_ZIPLIST | types::ZSET_LISTPACK => {
            ObjectType::ZSet
        }
        types::STRING => ObjectType::String,
        types::STREAM_LISTPACKS | types::STREAM_LISTPACKS_2 | types::STREAM_LISTPACKS_3 => {
            ObjectType::Stream
        }
        _ => ObjectType::Hash,
    }
}

/// Reads a record that [`encode`] wrote. A collection comes back in the form that it had, so that
/// a way through the tier does not change `OBJECT ENCODING`.
pub fn decode(record: &[u8]) -> Result<Decoded, ObjectError> {
    let (type_byte, payload) = record.split_first().unwrap_or((&types::STRING, &[]));
    let limits = match *type_byte {
        types::SET | types::HASH | types::HASH_METADATA | types::ZSET_2 => limits_of(0),
        types::SET_INTSET
        | types::SET_LISTPACK
        | types::HASH_LISTPACK
        | types::HASH_LISTPACK_EX
        | types::ZSET_LISTPACK => limits_of(usize::MAX / 2),
        _ => Limits::default(),
    };
    decode_payload(*type_byte, payload, &limits)
}

fn limits_of(max: usize) -> Limits {
    Limits {
        hash_listpack_entries_max: max,
        hash_listpack_value_bytes_max: max,
        set_intset_entries_max: max,
        set_listpack_entries_max: max,
        set_listpack_value_bytes_max: max,
        zset_listpack_entries_max: max,
        zset_listpack_value_bytes_max: max,
        ..Limits::default()
    }
}

/// Reads any RDB value: a record of ours, a file's, a RESTORE's.
pub fn decode_payload(
    type_byte: u8,
    payload: &[u8],
    limits: &Limits,
) -> Result<Decoded, ObjectError> {
    let object = match object::decode(type_byte, payload)? {
        object::Object::String(bytes) => return Ok(Decoded::string(bytes)),
        object::Object::List(nodes) => Object::List(List::from_rdb(nodes, limits)),
        object::Object::Stream(stream) => Object::Stream(Stream::from_rdb(stream)),
        other => super::convert::collection(other, limits)?,
    };
    Ok(Decoded::Heap(Arc::new(object)))
}
