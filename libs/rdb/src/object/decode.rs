//! Decoding every form that any version has written.

use std::collections::HashSet;
use std::hash::Hash;

use super::encode::{NODE_PACKED, NODE_PLAIN};
use super::error::ObjectError;
use super::input::{Cursor, Input};
use super::list::{ListBuilder, ListNode};
use super::{Object, TtlField, stream, types, walk};
use crate::error::Corrupt;
use crate::intset::IntSet;
use crate::listpack::{ListPack, LpValue};
use crate::number::parse_f64;
use crate::ziplist::ZipList;
use crate::zipmap::ZipMap;

/// The latest expiry of a hash field (Redis `EB_EXPIRE_TIME_MAX`).
const FIELD_EXPIRE_MS_MAX: u64 = (1 << 48) - 2;

/// Decodes and fully checks a value. `payload` must be exactly its bytes.
pub fn decode(object_type: u8, payload: &[u8]) -> Result<Object, ObjectError> {
    if matches!(
        object_type,
        types::STREAM_LISTPACKS | types::STREAM_LISTPACKS_2 | types::STREAM_LISTPACKS_3
    ) {
        return stream::decode(object_type, payload).map(Object::Stream);
    }
    let mut cursor = Cursor::new(payload);
    let object = match object_type {
        types::STRING => Object::String(cursor.content()?.into_owned()),
        types::LIST | types::LIST_ZIPLIST | types::LIST_QUICKLIST | types::LIST_QUICKLIST_2 => {
            read_list(&mut cursor, object_type)?
        }
        types::SET | types::SET_INTSET | types::SET_LISTPACK => read_set(&mut cursor, object_type)?,
        types::ZSET | types::ZSET_2 | types::ZSET_ZIPLIST | types::ZSET_LISTPACK => {
            read_zset(&mut cursor, object_type)?
        }
        types::HASH | types::HASH_ZIPMAP | types::HASH_ZIPLIST | types::HASH_LISTPACK => {
            read_hash(&mut cursor, object_type)?
        }
        types::HASH_METADATA | types::HASH_METADATA_PRE_GA => {
            Object::HashTtl(read_ttl_fields(&mut cursor, object_type)?)
        }
        types::HASH_LISTPACK_EX | types::HASH_LISTPACK_EX_PRE_GA => {
            Object::HashTtl(read_ttl_listpack(&mut cursor, object_type)?)
        }
        types::MODULE_2 => {
            let id = cursor.length()?;
            walk::walk_module_fields(&mut cursor)?;
            return Err(ObjectError::Module {
                name: walk::module_name(id),
            });
        }
        types::MODULE_PRE_GA => return Err(ObjectError::ModulePreGa),
        unknown => return Err(ObjectError::UnknownType(unknown)),
    };
    cursor.finish()?;
    Ok(object)
}

/// The count before a collection's elements.
fn element_count(cursor: &mut Cursor<'_>) -> Result<u64, ObjectError> {
    match cursor.length()? {
        0 => Err(ObjectError::EmptyKey),
        count => Ok(count),
    }
}

fn listpack(cursor: &mut Cursor<'_>) -> Result<ListPack, ObjectError> {
    let listpack = ListPack::from_bytes(cursor.content()?.into_owned())?;
    if listpack.is_empty() {
        Err(ObjectError::EmptyKey)
    } else {
        Ok(listpack)
    }
}

fn ziplist_as_listpack(cursor: &mut Cursor<'_>) -> Result<ListPack, ObjectError> {
    Ok(ZipList::from_bytes(&cursor.content()?)?.to_listpack())
}

/// Elements in the one form that equal texts share.
#[derive(PartialEq, Eq, Hash)]
enum Text<'a> {
    Int(i64),
    Str(&'a [u8]),
}

impl<'a> From<LpValue<'a>> for Text<'a> {
    fn from(value: LpValue<'a>) -> Self {
        match (value.as_int(), value) {
            (Some(int), _) | (None, LpValue::Int(int)) => Self::Int(int),
            (None, LpValue::Str(bytes)) => Self::Str(bytes),
        }
    }
}

fn check_unique<T: Hash + Eq>(elements: impl Iterator<Item = T>) -> Result<(), ObjectError> {
    let mut seen = HashSet::new();
    for (index, element) in elements.enumerate() {
        if !seen.insert(element) {
            return Err(Corrupt::new("duplicate element", index).into());
        }
    }
    Ok(())
}

