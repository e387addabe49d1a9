//! Random choice among elements.

use rand::random_range;

/// Visits `count` of `total` items, each combination of them with the same probability, in the
/// items' order and in one pass. Without effect on items beyond `total`.
pub fn select<T>(
    items: impl Iterator<Item = T>,
    total: usize,
    count: usize,
    mut visit: impl FnMut(T),
) {
    let mut wanted = count.min(total);
    for (at, item) in items.take(total).enumerate() {
        if wanted == 0 {
            return;
        }
        // `total - at` items are left, and `wanted` of them are to be chosen.
        if random_range(0..total - at) < wanted {
            wanted -= 1;
            visit(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_as_asked_are_selected_in_order_and_evenly() {
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let mut chosen = Vec::new();
            select(0..10_usize, 10, 3, |n| chosen.push(n));
            assert_eq!(chosen.len(), 3);
            assert!(chosen.is_sorted());
            chosen.iter().for_each(|&n| seen[n] += 1);
        }
        // 3000 expected each, standard deviation 46: seven of them either way.
        assert!(
            seen.iter().all(|count| (2680..3320).contains(count)),
            "{seen:?}"
        );
        let mut chosen = 0;
        select(0..4, 4, 9, |_| chosen += 1);
        assert_eq!(chosen, 4);
    }
}
