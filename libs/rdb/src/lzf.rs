//! LZF, the compression of strings in RDB files.
//!
//! A control byte under 32 is followed by that many literals and one more.
//! Any other starts a back reference: its top three bits are the length less
//! two (7: add the next byte), the lower five bits and the last byte the
//! distance less one. So a reference covers 3 to 264 bytes, up to 8192 back.
//!
//! Any valid stream is as good as any other: ours need not be, and as
//! Redis's own depend on uninitialised memory can't be, Redis's very bytes.

use crate::error::Corrupt;

const LITERALS_MAX: usize = 32;
const MATCH_BYTES_MIN: usize = 3;
const MATCH_BYTES_MAX: usize = 264;
const DISTANCE_MAX: usize = 8192;
/// A reference of three bytes yields 264: no stream expands more.
const EXPANSION_MAX: usize = MATCH_BYTES_MAX / 3;

/// Expands `input` to exactly `output_len` bytes, the size stated beside it.
///
/// What is allocated is in proportion to `input`, whatever the stated size.
pub fn decompress(input: &[u8], output_len: usize) -> Result<Vec<u8>, Corrupt> {
    let mut output = Vec::new();
    decompress_into(input, output_len, &mut output)?;
    Ok(output)
}

/// Like [`decompress`], appending to `output`. After an error what was
/// appended is unspecified.
pub fn decompress_into(
    input: &[u8],
    output_len: usize,
    output: &mut Vec<u8>,
) -> Result<(), Corrupt> {
    if output_len > input.len().saturating_mul(EXPANSION_MAX) {
        return Err(Corrupt::new("LZF stream too short for its stated size", 0));
    }
    let start = output.len();
    let end = start + output_len;
    output.reserve_exact(output_len);
    let mut at = 0;
    while let Some(&control) = input.get(at) {
        let token_at = at;
        let cut = Corrupt::new("cut LZF stream", token_at);
        at += 1;
        if usize::from(control) < LITERALS_MAX {
            let len = usize::from(control) + 1;
            let literals = input.get(at..at + len).ok_or(cut)?;
            if end - output.len() < len {
                return Err(Corrupt::new(
                    "LZF stream longer than its stated size",
                    token_at,
                ));
            }
            output.extend_from_slice(literals);
            at += len;
            continue;
        }
        let mut len = usize::from(control >> 5) + 2;
        if control >> 5 == 7 {
            len += usize::from(*input.get(at).ok_or(cut)?);
            at += 1;
        }
        let low = usize::from(*input.get(at).ok_or(cut)?);
        at += 1;
        let distance = (usize::from(control & 0x1F) << 8 | low) + 1;
        if end - output.len() < len {
            return Err(Corrupt::new(
                "LZF stream longer than its stated size",
                token_at,
            ));
        }
        if distance > output.len() - start {
            return Err(Corrupt::new("LZF reference before the start", token_at));
        }
        copy_match(output, distance, len);
    }
    if output.len() == end {
        Ok(())
    } else {
        Err(Corrupt::new(
            "LZF stream shorter than its stated size",
            input.len(),
        ))
    }
}

/// Appends `len` bytes that start `distance` back; they may overlap what is
/// being written, repeating a pattern.
#[inline]
fn copy_match(output: &mut Vec<u8>, distance: usize, len: usize) {
    let from = output.len() - distance;
    if distance >= len {
        output.extend_from_within(from..from + len);
        return;
    }
    if distance == 1 {
        let byte = output[from];
        output.resize(output.len() + len, byte);
        return;
    }
    let mut left = len;
    while left > 0 {
        // What was appended repeats the pattern: each turn may copy twice as much.
        let piece = left.min(output.len() - from);
        output.extend_from_within(from..from + piece);
        left -= piece;
    }
}

/// Slots of the match table, as a power of two: it stays within the second
/// level cache and covers the window of 8192 positions.
const TABLE_BITS: u32 = 14;
/// Fewer of them serve short strings, within the first level cache.
const TABLE_BITS_MIN: u32 = 10;

/// What is kept between calls for the output.
const SCRATCH_BYTES_MAX: usize = 64 << 10;
/// After so many misses, as a power of two, one position more is skipped for each that is looked at.
const SKIP_BITS: u32 = 5;

/// A compressor, whose table is kept between calls.
#[derive(Debug)]
pub struct Compressor {
    /// By hash of three bytes: `base` of the call plus the last position. None before the first call:
    /// most strings are too short to be compressed.
    table: Vec<u32>,
    /// What positions of the present call start from. Older entries are lower,
    /// so that the table need not be cleared for each string.
    base: u32,
    /// What [`Compressor::shorter`] returns; empty between calls if it grew large.
    scratch: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// A compressor; it gets a table (64 KiB) with its first string.
    pub fn new() -> Self {
        Self {
            table: Vec::new(),
            base: 1,
            scratch: Vec::new(),
        }
    }

