//! Writing the superset form from borrowed data.
//!
//! Each function appends one payload (no type byte) to `out`. Nothing is
//! compressed: that is the transcoder's work, when a file asks for it.

use crate::number::parse_i64;

use super::input::{ENCODING_INT8, ENCODING_INT16, ENCODING_INT32};

/// Longer strings are not tried as integers (Redis: the text of any 32 bit
/// integer has at most 11 bytes).
const INT_TEXT_BYTES_MAX: usize = 11;

/// The container mark of a list node that is one element.
pub(crate) const NODE_PLAIN: u64 = 1;
/// The container mark of a list node that is a listpack.
pub(crate) const NODE_PACKED: u64 = 2;

/// A node of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListNodeRef<'a> {
    /// One large element.
    Plain(&'a [u8]),
    /// The bytes of a listpack of elements.
    Packed(&'a [u8]),
}

/// Appends a length, or any unsigned number stored as one (Redis `rdbSaveLen`).
#[inline]
pub fn length(out: &mut Vec<u8>, value: u64) {
    if value < 1 << 6 {
        out.push(value as u8);
    } else if value < 1 << 14 {
        out.extend_from_slice(&[0x40 | (value >> 8) as u8, value as u8]);
    } else if let Ok(value) = u32::try_from(value) {
        out.push(0x80);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a string; one that spells an integer of 32 bits takes its short form
/// (Redis `rdbSaveRawString` without compression).
#[inline]
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() <= INT_TEXT_BYTES_MAX
        && let Some(value) = parse_i64(bytes)
        && short_integer(out, value)
    {
        return;
    }
    blob(out, bytes);
}

/// Appends the string that spells `value` (Redis
/// `rdbSaveLongLongAsStringObject`).
pub fn integer_string(out: &mut Vec<u8>, value: i64) {
    if !short_integer(out, value) {
        let mut text = crate::number::IntBuf::default();
        blob(out, crate::number::format_i64(value, &mut text));
    }
}

/// Appends a string in its plain form, as blobs are stored: intset, listpack.
#[inline]
pub fn blob(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn short_integer(out: &mut Vec<u8>, value: i64) -> bool {
    if let Ok(value) = i8::try_from(value) {
        out.extend_from_slice(&[0xc0 | ENCODING_INT8, value as u8]);
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xc0 | ENCODING_INT16);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xc0 | ENCODING_INT32);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// Appends a `LIST_QUICKLIST_2`. `count` is the number of nodes, and must be
/// the iterator's.
pub fn list<'a>(out: &mut Vec<u8>, count: usize, nodes: impl Iterator<Item = ListNodeRef<'a>>) {
    length(out, count as u64);
    for node in nodes {
        match node {
            ListNodeRef::Plain(element) => {
                length(out, NODE_PLAIN);
                string(out, element);
            }
            ListNodeRef::Packed(listpack) => {
                length(out, NODE_PACKED);
                blob(out, listpack);
            }
        }
    }
}

/// Appends a `SET`. `count` must be the iterator's.
pub fn set<T: AsRef<[u8]>>(out: &mut Vec<u8>, count: usize, members: impl Iterator<Item = T>) {
    length(out, count as u64);
    for member in members {
        string(out, member.as_ref());
    }
}

/// Appends a `HASH`. `count` is the number of fields, and must be the
/// iterator's.
pub fn hash<F: AsRef<[u8]>, V: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    count: usize,
    pairs: impl Iterator<Item = (F, V)>,
) {
    length(out, count as u64);
    for (field, value) in pairs {
        string(out, field.as_ref());
        string(out, value.as_ref());
    }
}

/// Appends a `ZSET_2`. `count` must be the iterator's. Redis writes the largest
/// score first, which makes its own loading cheapest.
pub fn zset<T: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    count: usize,
    members: impl Iterator<Item = (T, f64)>,
) {
    length(out, count as u64);
    for (member, score) in members {
        string(out, member.as_ref());
        out.extend_from_slice(&score.to_le_bytes());
    }
}

/// Appends a `HASH_METADATA`: fields with an optional expiry in milliseconds
/// since the epoch. `count` and `expire_min_ms` (the smallest expiry) must be
/// the iterator's.
pub fn hash_ttl<F: AsRef<[u8]>, V: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    count: usize,
    expire_min_ms: Option<u64>,
    fields: impl Iterator<Item = (F, V, Option<u64>)>,
) {
    let base = expire_min_ms.unwrap_or(0);
    out.extend_from_slice(&base.to_le_bytes());
    length(out, count as u64);
    for (field, value, expire_ms) in fields {
        // Relative to the smallest, plus one: zero means no expiry.
        length(
            out,
            expire_ms.map_or(0, |at| at.saturating_sub(base).saturating_add(1)),
        );
        string(out, field.as_ref());
        string(out, value.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(encoded(|out| length(out, 63)), [63]);
        assert_eq!(encoded(|out| length(out, 64)), [0x40, 64]);
        assert_eq!(encoded(|out| length(out, 16383)), [0x7f, 0xff]);
        assert_eq!(encoded(|out| length(out, 16384)), [0x80, 0, 0, 0x40, 0]);
        assert_eq!(encoded(|out| length(out, u64::from(u32::MAX)))[0], 0x80);
        assert_eq!(
            encoded(|out| length(out, 1 << 32)),
            [0x81, 0, 0, 0, 1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn integers_of_32_bits_are_shortened_and_no_others() {
        assert_eq!(encoded(|out| string(out, b"-128")), [0xc0, 0x80]);
        assert_eq!(encoded(|out| string(out, b"128")), [0xc1, 128, 0]);
        assert_eq!(
            encoded(|out| string(out, b"-2147483648")),
            [0xc2, 0, 0, 0, 0x80]
        );
        assert_eq!(encoded(|out| string(out, b"2147483648"))[0], 10);
        assert_eq!(encoded(|out| string(out, b"007"))[0], 3);
        assert_eq!(encoded(|out| string(out, b"")), [0]);
        assert_eq!(
            encoded(|out| integer_string(out, 1 << 40)),
            b"\x0d1099511627776"
        );
    }
}
