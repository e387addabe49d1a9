//! Finding the end of a snapshot sent without a length (`$EOF:<40 bytes>`).
//!
//! The master ends the payload with the 40 bytes that it announced. They may
//! be cut anywhere by the chunks read, and the stream may follow at once, so
//! the marker is searched, not looked for at the end of what was read. What
//! may be its beginning is held back, which needs no memory: it equals the
//! marker's own beginning.

/// Length of the marker.
pub(crate) const MARKER_BYTES: usize = 40;

/// Searches a stream for the marker (Knuth, Morris, Pratt).
#[derive(Debug, Clone)]
pub(crate) struct EofScanner {
    marker: [u8; MARKER_BYTES],
    /// For each length of a match: the longest shorter one that it ends with.
    fallback: [usize; MARKER_BYTES + 1],
    /// Bytes of the marker seen last.
    matched: usize,
}

impl EofScanner {
    pub(crate) fn new(marker: [u8; MARKER_BYTES]) -> EofScanner {
        let mut fallback = [0; MARKER_BYTES + 1];
        let mut length = 0;
        for (at, byte) in marker.iter().enumerate().skip(1) {
            while length > 0 && marker.get(length) != Some(byte) {
                length = fallback.get(length).copied().unwrap_or(0);
            }
            if marker.get(length) == Some(byte) {
                length += 1;
            }
            if let Some(slot) = fallback.get_mut(at + 1) {
                *slot = length;
            }
        }
        EofScanner {
            marker,
            fallback,
            matched: 0,
        }
    }

    /// Appends the payload in `chunk` to `payload`. Once the marker is
    /// complete: how many bytes of the chunk were taken; the rest is stream.
    pub(crate) fn push(&mut self, chunk: &[u8], payload: &mut Vec<u8>) -> Option<usize> {
        let mut copied = 0;
        let mut held_before = self.matched;
        for (at, byte) in chunk.iter().enumerate() {
            while self.matched > 0 && self.marker.get(self.matched) != Some(byte) {
                self.matched = self.fallback.get(self.matched).copied().unwrap_or(0);
            }
            if self.marker.get(self.matched) == Some(byte) {
                self.matched += 1;
            }
            if self.matched == MARKER_BYTES {
                self.release(chunk, at + 1, &mut held_before, &mut copied, payload);
                return Some(at + 1);
            }
        }
        self.release(chunk, chunk.len(), &mut held_before, &mut copied, payload);
        None
    }

    /// Emits all before the present match, of what was held and of the chunk.
    fn release(
        &self,
        chunk: &[u8],
        taken: usize,
        held_before: &mut usize,
        copied: &mut usize,
        payload: &mut Vec<u8>,
    ) {
        let known = *held_before + taken;
        let payload_end = known.saturating_sub(self.matched);
        let from_held = payload_end.min(*held_before);
        payload.extend_from_slice(self.marker.get(..from_held).unwrap_or_default());
        let from_chunk = payload_end - from_held;
        payload.extend_from_slice(chunk.get(*copied..from_chunk).unwrap_or_default());
        *copied = from_chunk;
        *held_before = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(marker: [u8; 40], stream: &[u8], step: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut scanner = EofScanner::new(marker);
        let mut payload = vec![];
        let mut at = 0;
        for chunk in stream.chunks(step) {
            if let Some(taken) = scanner.push(chunk, &mut payload) {
                return Some((payload, stream[at + taken..].to_vec()));
            }
            at += chunk.len();
        }
        None
    }

    proptest! {
        #[test]
        fn the_payload_ends_where_the_marker_begins(
            // Few letters make near misses likely.
            letters in proptest::collection::vec(b'a'..b'c', 0..400),
            marker in proptest::collection::vec(b'a'..b'c', 40),
            rest in proptest::collection::vec(any::<u8>(), 0..60),
            step in 1usize..100,
        ) {
            let marker: [u8; 40] = marker.try_into().unwrap();
            let mut stream = letters;
            stream.extend_from_slice(&marker);
            stream.extend_from_slice(&rest);
            let end = stream.windows(40).position(|window| window == marker).unwrap();
            let (payload, behind) = scan(marker, &stream, step).unwrap();
            prop_assert_eq!(&payload[..], &stream[..end]);
            prop_assert_eq!(&behind[..], &stream[end + 40..]);
        }

        #[test]
        fn without_the_marker_all_but_its_beginning_is_payload(
            letters in proptest::collection::vec(b'a'..b'c', 0..300), step in 1usize..50,
        ) {
            let marker = [b'x'; 40];
            let mut scanner = EofScanner::new(marker);
            let mut payload = vec![];
            for chunk in letters.chunks(step) {
                prop_assert_eq!(scanner.push(chunk, &mut payload), None);
            }
            prop_assert_eq!(payload, letters);
        }
    }
}
