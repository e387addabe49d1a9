//! Keys of the tier: `generation (4 bytes) | position (6 bytes) | key`, big-endian, so that
//! RocksDB's order is the keyspace's order (I4).

use crate::keyspace::position::KeyHash;

/// Bytes before the key itself.
pub const PREFIX_BYTES: usize = 10;

/// A key's name in the tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierKey(Box<[u8]>);

impl TierKey {
    /// The tier's name of a key.
    pub fn new(generation: u32, hash: KeyHash, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + key.len());
        bytes.extend_from_slice(&position_prefix(generation, hash.position()));
        bytes.extend_from_slice(key);
        Self(bytes.into_boxed_slice())
    }

    /// The name that these bytes, read from the tier, are.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes that RocksDB orders.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The generation.
    pub fn generation(&self) -> u32 {
        split(&self.0).map_or(0, |parts| parts.0)
    }

    /// The position.
    pub fn position(&self) -> u64 {
        split(&self.0).map_or(0, |parts| parts.1)
    }

    /// The client's key.
    pub fn key(&self) -> &[u8] {
        self.0.get(PREFIX_BYTES..).unwrap_or_default()
    }
}

/// First tier key of a position.
pub fn position_prefix(generation: u32, position: u64) -> [u8; PREFIX_BYTES] {
    let mut out = [0; PREFIX_BYTES];
    out[..4].copy_from_slice(&generation.to_be_bytes());
    out[4..].copy_from_slice(&position.to_be_bytes()[2..]);
    out
}

/// Generation, position and key of a tier key; `None` if it is too short to be one.
pub fn split(bytes: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (prefix, key) = bytes.split_at_checked(PREFIX_BYTES)?;
    let generation = u32::from_be_bytes(prefix[..4].try_into().ok()?);
    let mut position = [0; 8];
    position[2..].copy_from_slice(&prefix[4..]);
    Some((generation, u64::from_be_bytes(position), key))
}

/// Key in the expiry index: time first, so that due keys are neighbours.
pub fn expire_index_key(expire_ms: i64, tier_key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + tier_key.len());
    // Times are positive; as unsigned big-endian they sort as numbers.
    out.extend_from_slice(&(expire_ms.max(0) as u64).to_be_bytes());
    out.extend_from_slice(tier_key);
    out
}

/// First byte of a key in the expiry index of a hash's fields; a key's own has 0 to 127.
const FIELDS_MARK: u8 = 0xff;

/// Key in the expiry index for the first field of a hash that expires.
pub fn field_index_key(expire_ms: i64, tier_key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + tier_key.len());
    out.push(FIELDS_MARK);
    out.extend_from_slice(&(expire_ms.max(0) as u64).to_be_bytes());
    out.extend_from_slice(tier_key);
    out
}