    /// `input` compressed, if that takes at most `output_max` bytes.
    pub fn shorter(&mut self, input: &[u8], output_max: usize) -> Option<&[u8]> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.shrink_to(SCRATCH_BYTES_MAX);
        let done = self.compress(input, &mut scratch, output_max);
        self.scratch = scratch;
        done.then_some(&self.scratch)
    }

    /// Appends `input` compressed to `output` and returns true, or leaves
    /// `output` as it was and returns false if that takes more than
    /// `output_max` bytes. Redis allows `input.len() - 4`.
    pub fn compress(&mut self, input: &[u8], output: &mut Vec<u8>, output_max: usize) -> bool {
        // Positions must fit the table; no Redis string is that long.
        if input.len() >= 1 << 31 {
            return false;
        }
        if self.table.is_empty() {
            self.table = vec![0; 1 << TABLE_BITS];
        }
        let positions = input.len() as u32 + 1;
        if self.base.checked_add(positions).is_none() {
            self.table.fill(0);
            self.base = 1;
        }
        let start = output.len();
        let mut sink = Sink {
            output,
            end: start.saturating_add(output_max),
        };
        let done = self.compress_into(input, &mut sink).is_some();
        if !done {
            output.truncate(start);
        }
        self.base += positions;
        done
    }

    fn compress_into(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut literals_at = 0;
        let mut at = 0;
        // The longer nothing matches, the more is skipped: what can't be
        // compressed costs little.
        let mut misses = 0usize;
        let bits = table_bits(input.len());
        while let Some(hash) = hash_at(input, at, bits) {
            let slot = &mut self.table[hash];
            let seen = std::mem::replace(slot, self.base + at as u32);
            let len = match seen.checked_sub(self.base) {
                Some(before) if at - before as usize <= DISTANCE_MAX => {
                    match_len(input, before as usize, at)
                }
                _ => 0,
            };
            if len < MATCH_BYTES_MIN {
                at += 1 + (misses >> SKIP_BITS);
                misses += 1;
                continue;
            }
            misses = 0;
            sink.literals(&input[literals_at..at])?;
            sink.reference(at - (seen - self.base) as usize, len)?;
            // The last positions of a match find more than the first ones.
            for position in (at + len).saturating_sub(2).max(at + 1)..at + len {
                if let Some(hash) = hash_at(input, position, bits) {
                    self.table[hash] = self.base + position as u32;
                }
            }
            at += len;
            literals_at = at;
        }
        sink.literals(&input[literals_at..])
    }
}

/// How many slots a string of so many bytes uses, as a power of two: about two a byte.
fn table_bits(bytes: usize) -> u32 {
    let bits = usize::BITS - bytes.leading_zeros() + 1;
    bits.clamp(TABLE_BITS_MIN, TABLE_BITS)
}

/// The slot of `bits` for the three bytes at `at`.
#[inline]
fn hash_at(input: &[u8], at: usize, bits: u32) -> Option<usize> {
    let &[a, b, c] = input.get(at..)?.first_chunk::<3>()?;
    let word = u32::from_le_bytes([0, a, b, c]);
    Some((word.wrapping_mul(0x9E37_79B1) >> (32 - bits)) as usize)
}

/// How many bytes at `before` and `at` agree, up to the longest reference.
#[inline]
fn match_len(input: &[u8], before: usize, at: usize) -> usize {
    let len_max = (input.len() - at).min(MATCH_BYTES_MAX);
    let old = &input[before..before + len_max];
    let new = &input[at..at + len_max];
    let (old_words, old_rest) = old.as_chunks::<8>();
    let (new_words, new_rest) = new.as_chunks::<8>();
    for (i, (a, b)) in old_words.iter().zip(new_words).enumerate() {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return 8 * i + (difference.trailing_zeros() / 8) as usize;
        }
    }
    let rest = old_rest
        .iter()
        .zip(new_rest)
        .take_while(|(a, b)| a == b)
        .count();
    8 * old_words.len() + rest
}

/// Output with a bound; `None` from its methods says that it is reached.
struct Sink<'a> {
    output: &'a mut Vec<u8>,
    end: usize,
}

impl Sink<'_> {
    /// Whether so many more bytes may come.
    #[inline]
    fn has_room(&self, bytes: usize) -> Option<()> {
        (bytes <= self.end - self.output.len()).then_some(())
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.has_room(bytes.len())?;
        self.output.extend_from_slice(bytes);
        Some(())
    }

    /// All of them or, if they are too many, none: what can't be compressed is not copied.
    #[inline]
    fn literals(&mut self, literals: &[u8]) -> Option<()> {
        let bytes = literals.len() + literals.len().div_ceil(LITERALS_MAX);
        self.has_room(bytes)?;
        self.output.reserve(bytes);
        for run in literals.chunks(LITERALS_MAX) {
            self.output.push(run.len() as u8 - 1);
            self.output.extend_from_slice(run);
        }
        Some(())
    }

    #[inline]
    fn reference(&mut self, distance: usize, len: usize) -> Option<()> {
        let distance = distance - 1;
        let high = (distance >> 8) as u8;
        let low = distance as u8;
        let len = len - 2;
        if len < 7 {
            self.put(&[(len as u8) << 5 | high, low])
        } else {
            self.put(&[7 << 5 | high, (len - 7) as u8, low])
        }
    }
}

