//! The shape of one log segment and the arithmetic of stream offsets.
//!
//! A segment is a standard `appendonly.aof.N.incr.aof`: a `SELECT` prefix that is not part
//! of the replication stream, then stream bytes. Redis loads every increment in database 0
//! with a fresh client, so the prefix tells it which database the stream stands in.
//!
//! Invariant: stream offset = start offset + position − prefix length, positions being
//! byte counts from the start of the file.

/// Where a segment's bytes stand in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentLayout {
    /// Stream offset (bytes of the stream before it) of the first stream byte.
    pub start_offset: u64,
    /// Length of the `SELECT` prefix in bytes.
    pub prefix_bytes: u32,
}

impl SegmentLayout {
    /// The stream offset of a file position; a position inside the prefix counts as the
    /// start, since no stream byte lies before it.
    pub fn offset_at(&self, position: u64) -> u64 {
        let behind_prefix = position.saturating_sub(u64::from(self.prefix_bytes));
        self.start_offset.saturating_add(behind_prefix)
    }

    /// The file position of a stream offset; `None` if the offset lies before the segment.
    pub fn position_of(&self, offset: u64) -> Option<u64> {
        let behind_start = offset.checked_sub(self.start_offset)?;
        behind_start.checked_add(u64::from(self.prefix_bytes))
    }
}

/// The prefix of a segment whose stream starts in `database`.
pub fn select_prefix(database: u32) -> Vec<u8> {
    let digits = database.to_string();
    format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{digits}\r\n", digits.len()).into_bytes()
}

/// Reads a prefix back: the database and the prefix length, or `None` if the bytes do not
/// begin with one (a segment that Redis wrote may begin with anything).
pub fn parse_select_prefix(bytes: &[u8]) -> Option<(u32, usize)> {
    let rest = bytes.strip_prefix(b"*2\r\n$6\r\nSELECT\r\n$")?;
    let digits_at = rest.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let digits = rest.get(digits_at..)?;
    let end = digits.windows(2).position(|pair| pair == b"\r\n")?;
    let database: u32 = std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?;
    let prefix = select_prefix(database);
    bytes
        .starts_with(&prefix)
        .then_some((database, prefix.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_reads_back_for_every_width_of_database_number() {
        for database in [0, 9, 10, 123, u32::MAX] {
            let mut bytes = select_prefix(database);
            let len = bytes.len();
            bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
            assert_eq!(parse_select_prefix(&bytes), Some((database, len)));
        }
        assert_eq!(select_prefix(0), b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
        assert_eq!(parse_select_prefix(b"*1\r\n$4\r\nPING\r\n"), None);
        assert_eq!(
            parse_select_prefix(b"*2\r\n$6\r\nSELECT\r\n$2\r\n1\r\n"),
            None
        );
    }

    #[test]
    fn offsets_and_positions_are_inverse_behind_the_prefix() {
        let layout = SegmentLayout {
            start_offset: 1000,
            prefix_bytes: 23,
        };
        assert_eq!(layout.offset_at(0), 1000);
        assert_eq!(layout.offset_at(23), 1000);
        assert_eq!(layout.offset_at(24), 1001);
        assert_eq!(layout.position_of(1001), Some(24));
        assert_eq!(layout.position_of(999), None);
    }
}
