//! Values in RDB encoding: the one serialization of everything outside RAM.
//!
//! A value is a type byte and a payload. Of the many forms that Redis versions
//! have written, those of version 12, uncompressed, are the **superset form**:
//! tier records, snapshot frames, DUMP bodies and base files hold it, so that
//! most saving is copying.
//!
//! - [`walk()`] and [`copy_value`] find a value's end without decoding it.
//! - [`normalize`] brings any historic form into the superset form.
//! - [`Transcoder`] brings the superset form into what a file wants.
//! - [`decode()`] gives an [`Object`]; [`encode`] writes from borrowed data.
//!
//! Invariants: no input makes a decoder panic, and what it allocates is in
//! proportion to the input. A decoded [`Object`] is fully checked (Redis's deep
//! sanitization): no duplicates, no empty collection, no NaN score.

mod decode;
pub mod encode;
mod error;
mod input;
mod list;
mod pipe;
mod rewrite;
pub mod stream;
pub mod types;
mod walk;

pub use decode::decode;
pub use encode::ListNodeRef;
pub use error::ObjectError;
pub use list::{LIST_NODE_BYTES_MAX, ListBuilder, ListNode};
pub use pipe::{pipe_value, piped_type};
pub use rewrite::{Normalized, Target, Transcoded, Transcoder, normalize, transcode};
pub use stream::StreamObject;
pub use walk::{copy_value, module_name, walk};

pub(crate) use input::Cursor;
pub(crate) use pipe::skip_module_fields;
pub(crate) use walk::{copy_length, copy_string};

use crate::intset::IntSet;
use crate::listpack::ListPack;

/// A field, its value and, if it has one, its expiry in milliseconds since the
/// epoch.
pub type TtlField = (Vec<u8>, Vec<u8>, Option<u64>);

/// A value, decoded into the forms that Redis 7.2 keeps in memory.
///
/// The form is the stored one: whether it suits the configured thresholds is
/// for the owner of the configuration to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A string.
    String(Vec<u8>),
    /// A list; no node is empty.
    List(Vec<ListNode>),
    /// A set of integers.
    SetIntset(IntSet),
    /// A small set.
    SetListpack(ListPack),
    /// A set.
    Set(Vec<Vec<u8>>),
    /// A small sorted set: members and scores in turn.
    ZSetListpack(ListPack),
    /// A sorted set, in the order of the file.
    ZSet(Vec<(Vec<u8>, f64)>),
    /// A small hash: fields and values in turn.
    HashListpack(ListPack),
    /// A hash.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// A hash with field expiry, which only Redis 7.4 and later have.
    HashTtl(Vec<TtlField>),
    /// A stream.
    Stream(StreamObject),
}

impl Object {
    /// The type byte that goes with [`Object::encode`].
    pub fn object_type(&self) -> u8 {
        match self {
            Self::String(_) => types::STRING,
            Self::List(_) => types::LIST_QUICKLIST_2,
            Self::SetIntset(_) => types::SET_INTSET,
            Self::SetListpack(_) => types::SET_LISTPACK,
            Self::Set(_) => types::SET,
            Self::ZSetListpack(_) => types::ZSET_LISTPACK,
            Self::ZSet(_) => types::ZSET_2,
            Self::HashListpack(_) => types::HASH_LISTPACK,
            Self::Hash(_) => types::HASH,
            Self::HashTtl(_) => types::HASH_METADATA,
            Self::Stream(_) => types::STREAM_LISTPACKS_3,
        }
    }

    /// Appends the payload in the superset form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::String(bytes) => encode::string(out, bytes),
            Self::List(nodes) => {
                encode::list(out, nodes.len(), nodes.iter().map(ListNode::as_node_ref));
            }
            Self::SetIntset(intset) => encode::blob(out, intset.as_bytes()),
            Self::SetListpack(listpack)
            | Self::ZSetListpack(listpack)
            | Self::HashListpack(listpack) => encode::blob(out, listpack.as_bytes()),
            Self::Set(members) => encode::set(out, members.len(), members.iter()),
            Self::ZSet(members) => {
                let members_scores = members.iter().map(|(member, score)| (member, *score));
                encode::zset(out, members.len(), members_scores);
            }
            Self::Hash(pairs) => {
                encode::hash(
                    out,
                    pairs.len(),
                    pairs.iter().map(|(field, value)| (field, value)),
                );
            }
            Self::HashTtl(fields) => {
                let expire_min_ms = fields
                    .iter()
                    .filter_map(|(_, _, expire_ms)| *expire_ms)
                    .min();
                let fields_iter = fields.iter().map(|(field, value, at)| (field, value, *at));
                encode::hash_ttl(out, fields.len(), expire_min_ms, fields_iter);
            }
            Self::Stream(stream) => stream.encode(out),
        }
    }
}

#[cfg(test)]
mod tests;
