//! The type bytes of RDB values, with Redis's names (`rdb.h`).

/// A string.
pub const STRING: u8 = 0;
/// A list, one string an element (before 3.2).
pub const LIST: u8 = 1;
/// A set in a hash table.
pub const SET: u8 = 2;
/// A sorted set with scores as text (before 4.0).
pub const ZSET: u8 = 3;
/// A hash in a hash table.
pub const HASH: u8 = 4;
/// A sorted set with binary scores.
pub const ZSET_2: u8 = 5;
/// A module value of release candidates; refused.
pub const MODULE_PRE_GA: u8 = 6;
/// A module value that can be skipped without the module.
pub const MODULE_2: u8 = 7;
/// A small hash of Redis 2.4.
pub const HASH_ZIPMAP: u8 = 9;
/// A small list before 3.2.
pub const LIST_ZIPLIST: u8 = 10;
/// A set of integers.
pub const SET_INTSET: u8 = 11;
/// A small sorted set before 7.0.
pub const ZSET_ZIPLIST: u8 = 12;
/// A small hash before 7.0.
pub const HASH_ZIPLIST: u8 = 13;
/// A list of ziplists, 3.2 to 6.2.
pub const LIST_QUICKLIST: u8 = 14;
/// A stream of 5.0 to 6.2.
pub const STREAM_LISTPACKS: u8 = 15;
/// A small hash.
pub const HASH_LISTPACK: u8 = 16;
/// A small sorted set.
pub const ZSET_LISTPACK: u8 = 17;
/// A list of listpacks and plain nodes.
pub const LIST_QUICKLIST_2: u8 = 18;
/// A stream of 7.0: first id, largest deleted id, counters.
pub const STREAM_LISTPACKS_2: u8 = 19;
/// A small set (7.2).
pub const SET_LISTPACK: u8 = 20;
/// A stream of 7.2: consumers have an active time too.
pub const STREAM_LISTPACKS_3: u8 = 21;
/// A hash with field expiry of 7.4 release candidates.
pub const HASH_METADATA_PRE_GA: u8 = 22;
/// A small hash with field expiry of 7.4 release candidates.
pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
/// A hash with field expiry (7.4).
pub const HASH_METADATA: u8 = 24;
/// A small hash with field expiry (7.4).
pub const HASH_LISTPACK_EX: u8 = 25;

/// Whether `byte` is the type of a value and no opcode.
pub fn is_object_type(byte: u8) -> bool {
    matches!(byte, 0..=7 | 9..=25)
}

/// Whether a value of this type, if not compressed, is in the form that values
/// have outside RAM.
pub fn is_superset_type(byte: u8) -> bool {
    matches!(
        byte,
        STRING
            | SET
            | HASH
            | ZSET_2
            | MODULE_2
            | SET_INTSET
            | HASH_LISTPACK
            | ZSET_LISTPACK
            | LIST_QUICKLIST_2
            | SET_LISTPACK
            | STREAM_LISTPACKS_3
            | HASH_METADATA
            | HASH_LISTPACK_EX
    )
}

/// The RDB version that introduced a superset type, as far as it matters for
/// the versions that we write (10 and later).
pub fn version_of(byte: u8) -> u16 {
    match byte {
        SET_LISTPACK | STREAM_LISTPACKS_3 => 11,
        HASH_METADATA_PRE_GA..=HASH_LISTPACK_EX => 12,
        _ => 10,
    }
}
