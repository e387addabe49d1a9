//! Which snapshot is being sent, so that a transfer that broke off goes on where it was.
//!
//! Between two of ours only: a replica says in a capability (REPLCONF capa, of which Redis ignores
//! those it does not know) that it understands these ids and, when it comes back, what it holds. The
//! id names the contents: length, checksum, and where in the stream they were taken. A snapshot
//! without a checksum has none. See docs/replication.md.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Of a replica that understands ids. Behind `=` what it holds of one.
const CAPABILITY: &str = "redrock-resume";
/// The checksum that an RDB file ends with.
const TRAILER_BYTES: u64 = 8;
/// No RDB file is shorter: header, end and checksum.
const FILE_BYTES_MIN: u64 = 18;

/// What a snapshot is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotId {
    /// In the stream.
    pub(crate) offset: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// At its end; never 0, which stands for none.
    pub(crate) crc64: u64,
}

/// The beginning of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: SnapshotId,
    /// So many bytes of it, at most all.
    pub(crate) bytes: u64,
}

impl SnapshotId {
    /// The id of a whole file; `None` if it says no checksum.
    pub(crate) fn of(file: &File, bytes: u64, offset: u64) -> io::Result<Option<SnapshotId>> {
        if bytes < FILE_BYTES_MIN {
            return Ok(None);
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.read_exact_at(&mut trailer, bytes - TRAILER_BYTES)?;
        let crc64 = u64::from_le_bytes(trailer);
        Ok((crc64 != 0).then_some(SnapshotId {
            offset,
            bytes,
            crc64,
        }))
    }

    /// The inverse of `to_string`.
    pub(crate) fn parse(text: &str) -> Option<SnapshotId> {
        let mut parts = text.split('-');
        let id = SnapshotId {
            offset: parts.next()?.parse().ok()?,
            bytes: parts.next()?.parse().ok()?,
            crc64: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        // One text an id.
        (parts.next().is_none() && id.crc64 != 0 && id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:016x}", self.offset, self.bytes, self.crc64)
    }
}

/// What a replica says, holding something or not.
pub(crate) fn capability(held: Option<Held>) -> String {
    match held {
        None => CAPABILITY.to_owned(),
        Some(held) => format!("{CAPABILITY}={}@{}", held.id, held.bytes),
    }
}

/// What a peer's capabilities say: `None` if it knows nothing of ids.
pub(crate) fn understood(capabilities: &[String]) -> Option<Option<Held>> {
    let said = capabilities
        .iter()
        .find_map(|said| said.strip_prefix(CAPABILITY))?;
    match said.strip_prefix('=') {
        Some(held) => Some(parse_held(held)),
        None if said.is_empty() => Some(None),
        None => None,
    }
}

fn parse_held(text: &str) -> Option<Held> {
    let (id, bytes) = text.split_once('@')?;
    let held = Held {
        id: SnapshotId::parse(id)?,
        bytes: bytes.parse().ok()?,
    };
    (held.bytes <= held.id.bytes).then_some(held)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(capability: &str) -> Option<Option<Held>> {
        understood(&["eof".to_owned(), capability.to_owned()])
    }

    proptest! {
        #[test]
        fn what_is_held_is_said_and_understood(
            offset: u64, bytes: u64, crc64 in 1u64.., part in 0.0..1.0,
        ) {
            let id = SnapshotId { offset, bytes, crc64 };
            let held = Held { id, bytes: (bytes as f64 * part) as u64 };
            prop_assert_eq!(peer(&capability(Some(held))), Some(Some(held)));
            prop_assert_eq!(SnapshotId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn nothing_that_a_peer_says_is_believed_or_panics(text in "(redrock-resume)?[=@0-9a-f-]{0,60}") {
            if let Some(Some(held)) = peer(&text) {
                prop_assert_eq!(capability(Some(held)), text);
            }
        }
    }

    #[test]
    fn only_what_is_well_formed_counts_as_held() {
        assert_eq!(capability(None), "redrock-resume");
        assert_eq!(peer("redrock-resume"), Some(None));
        assert_eq!(peer("psync2"), None);
        assert_eq!(peer("redrock-resumed"), None);
        for text in [
            "5-100-00000000000000ab@101",
            "5-100-0000000000000000@1",
            "5-100-ab@1",
            "5-100-00000000000000AB@1",
            "05-100-00000000000000ab@1",
            "5-100-00000000000000ab",
            "5-100-00000000000000ab-1@1",
            "",
        ] {
            assert_eq!(
                peer(&format!("redrock-resume={text}")),
                Some(None),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_without_a_checksum_has_no_id() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"REDIS0010\xff\x08\x07\x06\x05\x04\x03\x02\x01", 0)
            .unwrap();
        let id = SnapshotId::of(&file, 18, 7).unwrap().unwrap();
        assert_eq!(id.to_string(), "7-18-0102030405060708");
        assert_eq!(SnapshotId::of(&file, 17, 7).unwrap(), None);
        file.write_all_at(&[0; 8], 10).unwrap();
        assert_eq!(SnapshotId::of(&file, 18, 7).unwrap(), None);
    }
}
