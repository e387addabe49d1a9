//! The zipmap of Redis before version 2.6: small hashes, read only.
//!
//! `u8 count | entries | FF`. An entry is `length | field | length | u8 free |
//! value | free bytes`; a length is one byte under 254, or 254 and a little
//! endian `u32`. A count of 254 or more means unknown.

use std::iter::FusedIterator;

use crate::error::Corrupt;

const END: u8 = 0xFF;
const BIG: u8 = 0xFE;

/// A validated, borrowed zipmap.
#[derive(Debug, Clone, Copy)]
pub struct ZipMap<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> ZipMap<'a> {
    /// Checks every entry, the end mark and the count. As in Redis an empty
    /// map is an error: no such key can exist.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let (&stated, _) = bytes
            .split_first()
            .ok_or(Corrupt::new("zipmap shorter than its header", 0))?;
        let end = bytes.len() - 1;
        if end == 0 || bytes[end] != END {
            return Err(Corrupt::new("zipmap without end mark", end));
        }
        let mut at = 1;
        let mut count = 0usize;
        while at < end {
            (_, _, at) = decode(&bytes[..end], at)?;
            count += 1;
        }
        if count == 0 {
            return Err(Corrupt::new("empty zipmap", 0));
        }
        if stated < BIG && usize::from(stated) != count {
            return Err(Corrupt::new("zipmap count differs from its header", 0));
        }
        Ok(Self { bytes, count })
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no field: never, a zipmap without any is not valid.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All fields with their values.
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            entries: &self.bytes[..self.bytes.len() - 1],
            at: 1,
        }
    }
}

impl<'a> IntoIterator for ZipMap<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Fields and values of a zipmap.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    /// The blob without its end mark.
    entries: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (field, value, next) = decode(self.entries, self.at).ok()?;
        self.at = next;
        Some((field, value))
    }
}

impl FusedIterator for Iter<'_> {}

/// Field, value and the offset of the next entry.
fn decode(entries: &[u8], at: usize) -> Result<(&[u8], &[u8], usize), Corrupt> {
    let cut = Corrupt::new("zipmap entry beyond the end", at);
    if entries.get(at) == Some(&END) {
        return Err(Corrupt::new("zipmap end mark before the end", at));
    }
    let rest = entries.get(at..).ok_or(cut)?;
    let (len, rest) = decode_len(rest).ok_or(cut)?;
    let (field, rest) = rest.split_at_checked(len).ok_or(cut)?;
    let (len, rest) = decode_len(rest).ok_or(cut)?;
    let (&free, rest) = rest.split_first().ok_or(cut)?;
    let (value, rest) = rest.split_at_checked(len).ok_or(cut)?;
    let rest = rest.get(usize::from(free)..).ok_or(cut)?;
    Ok((field, value, entries.len() - rest.len()))
}

fn decode_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes.split_first()? {
        (&END, _) => None,
        (&BIG, rest) => {
            let (raw, rest) = rest.split_first_chunk()?;
            Some((u32::from_le_bytes(*raw) as usize, rest))
        }
        (&small, rest) => Some((usize::from(small), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push_len(bytes: &mut Vec<u8>, len: usize) {
        match u8::try_from(len) {
            Ok(small) if small < BIG => bytes.push(small),
            _ => {
                bytes.push(BIG);
                bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
    }

    /// Writes zipmaps as old Redis did, for the tests alone.
    fn build(entries: &[(Vec<u8>, Vec<u8>, u8)]) -> Vec<u8> {
        let mut bytes = vec![entries.len().min(usize::from(BIG)) as u8];
        for (field, value, free) in entries {
            push_len(&mut bytes, field.len());
            bytes.extend_from_slice(field);
            push_len(&mut bytes, value.len());
            bytes.push(*free);
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len() + usize::from(*free), b'?');
        }
        bytes.push(END);
        bytes
    }

    #[test]
    fn the_documented_example_is_read() {
        let map = ZipMap::from_bytes(b"\x02\x03foo\x03\x00bar\x05hello\x05\x00world\xff");
        let entries: Vec<_> = map.expect("valid").iter().collect();
        assert_eq!(entries, [(&b"foo"[..], &b"bar"[..]), (b"hello", b"world")]);
        // And the key of tests/assets/hash-zipmap.rdb.
        let map = ZipMap::from_bytes(b"\x02\x02f1\x02\x00v1\x02f2\x02\x00v2\xff");
        let entries: Vec<_> = map.expect("valid").iter().collect();
        assert_eq!(entries, [(&b"f1"[..], &b"v1"[..]), (b"f2", b"v2")]);
    }

    #[test]
    fn malformed_blobs_are_refused() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "zipmap shorter than its header"),
            (b"\xff", "zipmap without end mark"),
            (b"\0\xff", "empty zipmap"),
            (
                b"\x02\x01a\x01\x00b\xff",
                "zipmap count differs from its header",
            ),
            (b"\x01\x01a\x02\x00b\xff", "zipmap entry beyond the end"),
            (b"\x01\xff\x01\xff", "zipmap end mark before the end"),
            (b"\x01\x01a\x01\x02b\xff", "zipmap entry beyond the end"),
        ];
        for (bytes, reason) in cases {
            assert_eq!(ZipMap::from_bytes(bytes).expect_err(reason).reason, reason);
        }
    }

    fn entry() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, u8)> {
        let text = || {
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20),
                proptest::collection::vec(any::<u8>(), 250..260),
            ]
        };
        (text(), text(), 0u8..5)
    }

    proptest! {
        #[test]
        fn what_old_servers_wrote_is_read(entries in proptest::collection::vec(entry(), 1..300)) {
            let bytes = build(&entries);
            let map = ZipMap::from_bytes(&bytes).expect("valid");
            prop_assert_eq!(map.len(), entries.len());
            let expected = entries.iter().map(|(field, value, _)| (&field[..], &value[..]));
            prop_assert!(map.iter().eq(expected));
        }

        #[test]
        fn mutated_zipmaps_are_read_or_refused(
            entries in proptest::collection::vec(entry(), 1..6),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            cut in 0usize..3,
        ) {
            let mut bytes = build(&entries);
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut);
            if let Ok(map) = ZipMap::from_bytes(&bytes) {
                prop_assert_eq!(map.iter().count(), map.len());
            }
        }
    }
}
