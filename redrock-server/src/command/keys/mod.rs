//! Commands of the keys family.

mod sort;

use super::table::{KeySpec, Spec, acl, flag};

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    Spec::new(
        "sort",
        -2,
        flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
        sort::sort,
    )
    .keys(KeySpec::Custom(sort::keys))
    .acl(acl::DANGEROUS)
    .doc(
        "1.0.0",
        "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
    ),
    Spec::new(
        "sort_ro",
        -2,
        flag::READONLY | flag::MOVABLE_KEYS,
        sort::sort_ro,
    )
    .keys(KeySpec::ONE)
    .acl(acl::DANGEROUS)
    .doc(
        "7.0.0",
        "Returns the sorted elements of a list, a set, or a sorted set.",
    ),
];
