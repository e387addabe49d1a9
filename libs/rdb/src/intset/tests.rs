use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn a_wider_integer_rewrites_all_and_no_removal_narrows() {
    let mut set: IntSet = [5, -1].into_iter().collect();
    assert_eq!(set.as_bytes(), [2, 0, 0, 0, 2, 0, 0, 0, 0xFF, 0xFF, 5, 0]);
    assert!(set.insert(-40_000));
    assert_eq!(set.width(), 4);
    assert!(set.insert(i64::MAX));
    assert_eq!(set.width(), 8);
    assert!(set.remove(i64::MAX));
    assert!(set.remove(-40_000));
    assert!(!set.remove(i64::MIN));
    assert_eq!(set.width(), 8);
    assert_eq!(set.iter().collect::<Vec<_>>(), [-1, 5]);
    assert_eq!(set.as_bytes()[8..16], (-1i64).to_le_bytes());
}

#[test]
fn malformed_blobs_are_refused() {
    let cases: [(&[u8], &str); 6] = [
        (&[2, 0, 0], "intset shorter than its header"),
        (&[3, 0, 0, 0, 0, 0, 0, 0], "unknown intset encoding"),
        (
            &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0],
            "intset length differs from its header",
        ),
        (&[2, 0, 0, 0, 0, 0, 0, 0], "empty intset"),
        (&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0], "intset out of order"),
        (
            &[8, 0, 0, 0, 0, 0, 0, 0x20],
            "intset length differs from its header",
        ),
    ];
    for (bytes, reason) in cases {
        assert_eq!(
            IntSet::from_bytes(bytes.to_vec()).expect_err(reason).reason,
            reason
        );
    }
}

fn value() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -40i64..40,
        2 => -70_000i64..70_000,
        1 => any::<i32>().prop_map(i64::from),
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(32_767), Just(-32_768), Just(32_768)],
    ]
}

proptest! {
    #[test]
    fn behaves_like_an_ordered_set(
        edits in proptest::collection::vec((any::<bool>(), value()), 0..200),
        width_max in 0usize..3,
    ) {
        // Narrow runs too, or nearly every case would end with eight bytes.
        let mut model = BTreeSet::new();
        let mut set = IntSet::new();
        let mut width = 2;
        for (add, value) in edits {
            let value = match width_max {
                0 => i64::from(value as i16),
                1 => i64::from(value as i32),
                _ => value,
            };
            if add {
                prop_assert_eq!(set.insert(value), model.insert(value));
                width = width.max(width_of(value));
            } else {
                prop_assert_eq!(set.remove(value), model.remove(&value));
            }
            prop_assert_eq!(set.contains(value), model.contains(&value));
        }
        prop_assert_eq!(set.width(), width);
        prop_assert_eq!(set.len(), model.len());
        prop_assert!(set.iter().eq(model.iter().copied()));
        prop_assert!(set.iter().rev().eq(model.iter().rev().copied()));
        for (rank, &value) in model.iter().enumerate() {
            prop_assert_eq!(set.get(rank), Some(value));
            prop_assert_eq!(set.view().index_of(value), Some(rank));
        }
        prop_assert_eq!(set.get(model.len()), None);
        if !model.is_empty() {
            prop_assert_eq!(IntSet::from_bytes(set.as_bytes().to_vec()), Ok(set));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        width in prop_oneof![Just(2u8), Just(4), Just(8), any::<u8>()],
        count in 0u8..10,
        content in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = vec![width, 0, 0, 0, count, 0, 0, 0];
        bytes.extend_from_slice(&content);
        if let Ok(set) = IntSetRef::from_trusted(&bytes) {
            // Unordered, it still answers something.
            let _ = (set.contains(0), set.contains(-1), set.index_of(i64::MAX));
        }
        if let Ok(set) = IntSet::from_bytes(bytes) {
            prop_assert_eq!(set.len(), usize::from(count));
            let values: BTreeSet<i64> = set.iter().collect();
            prop_assert!(set.iter().eq(values.into_iter()));
        }
    }
}