/// Elements come in groups of `width`, the first of each unique.
fn check_groups(listpack: &ListPack, width: usize) -> Result<(), ObjectError> {
    if !listpack.len().is_multiple_of(width) {
        return Err(Corrupt::new("incomplete last entry of a listpack", 0).into());
    }
    check_unique(listpack.iter().step_by(width).map(Text::from))
}

fn read_list(cursor: &mut Cursor<'_>, object_type: u8) -> Result<Object, ObjectError> {
    let nodes = match object_type {
        types::LIST => {
            let mut builder = ListBuilder::new();
            for _ in 0..element_count(cursor)? {
                builder.push(&cursor.content()?);
            }
            builder.finish()
        }
        types::LIST_ZIPLIST => {
            let mut builder = ListBuilder::new();
            for value in ZipList::from_bytes(&cursor.content()?)?.iter() {
                builder.push(value.bytes(&mut Default::default()));
            }
            builder.finish()
        }
        _ => {
            let count = element_count(cursor)?;
            let mut nodes = Vec::with_capacity(cursor.capacity_for(count));
            for _ in 0..count {
                let node = read_list_node(cursor, object_type)?;
                // Redis drops empty nodes too: old versions could write them.
                if !node.is_empty() {
                    nodes.push(node);
                }
            }
            nodes
        }
    };
    if nodes.is_empty() {
        Err(ObjectError::EmptyKey)
    } else {
        Ok(Object::List(nodes))
    }
}

fn read_list_node(cursor: &mut Cursor<'_>, object_type: u8) -> Result<ListNode, ObjectError> {
    if object_type == types::LIST_QUICKLIST {
        return Ok(ListNode::Packed(ziplist_as_listpack(cursor)?));
    }
    let at = cursor.offset();
    match cursor.length()? {
        NODE_PLAIN => {
            let element = cursor.content()?.into_owned();
            if element.is_empty() {
                return Err(ObjectError::corrupt("empty plain node", at));
            }
            Ok(ListNode::Plain(element))
        }
        NODE_PACKED => Ok(ListNode::Packed(ListPack::from_bytes(
            cursor.content()?.into_owned(),
        )?)),
        _ => Err(ObjectError::corrupt("unknown container of a list node", at)),
    }
}

fn read_set(cursor: &mut Cursor<'_>, object_type: u8) -> Result<Object, ObjectError> {
    match object_type {
        types::SET_INTSET => Ok(Object::SetIntset(IntSet::from_bytes(
            cursor.content()?.into_owned(),
        )?)),
        types::SET_LISTPACK => {
            let listpack = listpack(cursor)?;
            check_groups(&listpack, 1)?;
            Ok(Object::SetListpack(listpack))
        }
        _ => {
            let count = element_count(cursor)?;
            let mut members = Vec::with_capacity(cursor.capacity_for(count));
            for _ in 0..count {
                members.push(cursor.content()?.into_owned());
            }
            check_unique(members.iter())?;
            Ok(Object::Set(members))
        }
    }
}

fn read_zset(cursor: &mut Cursor<'_>, object_type: u8) -> Result<Object, ObjectError> {
    let listpack = match object_type {
        types::ZSET_LISTPACK => listpack(cursor)?,
        types::ZSET_ZIPLIST => match ziplist_as_listpack(cursor)? {
            empty if empty.is_empty() => return Err(ObjectError::EmptyKey),
            listpack => listpack,
        },
        _ => return read_plain_zset(cursor, object_type).map(Object::ZSet),
    };
    check_groups(&listpack, 2)?;
    for (index, score) in listpack.iter().skip(1).step_by(2).enumerate() {
        let number = parse_f64(score.bytes(&mut Default::default()));
        if number.is_none_or(f64::is_nan) {
            return Err(Corrupt::new("score is not a number", index).into());
        }
    }
    Ok(Object::ZSetListpack(listpack))
}

fn read_plain_zset(
    cursor: &mut Cursor<'_>,
    object_type: u8,
) -> Result<Vec<(Vec<u8>, f64)>, ObjectError> {
    let count = element_count(cursor)?;
    let mut members = Vec::with_capacity(cursor.capacity_for(count));
    for _ in 0..count {
        let member = cursor.content()?.into_owned();
        let at = cursor.offset();
        let score = if object_type == types::ZSET_2 {
            f64::from_le_bytes(cursor.array()?)
        } else {
            read_text_double(cursor)?
        };
        if score.is_nan() {
            return Err(ObjectError::corrupt("score is not a number", at));
        }
        members.push((member, score));
    }
    check_unique(members.iter().map(|(member, _)| member))?;
    Ok(members)
}

