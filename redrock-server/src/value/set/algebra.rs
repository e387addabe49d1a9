//! Intersection, union and difference, with Redis's algorithms and result encodings.

use super::{Limits, Repr, Set};
use redrock_rdb::listpack::{ListPack, LpValue};

fn same(a: &Set, b: &Set) -> bool {
    std::ptr::eq(a, b)
}

/// Orders the sets from the smallest to the largest and visits the members of the first that all
/// others have too, until `visit` is false. O(size of the smallest × number of sets).
pub fn intersect<'a>(sets: &mut [&'a Set], mut visit: impl FnMut(LpValue<'a>) -> bool) {
    sets.sort_by_key(|set| set.len());
    let Some((&first, others)) = sets.split_first() else {
        return;
    };
    for member in first.iter() {
        let everywhere = others
            .iter()
            .all(|other| same(other, first) || other.contains_value(member));
        if everywhere && !visit(member) {
            return;
        }
    }
}

/// The intersection as a set, maybe empty; at least one set is expected.
pub fn intersection(sets: &mut [&Set], limits: &Limits) -> Set {
    let smallest_is_ints = sets
        .iter()
        .min_by_key(|set| set.len())
        .is_some_and(|smallest| matches!(smallest.repr, Repr::Ints(_)));
    let mut result = Set::new();
    if !smallest_is_ints {
        result.repr = Repr::Pack(ListPack::new());
    }
    let mut integers = true;
    intersect(sets, |member| {
        integers = integers && member.as_int().is_some();
        result.add_value(member, limits);
        true
    });
    if integers && result.len() > 0 {
        result.convert_to_intset(limits);
    }
    result
}

/// The union; a missing set is an empty one. O(sum of the sizes).
pub fn union(sets: &[Option<&Set>], limits: &Limits) -> Set {
    let mut result = Set::new();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        result.add_value(member, limits);
    }
    result
}

/// What the first set has and no other has; a missing set is an empty one. The cheaper of two
/// ways: asking all others for each member of the first, or removing all members of the others.
pub fn difference(sets: &[Option<&Set>], limits: &Limits) -> Set {
    let mut result = Set::new();
    let Some((Some(first), others)) = sets.split_first() else {
        return result;
    };
    let mut others: Vec<&Set> = others.iter().copied().flatten().collect();
    if others.iter().any(|other| same(other, first)) {
        return result;
    }
    let asking = first.len() * (others.len() + 1) / 2;
    let removing = first.len() + others.iter().map(|other| other.len()).sum::<usize>();
    if asking <= removing {
        // The largest first: the sooner a member is found, the fewer sets are asked.
        others.sort_by_key(|other| std::cmp::Reverse(other.len()));
        for member in first.iter() {
            if !others.iter().any(|other| other.contains_value(member)) {
                result.add_value(member, limits);
            }
        }
        return result;
    }
    for member in first.iter() {
        result.add_value(member, limits);
    }
    for other in others {
        for member in other.iter() {
            result.remove_value(member);
        }
        if result.len() == 0 {
            break;
        }
    }
    result
}
