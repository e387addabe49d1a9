//! HyperLogLog: an estimate of how many different elements a set has, kept in a string.
//!
//! The bytes are Redis's, so that strings move between servers: a header of 16 bytes (`HYLL`, the
//! encoding, three zeros, the cached cardinality in little endian, whose top bit says that it is
//! out of date), then 16384 registers of 6 bits. Dense: all of them, lowest bits first. Sparse:
//! runs of equal registers ([`sparse`]), until one is above 32 or the string passes
//! `hll-sparse-max-bytes`.
//!
//! Any client can write any string: a sparse one may be damaged, and every operation says so with
//! [`Corrupted`] and leaves it as it was.

mod dense;
mod estimate;
mod hash;
mod self_test;
mod sparse;

pub use hash::Pattern;
pub use self_test::self_test;

/// Number of registers.
pub const REGISTERS: usize = 1 << 14;
/// Bytes before the registers.
const HEADER_BYTES: usize = 16;
/// Bytes of a dense one.
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;
const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const CACHE_AT: usize = 8;
/// In the last byte of the cached cardinality.
const CACHE_IS_OLD: u8 = 1 << 7;

/// How the registers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// All of them, 6 bits each.
    Dense,
    /// Runs of equal ones.
    Sparse,
}

/// The runs of a sparse one don't cover the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupted;

/// The encoding, or `None` if these bytes are no HyperLogLog.
pub fn encoding(bytes: &[u8]) -> Option<Encoding> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes.get(ENCODING_AT) {
        Some(0) if bytes.len() == DENSE_BYTES => Some(Encoding::Dense),
        Some(1) => Some(Encoding::Sparse),
        _ => None,
    }
}

fn is_dense(bytes: &[u8]) -> bool {
    bytes.get(ENCODING_AT) == Some(&0)
}

/// One without elements.
pub fn empty() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(1);
    bytes.resize(HEADER_BYTES, 0);
    sparse::push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// Whether adding an element would raise a register.
pub fn would_change(bytes: &[u8], pattern: Pattern) -> Result<bool, Corrupted> {
    if is_dense(bytes) {
        Ok(dense::get(bytes, pattern.register) < pattern.length)
    } else {
        sparse::would_change(bytes, pattern)
    }
}

/// Adds an element; whether that raised a register. Beyond `sparse_bytes_max` bytes a sparse one
/// becomes dense. The cached cardinality stays as it is.
pub fn add(
    bytes: &mut Vec<u8>,
    pattern: Pattern,
    sparse_bytes_max: usize,
) -> Result<bool, Corrupted> {
    if is_dense(bytes) {
        Ok(dense::raise(bytes, pattern))
    } else {
        sparse::raise(bytes, pattern, sparse_bytes_max)
    }
}

/// Makes a sparse one dense; false if it was.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<bool, Corrupted> {
    if is_dense(bytes) {
        return Ok(false);
    }
    let mut dense = vec![0; DENSE_BYTES];
    for (to, from) in dense.iter_mut().zip(bytes.iter().take(HEADER_BYTES)) {
        *to = *from;
    }
    if let Some(encoding) = dense.get_mut(ENCODING_AT) {
        *encoding = 0;
    }
    sparse::for_each_value(bytes, |register, length| {
        dense::raise(&mut dense, Pattern { register, length });
    })?;
    *bytes = dense;
    Ok(true)
}

/// The cached cardinality if it is up to date.
pub fn cached_count(bytes: &[u8]) -> Option<u64> {
    let cache = bytes.get(CACHE_AT..HEADER_BYTES)?;
    let count = u64::from_le_bytes(cache.try_into().ok()?);
    (count >> 63 == 0).then_some(count)
}

/// Caches a cardinality.
pub fn cache_count(bytes: &mut [u8], count: u64) {
    if let Some(cache) = bytes.get_mut(CACHE_AT..HEADER_BYTES) {
        cache.copy_from_slice(&count.to_le_bytes());
    }
}

/// The cached cardinality is out of date from now on.
pub fn invalidate(bytes: &mut [u8]) {
    if let Some(last) = bytes.get_mut(HEADER_BYTES - 1) {
        *last |= CACHE_IS_OLD;
    }
}

/// The estimated cardinality, computed from the registers.
pub fn count(bytes: &[u8]) -> Result<u64, Corrupted> {
    let histogram = if is_dense(bytes) {
        estimate::Histogram::of(dense::registers(bytes))
    } else {
        sparse::histogram(bytes)?
    };
    Ok(histogram.cardinality())
}

/// The registers of a dense one, in order.
pub fn registers(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    dense::registers(bytes)
}

/// The runs of a sparse one as text: `Z:` and `z:` with a length for zeros, `v:` with value and
/// length for others.
pub fn describe_runs(bytes: &[u8]) -> String {
    sparse::describe(bytes)
}

/// The registers of several merged into one: the largest of each.
#[derive(Debug, Clone)]
pub struct Merged(Vec<u8>);

impl Default for Merged {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Merged {
    /// Merges one more.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Corrupted> {
        if is_dense(bytes) {
            for (most, value) in self.0.iter_mut().zip(dense::registers(bytes)) {
                *most = value.max(*most);
            }
            return Ok(());
        }
        sparse::for_each_value(bytes, |register, value| {
            if let Some(most) = self.0.get_mut(register) {
                *most = value.max(*most);
            }
        })
    }

    /// The estimated cardinality of the union.
    pub fn count(&self) -> u64 {
        estimate::Histogram::of(self.0.iter().copied()).cardinality()
    }

    /// What raises the registers of another one to these.
    pub fn patterns(&self) -> impl Iterator<Item = Pattern> + '_ {
        let present = self.0.iter().enumerate().filter(|(_, length)| **length > 0);
        present.map(|(register, &length)| Pattern { register, length })
    }
}

#[cfg(test)]
mod tests;