/// Compresses one string; `None` if that takes more than `output_max` bytes.
/// Who compresses many keeps a [`Compressor`].
pub fn compress(input: &[u8], output_max: usize) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    Compressor::new()
        .compress(input, &mut output, output_max)
        .then_some(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_becomes_one_overlapping_reference() {
        let input = [b'a'; 200];
        let output = compress(&input, 196).expect("compressible");
        assert_eq!(output, [0, b'a', 7 << 5, 190, 0]);
        assert_eq!(decompress(&output, 200).as_deref(), Ok(&input[..]));
    }

    #[test]
    fn a_string_that_redis_compressed_is_read() {
        let mut text = b"GET /index.html HTTP/1.1\r\nGET /index.htm HTTP/1.0\r\n".to_vec();
        text.resize(text.len() + 300, b'.');
        text.extend_from_slice(b"GET /image.html");
        let compressed = b"\x1aGET /index.html HTTP/1.1\x0d\x0aG\xe0\x04\x19\xc0\x18\x030\x0d\x0a.\
            \xe0\xff\x00\xe0\x1a\x00\x81D\x03mage!^\x01ml";
        assert_eq!(decompress(compressed, text.len()), Ok(text));
    }

    #[test]
    fn a_stated_size_out_of_proportion_allocates_nothing() {
        let error = decompress(&[0, b'a'], usize::MAX).expect_err("too short");
        assert_eq!(error.reason, "LZF stream too short for its stated size");
    }

    #[test]
    fn bad_streams_are_refused_with_the_place() {
        let cases: [(&[u8], usize, &str); 6] = [
            (&[5, b'a'], 6, "cut LZF stream"),
            (&[0, b'a', 0xE0], 20, "cut LZF stream"),
            (&[0, b'a', 0xE0, 1], 11, "cut LZF stream"),
            (&[0, b'a', 0x20, 1], 4, "LZF reference before the start"),
            (
                &[0, b'a', 0x20, 0],
                3,
                "LZF stream longer than its stated size",
            ),
            (
                &[0, b'a', 0x20, 0],
                5,
                "LZF stream shorter than its stated size",
            ),
        ];
        for (input, len, reason) in cases {
            assert_eq!(decompress(input, len).expect_err(reason).reason, reason);
        }
    }

    #[test]
    fn a_stream_may_not_refer_before_its_own_part_of_the_output() {
        let mut output = b"earlier".to_vec();
        assert!(decompress_into(&[0, b'a', 0x20, 1], 4, &mut output).is_err());
    }

    #[test]
    fn the_table_survives_running_out_of_positions() {
        let mut compressor = Compressor::new();
        compressor.base = u32::MAX - 300;
        let input: Vec<u8> = (0..500u32).map(|i| (i % 7) as u8).collect();
        for _ in 0..3 {
            let mut output = Vec::new();
            assert!(compressor.compress(&input, &mut output, 496));
            assert_eq!(decompress(&output, 500).as_deref(), Ok(&input[..]));
        }
    }

    /// Bytes with repetitions near and far.
    fn compressible() -> impl Strategy<Value = Vec<u8>> {
        let piece = (proptest::collection::vec(0u8..4, 1..40), 1usize..30)
            .prop_map(|(bytes, times)| bytes.repeat(times));
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            inputs in proptest::collection::vec(
                prop_oneof![compressible(), proptest::collection::vec(any::<u8>(), 0..600)],
                1..4,
            )
        ) {
            let mut compressor = Compressor::new();
            for input in &inputs {
                let mut output = b"kept".to_vec();
                prop_assert!(compressor.compress(input, &mut output, input.len() * 2 + 8));
                let size = output.len() - 4;
                let mut back = b"kept".to_vec();
                prop_assert!(decompress_into(&output[4..], input.len(), &mut back).is_ok());
                prop_assert_eq!(&back[4..], &input[..]);
                // The bound is exact, and a failure leaves no trace.
                output.truncate(4);
                prop_assert!(compressor.compress(input, &mut output, size));
                output.truncate(4);
                if size > 0 {
                    prop_assert!(!compressor.compress(input, &mut output, size - 1));
                    prop_assert_eq!(output, b"kept");
                }
            }
        }

        #[test]
        fn any_bytes_decompress_or_fail(
            input in proptest::collection::vec(any::<u8>(), 0..300),
            len in 0usize..3000,
        ) {
            if let Ok(output) = decompress(&input, len) {
                prop_assert_eq!(output.len(), len);
            }
        }
    }
}
