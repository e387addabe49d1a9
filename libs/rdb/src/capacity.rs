//! How the blobs edited in place grow and shrink.
//!
//! Small collections are most of a hot data set, so doubling would waste up to
//! half of it. Capacities follow the size classes of the allocator (four to
//! each doubling): no byte of an allocation goes unused and the number of
//! reallocations stays logarithmic.

/// The allocator's size class for `len` bytes.
#[inline]
pub(crate) fn size_class(len: usize) -> usize {
    if len <= 128 {
        return len.next_multiple_of(16);
    }
    let bits = usize::BITS - (len - 1).leading_zeros();
    len.next_multiple_of(1 << (bits - 3))
}

/// Makes room for `len` bytes in total.
#[inline]
pub(crate) fn reserve_total(bytes: &mut Vec<u8>, len: usize) {
    if len > bytes.capacity() {
        bytes.reserve_exact(size_class(len) - bytes.len());
    }
}

/// Gives memory back once less than half of it is in use.
#[inline]
pub(crate) fn release_excess(bytes: &mut Vec<u8>) {
    if bytes.capacity() > 64 && bytes.capacity() / 2 > bytes.len() {
        bytes.shrink_to(size_class(bytes.len()));
    }
}

/// Replaces `removed` bytes at `at` by a gap of `inserted` bytes, whose
/// content is unspecified.
#[inline]
pub(crate) fn resize_gap(bytes: &mut Vec<u8>, at: usize, removed: usize, inserted: usize) {
    let old_len = bytes.len();
    if inserted > removed {
        reserve_total(bytes, old_len + (inserted - removed));
        bytes.resize(old_len + (inserted - removed), 0);
        bytes.copy_within(at + removed..old_len, at + inserted);
    } else if inserted < removed {
        bytes.copy_within(at + removed..old_len, at + inserted);
        bytes.truncate(old_len - (removed - inserted));
        release_excess(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_those_of_jemalloc() {
        for (len, class) in [
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (161, 192),
            (193, 224),
            (225, 256),
            (257, 320),
            (512, 512),
            (513, 640),
            (8193, 10240),
        ] {
            assert_eq!(size_class(len), class, "{len}");
        }
    }

    #[test]
    fn a_gap_moves_the_tail_both_ways() {
        let mut bytes = b"abcdef".to_vec();
        resize_gap(&mut bytes, 2, 1, 3);
        assert_eq!(bytes.len(), 8);
        assert_eq!((&bytes[..2], &bytes[5..]), (&b"ab"[..], &b"def"[..]));
        resize_gap(&mut bytes, 2, 3, 0);
        assert_eq!(bytes, b"abdef");
    }
}
