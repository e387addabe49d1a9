//! Sorting as Redis does it, so that what compares equal comes in the same order: all with the C
//! library's merge sort, the first few with a quicksort that leaves the rest as it falls.
//!
//! Distances may be NaN, so that the order need not be a total one: the standard library's sort
//! may panic on that, these do not.

use std::cmp::Ordering;

/// Compares as Redis's callbacks: what is neither greater nor equal is less.
fn compare(a: f64, b: f64) -> Ordering {
    if a > b {
        Ordering::Greater
    } else if a == b {
        Ordering::Equal
    } else {
        Ordering::Less
    }
}

/// Sorts by a key, ascending or descending, so that the first `wanted` elements are right.
pub fn sort_first<T: Copy>(
    items: &mut [T],
    wanted: usize,
    descending: bool,
    key: impl Fn(&T) -> f64,
) {
    let by_key = |a: &T, b: &T| {
        let ordering = compare(key(a), key(b));
        if descending {
            ordering.reverse()
        } else {
            ordering
        }
    };
    if wanted >= items.len() {
        merge_sort(items, &by_key);
    } else if let Some(last) = wanted.checked_sub(1) {
        quick_sort_until(items, last, &by_key);
    }
}

fn merge_sort<T: Copy>(items: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) {
    if items.len() < 2 {
        return;
    }
    let middle = items.len() / 2;
    let (left, right) = items.split_at_mut(middle);
    merge_sort(left, compare);
    merge_sort(right, compare);
    let left = left.to_vec();
    let (mut from, mut to, mut next) = (0, 0, middle);
    while let Some(first) = left.get(from) {
        let Some(second) = items.get(next).copied() else {
            break;
        };
        if compare(first, &second) == Ordering::Greater {
            items[to] = second;
            next += 1;
        } else {
            items[to] = *first;
            from += 1;
        }
        to += 1;
    }
    // What is left of the right side is in its place.
    for (slot, item) in items.iter_mut().skip(to).zip(left.iter().skip(from)) {
        *slot = *item;
    }
}

/// Bentley and McIlroy, "Engineering a sort function", of the parts that reach up to `last`.
fn quick_sort_until<T: Copy>(items: &mut [T], last: usize, compare: &impl Fn(&T, &T) -> Ordering) {
    let mut parts = vec![(0, items.len())];
    while let Some((start, end)) = parts.pop() {
        let Some(items) = items.get_mut(start..end) else {
            continue;
        };
        if items.len() < 7 {
            insertion_sort(items, compare);
            continue;
        }
        let (less, greater) = partition(items, compare);
        for (start, end) in [(start, start + less), (end - greater, end)] {
            if end - start > 1 && start <= last {
                parts.push((start, end));
            }
        }
    }
}

fn insertion_sort<T: Copy>(items: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) {
    for end in 1..items.len() {
        for at in (1..=end).rev() {
            if compare(&items[at - 1], &items[at]) != Ordering::Greater {
                break;
            }
            items.swap(at, at - 1);
        }
    }
}

/// Brings what is less to the front, what is greater to the end; their numbers. At least seven
/// items.
fn partition<T: Copy>(items: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) -> (usize, usize) {
    let count = items.len();
    items.swap(0, pivot(items, compare));
    // Up to `equal_low` and from behind `equal_high` on is what equals the pivot.
    let (mut equal_low, mut low) = (1, 1);
    let (mut equal_high, mut high) = (count - 1, count - 1);
    loop {
        while low <= high {
            match compare(&items[low], &items[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    items.swap(equal_low, low);
                    equal_low += 1;
                }
                Ordering::Less => {}
            }
            low += 1;
        }
        while low <= high {
            match compare(&items[high], &items[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    items.swap(high, equal_high);
                    equal_high -= 1;
                }
                Ordering::Greater => {}
            }
            high -= 1;
        }
        if low > high {
            break;
        }
        items.swap(low, high);
        low += 1;
        high -= 1;
    }
    let (less, greater) = (low - equal_low, equal_high - high);
    swap_blocks(items, 0, low, equal_low.min(less));
    swap_blocks(items, low, count, greater.min(count - equal_high - 1));
    (less, greater)
}

/// Swaps the `length` items from `at` on with those before `end`, in order.
fn swap_blocks<T>(items: &mut [T], at: usize, end: usize, length: usize) {
    for offset in 0..length {
        items.swap(at + offset, end - length + offset);
    }
}

fn pivot<T>(items: &[T], compare: &impl Fn(&T, &T) -> Ordering) -> usize {
    let count = items.len();
    let middle = count / 2;
    let (mut low, mut mid, mut high) = (0, middle, count - 1);
    if count == 7 {
        return mid;
    }
    let median = |a, b, c| median_of_three(items, [a, b, c], compare);
    if count > 40 {
        let d = count / 8;
        low = median(low, low + d, low + 2 * d);
        mid = median(mid - d, mid, mid + d);
        high = median(high - 2 * d, high - d, high);
    }
    median(low, mid, high)
}

fn median_of_three<T>(
    items: &[T],
    [a, b, c]: [usize; 3],
    compare: &impl Fn(&T, &T) -> Ordering,
) -> usize {
    let compare = |x: usize, y: usize| compare(&items[x], &items[y]);
    if compare(a, b) == Ordering::Less {
        if compare(b, c) == Ordering::Less {
            b
        } else if compare(a, c) == Ordering::Less {
            c
        } else {
            a
        }
    } else if compare(b, c) == Ordering::Greater {
        b
    } else if compare(a, c) == Ordering::Less {
        a
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_elements_are_the_least(
            keys in prop::collection::vec(0u8..30, 0..200),
            wanted in 0usize..220,
            descending: bool,
        ) {
            let mut items: Vec<(u8, usize)> = keys.iter().copied().zip(0..).collect();
            sort_first(&mut items, wanted, descending, |item| item.0.into());
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            if descending {
                sorted.reverse();
            }
            let first: Vec<u8> = items.iter().take(wanted).map(|item| item.0).collect();
            sorted.truncate(wanted);
            prop_assert_eq!(first, sorted);
            // Nothing is lost.
            items.sort_by_key(|item| item.1);
            let all: Vec<u8> = items.iter().map(|item| item.0).collect();
            prop_assert_eq!(all, keys);
        }

        #[test]
        fn whatever_can_not_be_compared_is_kept(
            keys in prop::collection::vec(prop::sample::select(vec![1.0, 2.0, f64::NAN]), 0..100),
            wanted in 0usize..110,
        ) {
            let mut items = keys.clone();
            sort_first(&mut items, wanted, false, |key| *key);
            let count = |items: &[f64]| items.iter().filter(|key| key.is_nan()).count();
            prop_assert_eq!(count(&items), count(&keys));
            prop_assert_eq!(items.len(), keys.len());
        }
    }
}
