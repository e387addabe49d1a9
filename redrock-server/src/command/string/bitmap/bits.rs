//! Bits of byte strings, the highest bit of a byte first. What lies past the end reads as zero.

/// One bit.
pub(super) fn get(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / 8)
        .ok()
        .and_then(|at| bytes.get(at));
    byte.is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1)
}

/// Sets a bit of a byte that is there.
pub(super) fn set(bytes: &mut [u8], offset: u64, on: bool) {
    if let Some(byte) = bytes.get_mut((offset / 8) as usize) {
        let mask = 1 << (7 - offset % 8);
        *byte = if on { *byte | mask } else { *byte & !mask };
    }
}

/// Number of bits that are set.
pub(super) fn count(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= 64 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has both features.
        return unsafe { count_avx2(bytes) };
    }
    count_words(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn count_avx2(bytes: &[u8]) -> u64 {
    count_words(bytes)
}

/// Compiled for the baseline, and once more within `count_avx2` for a newer processor.
#[inline(always)]
fn count_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u64 = words
        .iter()
        .map(|w| u64::from(u64::from_ne_bytes(*w).count_ones()))
        .sum();
    words
        + rest
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum::<u64>()
}

/// Number of set bits from `first` to `last`, both included and within the string.
pub(super) fn count_range(bytes: &[u8], first: u64, last: u64) -> u64 {
    let Some(within) = bytes.get((first / 8) as usize..=(last / 8) as usize) else {
        return 0;
    };
    let edge =
        |byte: Option<&u8>, mask: u8| byte.map_or(0, |byte| u64::from((byte & mask).count_ones()));
    let before = edge(within.first(), !head_mask(first));
    let behind = edge(within.last(), !tail_mask(last));
    count(within) - before - behind
}

/// The bits of its byte from this one on.
fn head_mask(offset: u64) -> u8 {
    0xff >> (offset % 8)
}

/// The bits of its byte up to this one.
fn tail_mask(offset: u64) -> u8 {
    0xff << (7 - offset % 8)
}

/// Position of the first bit equal to `bit` from `first` to `last`, both included and within the
/// string.
pub(super) fn find(bytes: &[u8], bit: bool, first: u64, last: u64) -> Option<u64> {
    // From here on a set bit is looked for.
    let flip: u8 = if bit { 0 } else { 0xff };
    let (head, tail) = ((first / 8) as usize, (last / 8) as usize);
    let position =
        |at: usize, byte: u8| (byte != 0).then(|| at as u64 * 8 + u64::from(byte.leading_zeros()));
    let mut byte = (bytes.get(head)? ^ flip) & head_mask(first);
    if head == tail {
        byte &= tail_mask(last);
        return position(head, byte);
    }
    position(head, byte)
        .or_else(|| {
            let at = first_unlike(bytes.get(head + 1..tail)?, flip)?;
            position(head + 1 + at, bytes.get(head + 1 + at)? ^ flip)
        })
        .or_else(|| position(tail, (bytes.get(tail)? ^ flip) & tail_mask(last)))
}

/// Index of the first byte other than `like`.
fn first_unlike(bytes: &[u8], like: u8) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let skipped = words.iter().take_while(|word| **word == [like; 8]).count() * 8;
    let rest = bytes.get(skipped..)?;
    rest.iter()
        .position(|byte| *byte != like)
        .map(|at| skipped + at)
}

/// An unsigned integer of `width` bits (1 to 64) at a bit offset.
pub(super) fn get_field(bytes: &[u8], offset: u64, width: u32) -> u64 {
    let (window, shift, mask) = window(bytes, offset, width);
    (window >> shift & mask) as u64
}

/// Overwrites an integer of `width` bits (1 to 64), all of whose bytes are there.
pub(super) fn set_field(bytes: &mut [u8], offset: u64, width: u32, value: u64) {
    let (window, shift, mask) = window(bytes, offset, width);
    let window = window & !(mask << shift) | (u128::from(value) & mask) << shift;
    let first = (offset / 8) as usize;
    let count = ((offset % 8) as usize + width as usize).div_ceil(8);
    // The window's lowest 9 bytes are those from `first` on.
    let field = window.to_be_bytes();
    let field = field.get(7..7 + count).unwrap_or_default();
    if let Some(place) = bytes.get_mut(first..first + count) {
        place.copy_from_slice(field);
    }
}

