//! How full a node may get: `list-max-listpack-size` with Redis 7.2's rules
//! (`quicklistNodeLimit` and `quicklistNodeExceedsLimit`).

use crate::value::Limits;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Byte limits of the option's values −1 to −5; anything lower is as −5.
const LEVEL_BYTES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// With a limit by entries, no node of several elements passes this many bytes.
const SAFETY_BYTES_MAX: usize = 8 << 10;

/// What one more entry costs beside its bytes, rather too much than too little.
const ENTRY_OVERHEAD_BYTES: usize = 8;

/// From this size on an element is a node of its own without a listpack around it.
const PLAIN_BYTES_MIN: usize = 1 << 30;

/// `DEBUG QUICKLIST-PACKED-THRESHOLD`, which test suites set.
static PLAIN_BYTES_MIN_NOW: AtomicUsize = AtomicUsize::new(PLAIN_BYTES_MIN);

/// Sets the size in bytes from which elements become plain nodes; 0 restores the default of
/// 1 GiB. False if it is too near to 4 GiB, as Redis refuses it.
pub fn set_plain_bytes_min(bytes: usize) -> bool {
    if bytes > (1 << 32) - (1 << 20) {
        return false;
    }
    let bytes = if bytes == 0 { PLAIN_BYTES_MIN } else { bytes };
    PLAIN_BYTES_MIN_NOW.store(bytes, Ordering::Relaxed);
    true
}

/// The limits of one node, read once per operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    bytes_max: usize,
    entries_max: usize,
    plain_bytes_min: usize,
}

impl Fill {
    /// The limits that the configuration asks for.
    pub(super) fn new(limits: &Limits) -> Self {
        Self::with_plain(
            limits.list_listpack_size,
            PLAIN_BYTES_MIN_NOW.load(Ordering::Relaxed),
        )
    }

    /// As [`Fill::new`], with an explicit size of plain elements.
    pub(super) fn with_plain(size: i64, plain_bytes_min: usize) -> Self {
        let (bytes_max, entries_max) = if size < 0 {
            let level = usize::try_from(size.unsigned_abs() - 1).unwrap_or(usize::MAX);
            let level = level.min(LEVEL_BYTES.len() - 1);
            (
                LEVEL_BYTES.get(level).copied().unwrap_or(SAFETY_BYTES_MAX),
                usize::MAX,
            )
        } else {
            (
                usize::MAX,
                usize::try_from(size).unwrap_or(usize::MAX).max(1),
            )
        };
        Self {
            bytes_max,
            entries_max,
            plain_bytes_min,
        }
    }

    /// Whether a node of this size is too large.
    pub(super) fn exceeded(self, bytes: usize, entries: usize) -> bool {
        if self.bytes_max != usize::MAX {
            return bytes > self.bytes_max;
        }
        bytes > SAFETY_BYTES_MAX || entries > self.entries_max
    }

    /// Whether a listpack of this size would have no room for one more element.
    pub(super) fn full_for(self, bytes: usize, entries: usize, element_bytes: usize) -> bool {
        self.is_plain(element_bytes)
            || self.exceeded(
                bytes
                    .saturating_add(element_bytes)
                    .saturating_add(ENTRY_OVERHEAD_BYTES),
                entries + 1,
            )
    }

    /// Whether a quicklist of one node may become a listpack. After a removal (`shrinking`) only
    /// at half the limit, so that a list at the border does not go back and forth.
    pub(super) fn fits_listpack(self, bytes: usize, entries: usize, shrinking: bool) -> bool {
        let part = if shrinking { 2 } else { 1 };
        bytes <= self.bytes_max / part && entries <= self.entries_max / part
    }

    /// Whether an element of this size is kept outside listpacks.
    pub(super) fn is_plain(self, element_bytes: usize) -> bool {
        element_bytes >= self.plain_bytes_min
    }
}