/// A score as written before RDB version 8: its length in a byte and its text,
/// or one of three marks.
fn read_text_double(cursor: &mut Cursor<'_>) -> Result<f64, ObjectError> {
    let at = cursor.offset();
    match cursor.byte()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        length => parse_f64(cursor.take(u64::from(length))?)
            .ok_or_else(|| ObjectError::corrupt("score is not a number", at)),
    }
}

fn read_hash(cursor: &mut Cursor<'_>, object_type: u8) -> Result<Object, ObjectError> {
    let listpack = match object_type {
        types::HASH_LISTPACK => listpack(cursor)?,
        types::HASH_ZIPLIST => ziplist_as_listpack(cursor)?,
        types::HASH_ZIPMAP => {
            let blob = cursor.content()?;
            let mut listpack = ListPack::with_capacity(blob.len());
            for (field, value) in ZipMap::from_bytes(&blob)?.iter() {
                if !listpack.safe_to_add(field.len() + value.len()) {
                    return Err(Corrupt::new("zipmap too large for a listpack", 0).into());
                }
                listpack.push_back(field);
                listpack.push_back(value);
            }
            listpack
        }
        _ => {
            let count = element_count(cursor)?;
            let mut pairs = Vec::with_capacity(cursor.capacity_for(count));
            for _ in 0..count {
                pairs.push((
                    cursor.content()?.into_owned(),
                    cursor.content()?.into_owned(),
                ));
            }
            check_unique(pairs.iter().map(|(field, _)| field))?;
            return Ok(Object::Hash(pairs));
        }
    };
    if listpack.is_empty() {
        return Err(ObjectError::EmptyKey);
    }
    check_groups(&listpack, 2)?;
    Ok(Object::HashListpack(listpack))
}

fn field_expiry(expire_ms: u64, at: usize) -> Result<Option<u64>, ObjectError> {
    match expire_ms {
        0 => Ok(None),
        1..=FIELD_EXPIRE_MS_MAX => Ok(Some(expire_ms)),
        _ => Err(ObjectError::corrupt(
            "impossible expiry of a hash field",
            at,
        )),
    }
}

fn read_ttl_fields(cursor: &mut Cursor<'_>, object_type: u8) -> Result<Vec<TtlField>, ObjectError> {
    let relative = object_type == types::HASH_METADATA;
    let base = if relative {
        u64::from_le_bytes(cursor.array()?)
    } else {
        0
    };
    let count = element_count(cursor)?;
    let mut fields = Vec::with_capacity(cursor.capacity_for(count));
    for _ in 0..count {
        let at = cursor.offset();
        let expire_ms = match cursor.length()? {
            0 => None,
            // One more than the distance from the smallest, since 0 is taken.
            ttl if relative => field_expiry(base.saturating_add(ttl - 1), at)?,
            absolute => field_expiry(absolute, at)?,
        };
        let field = cursor.content()?.into_owned();
        fields.push((field, cursor.content()?.into_owned(), expire_ms));
    }
    check_unique(fields.iter().map(|(field, _, _)| field))?;
    Ok(fields)
}

fn read_ttl_listpack(
    cursor: &mut Cursor<'_>,
    object_type: u8,
) -> Result<Vec<TtlField>, ObjectError> {
    if object_type == types::HASH_LISTPACK_EX {
        // The smallest expiry, which the listpack tells as well.
        cursor.skip(8)?;
    }
    let listpack = listpack(cursor)?;
    check_groups(&listpack, 3)?;
    let mut fields = Vec::with_capacity(listpack.len() / 3);
    let mut elements = listpack.iter();
    while let (Some(field), Some(value), Some(expire_ms)) =
        (elements.next(), elements.next(), elements.next())
    {
        let expire_ms = expire_ms
            .as_int()
            .and_then(|expire_ms| u64::try_from(expire_ms).ok())
            .ok_or(Corrupt::new(
                "expiry of a hash field is not a number",
                fields.len(),
            ))?;
        fields.push((
            field.to_vec(),
            value.to_vec(),
            field_expiry(expire_ms, fields.len())?,
        ));
    }
    Ok(fields)
}
