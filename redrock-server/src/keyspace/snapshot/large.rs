//! A value too large to be copied under the lock: it leaves as a reference, and is encoded by who
//! takes it.

use crate::value::{Object, codec};
use redrock_proto::model::record::{Access, RecordHeader, encode_header};
use redrock_rdb::object::{encode, types};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct LargeValue {
    /// Database at the cut.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
    /// Expiry, unix ms.
    pub expire: Option<i64>,
    /// How recently or often it was used.
    pub access: Access,
    /// The value; the keyspace's own reference is not edited while this one lives.
    pub object: Arc<Object>,
}

/// An encoded value: the record's header, and the payload in two parts.
#[derive(Debug)]
pub struct Encoded<'v> {
    /// The record without its payload.
    pub header: Vec<u8>,
    /// The beginning of the payload; all of it but for strings.
    pub head: Vec<u8>,
    /// The rest: a string's own bytes.
    pub tail: &'v [u8],
}

impl LargeValue {
    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.object.memory_bytes()
    }

    /// Encodes the value; a string is not copied.
    pub fn encode(&self) -> Encoded<'_> {
        let mut record = Vec::new();
        let tail: &[u8] = match &*self.object {
            Object::Raw(bytes) => {
                record.push(types::STRING);
                encode::length(&mut record, bytes.len() as u64);
                bytes
            }
            other => {
                codec::encode(other.as_value_ref(), &mut record);
                &[]
            }
        };
        let (object_type, head) = record.split_first().unwrap_or((&0, &[]));
        let head = head.to_vec();
        let description = RecordHeader {
            database: self.db,
            expires_unix_ms: self.expire,
            access: self.access,
            object_type: *object_type,
            key: &self.key,
        };
        let mut header = Vec::new();
        encode_header(&mut header, &description, (head.len() + tail.len()) as u64);
        Encoded { header, head, tail }
    }
}