/// The nine bytes around a field as one number, how far the field lies above its lowest bit, and
/// the mask of the field's width.
fn window(bytes: &[u8], offset: u64, width: u32) -> (u128, u32, u128) {
    const BYTES: u32 = 9;
    let from = bytes.get((offset / 8) as usize..).unwrap_or_default();
    let mut window = 0_u128;
    for i in 0..BYTES as usize {
        window = window << 8 | u128::from(from.get(i).copied().unwrap_or(0));
    }
    let shift = (BYTES * 8).saturating_sub((offset % 8) as u32 + width);
    (window, shift, (1 << width) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|i| get(bytes, i)).collect()
    }

    #[test]
    fn bits_count_from_the_highest_of_the_first_byte() {
        let mut bytes = [0_u8; 2];
        set(&mut bytes, 0, true);
        set(&mut bytes, 9, true);
        assert_eq!(bytes, [0x80, 0x40]);
        set(&mut bytes, 0, false);
        assert_eq!(bytes, [0, 0x40]);
        assert!(get(&bytes, 9) && !get(&bytes, 8) && !get(&bytes, 1 << 40));
    }

    #[test]
    fn a_field_need_not_be_aligned() {
        let mut bytes = [0_u8; 2];
        set_field(&mut bytes, 7, 5, 23);
        assert_eq!(bytes, [1, 0b0111_0000]);
        assert_eq!(get_field(&bytes, 7, 5), 23);
    }

    proptest! {
        #[test]
        fn counting_and_finding_agree_with_looking_at_each_bit(
            seed in proptest::collection::vec(any::<u8>(), 1..8),
            repeats in 1_usize..60,
            fill in prop_oneof![Just(None), Just(Some(0_u8)), Just(Some(0xff))],
            ends in any::<(u16, u16)>(),
        ) {
            // Long runs of one byte between a few others.
            let mut bytes = seed.clone();
            bytes.extend(std::iter::repeat_n(fill.unwrap_or(0x5a), repeats * 4));
            bytes.extend(seed);
            let all = naive(&bytes);
            let total = all.len() as u64;
            let (x, y) = (u64::from(ends.0) % total, u64::from(ends.1) % total);
            let (first, last) = (x.min(y), x.max(y));
            let range = &all[first as usize..=last as usize];
            let ones = range.iter().filter(|bit| **bit).count() as u64;
            prop_assert_eq!(count_range(&bytes, first, last), ones);
            prop_assert_eq!(count(&bytes), all.iter().filter(|bit| **bit).count() as u64);
            for bit in [false, true] {
                let expected = range.iter().position(|b| *b == bit).map(|at| first + at as u64);
                prop_assert_eq!(find(&bytes, bit, first, last), expected);
            }
        }

        #[test]
        fn fields_agree_with_their_bits(
            bytes in proptest::collection::vec(any::<u8>(), 0..24),
            offset in 0_u64..220,
            width in 1_u32..=64,
            value in any::<u64>(),
        ) {
            let expected = (offset..offset + u64::from(width))
                .fold(0_u64, |n, i| n << 1 | u64::from(get(&bytes, i)));
            prop_assert_eq!(get_field(&bytes, offset, width), expected);

            let mut changed = bytes.clone();
            changed.resize(changed.len().max((offset + u64::from(width)).div_ceil(8) as usize), 0);
            let before = naive(&changed);
            set_field(&mut changed, offset, width, value);
            prop_assert_eq!(get_field(&changed, offset, width), value & (u64::MAX >> (64 - width)));
            for (i, (old, new)) in before.iter().zip(naive(&changed)).enumerate() {
                let inside = (offset..offset + u64::from(width)).contains(&(i as u64));
                prop_assert!(inside || *old == new);
            }
        }
    }
}
