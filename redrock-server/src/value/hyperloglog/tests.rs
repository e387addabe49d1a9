//! Bytes that a real Redis 7.0.15 makes, and a model: registers in an array.

use super::*;
use proptest::prelude::*;
use redrock_rdb::crc64::crc64;

/// `hll-sparse-max-bytes` by default.
const SPARSE_BYTES_MAX: usize = 3000;

fn added(bytes: &mut Vec<u8>, element: &str) -> bool {
    let pattern = Pattern::of(element.as_bytes());
    let would = would_change(bytes, pattern).unwrap();
    let did = add(bytes, pattern, SPARSE_BYTES_MAX).unwrap();
    assert_eq!(would, did, "{element}");
    if did {
        invalidate(bytes);
    }
    did
}

#[test]
fn bytes_are_those_of_redis() {
    let mut bytes = empty();
    invalidate(&mut bytes);
    assert_eq!(bytes, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff");
    for element in ["a", "b", "c"] {
        assert!(added(&mut bytes, element));
    }
    let start = *b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80";
    let runs = *b"\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a";
    assert_eq!(bytes, [&start[..], &runs[..]].concat());
    assert_eq!(
        describe_runs(&bytes),
        "Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"
    );
    assert_eq!(cached_count(&bytes), None);
    let found = count(&bytes).unwrap();
    cache_count(&mut bytes, found);
    assert_eq!(cached_count(&bytes), Some(3));
    assert_eq!(bytes[CACHE_AT..HEADER_BYTES], [3, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn many_elements_make_the_bytes_and_the_count_of_redis() {
    // Elements, length, checksum with an old count, count, checksum with it.
    const KNOWN: [(usize, usize, u64, u64, u64); 4] = [
        (10, 48, 0x36ad_f8b7_9abe_ec4e, 10, 0x5160_5787_e606_3f4c),
        (300, 687, 0x523d_8fd7_fea8_b5d6, 301, 0xeff1_b412_746f_5845),
        (
            1000,
            1897,
            0xa8a7_7018_2511_5a48,
            997,
            0xcc44_655d_48f9_3f18,
        ),
        (
            2000,
            DENSE_BYTES,
            0x821b_c9c7_7d21_1d62,
            2004,
            0x5d79_85f2_fb9f_81d8,
        ),
    ];
    let mut bytes = empty();
    invalidate(&mut bytes);
    let mut element = 0;
    for (elements, length, old, counted, cached) in KNOWN {
        while element < elements {
            added(&mut bytes, &format!("element:{element}"));
            element += 1;
        }
        assert_eq!((bytes.len(), crc64(0, &bytes)), (length, old), "{elements}");
        assert_eq!(count(&bytes), Ok(counted));
        cache_count(&mut bytes, counted);
        assert_eq!(crc64(0, &bytes), cached, "{elements}");
    }
    assert_eq!(encoding(&bytes), Some(Encoding::Dense));
}

#[test]
fn a_value_beyond_the_runs_makes_it_dense() {
    let mut bytes = empty();
    let pattern = Pattern {
        register: REGISTERS - 1,
        length: 33,
    };
    assert_eq!(add(&mut bytes, pattern, SPARSE_BYTES_MAX), Ok(true));
    assert_eq!(encoding(&bytes), Some(Encoding::Dense));
    assert_eq!(registers(&bytes).last(), Some(33));
    assert_eq!(would_change(&bytes, pattern), Ok(false));
}

#[test]
fn other_strings_are_none() {
    let dense = {
        let mut bytes = empty();
        make_dense(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(encoding(&dense), Some(Encoding::Dense));
    assert_eq!(encoding(&dense[1..]), None);
    assert_eq!(encoding(&dense[..DENSE_BYTES - 1]), None);
    assert_eq!(encoding(b"HYLL\x01"), None);
    assert_eq!(encoding(b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0"), None);
    assert_eq!(encoding(b"HYLX\x01\0\0\0\0\0\0\0\0\0\0\0"), None);
}

#[test]
fn registers_above_any_hash_count_as_in_redis() {
    let mut bytes = empty();
    make_dense(&mut bytes).unwrap();
    bytes[HEADER_BYTES..].fill(0xff);
    assert_eq!(count(&bytes), Ok(1 << 63));
}

#[test]
fn estimates_are_near_the_truth() {
    assert_eq!(
        self_test::test_estimates(7, SPARSE_BYTES_MAX, 200_000),
        Ok(())
    );
}

proptest! {
    #[test]
    fn both_encodings_hold_the_highest_of_each_register(
        changes in prop::collection::vec((0usize..REGISTERS, 1u8..40), 1..300),
        near: bool,
        bytes_max in 18usize..900,
    ) {
        let (mut bytes, mut dense) = (empty(), empty());
        make_dense(&mut dense).unwrap();
        let mut model = vec![0; REGISTERS];
        for (register, length) in changes {
            // Near each other so that runs merge and split.
            let register = if near { register % 20 } else { register };
            let length = if near { length % 3 + 1 } else { length };
            let pattern = Pattern { register, length };
            let raises = model[register] < length;
            model[register] = length.max(model[register]);
            prop_assert_eq!(add(&mut bytes, pattern, bytes_max), Ok(raises));
            prop_assert_eq!(add(&mut dense, pattern, bytes_max), Ok(raises));
        }
        prop_assert_eq!(count(&bytes), count(&dense));
        let mut merged = Merged::default();
        merged.merge(&bytes).unwrap();
        prop_assert_eq!(Ok(merged.count()), count(&bytes));
        let present = merged.patterns().map(|p| (p.register, p.length));
        let wanted = model.iter().copied().enumerate().filter(|(_, length)| *length > 0);
        prop_assert!(present.eq(wanted));
        let is_sparse = encoding(&bytes) == Some(Encoding::Sparse);
        prop_assert_eq!(make_dense(&mut bytes), Ok(is_sparse));
        prop_assert!(registers(&bytes).eq(model.iter().copied()));
    }

    #[test]
    fn whatever_stands_in_the_string_nothing_panics(
        tail in prop::collection::vec(any::<u8>(), 0..60),
        register in 0usize..REGISTERS,
        length in 1u8..=51,
    ) {
        let bytes = [&b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0"[..], &tail].concat();
        prop_assert_eq!(encoding(&bytes), Some(Encoding::Sparse));
        let pattern = Pattern { register, length };
        let covers = count(&bytes).is_ok();
        prop_assert_eq!(Merged::default().merge(&bytes).is_ok(), covers);
        describe_runs(&bytes);
        let mut changed = bytes.clone();
        if add(&mut changed, pattern, SPARSE_BYTES_MAX).is_err() {
            prop_assert_eq!(&changed, &bytes);
            prop_assert!(!covers);
        }
        let mut dense = bytes.clone();
        prop_assert_eq!(make_dense(&mut dense).is_ok(), covers);
    }
}
