//! Tests of the tree against a vector.

use super::*;
use proptest::prelude::*;

fn check(node: &Node, root: bool) -> (usize, usize) {
    match node {
        Node::Leaf(leaf) => {
            assert!(root || leaf.len() > 0);
            (1, leaf.len())
        }
        Node::Inner(children) => {
            assert!(children.len() <= INNER_MAX && children.len() > usize::from(root));
            let mut depths = Vec::new();
            let mut total = 0;
            for child in children {
                let (depth, count) = check(&child.node, false);
                let mut fresh = child.clone();
                fresh.refresh();
                assert_eq!((fresh.score, fresh.id), (child.score, child.id));
                assert_eq!(count, child.count as usize);
                depths.push(depth);
                total += count;
            }
            depths.dedup();
            assert_eq!(depths.len(), 1);
            (depths[0] + 1, total)
        }
    }
}

fn same(tree: &Tree, model: &[(f64, u32)]) {
    assert_eq!(check(&tree.root, true).1, model.len());
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.iter(0, false).collect::<Vec<_>>(), model);
    let backwards: Vec<_> = tree.iter(model.len().wrapping_sub(1), true).collect();
    assert!(backwards.iter().eq(model.iter().rev()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_as_a_vector(
        start in 0usize..6000,
        ops in prop::collection::vec((0u8..10, any::<u32>()), 0..3000),
        removals in 0u8..10,
    ) {
        let mut tree = Tree::new();
        let mut model = Vec::new();
        for n in 0..start {
            tree.insert(n, n as f64, n as u32);
            model.push((n as f64, n as u32));
        }
        for (kind, n) in ops {
            if kind >= removals || model.is_empty() {
                let rank = n as usize % (model.len() + 1);
                tree.insert(rank, f64::from(n), n);
                model.insert(rank, (f64::from(n), n));
            } else {
                let rank = n as usize % model.len();
                prop_assert_eq!(tree.remove(rank), Some(model.remove(rank)));
            }
        }
        if !model.is_empty() {
            let rank = model.len() / 3;
            tree.set_score(rank, -1.5);
            model[rank].0 = -1.5;
            let from: Vec<_> = tree.iter(rank, false).take(100).collect();
            prop_assert_eq!(&from[..], &model[rank..model.len().min(rank + 100)]);
        }
        same(&tree, &model);
    }
}

#[test]
fn partition_counts_the_elements_before_and_emptying_works_from_both_ends() {
    let mut tree = Tree::new();
    for n in 0..20_000u32 {
        tree.insert(n as usize, f64::from(n / 3), n);
    }
    for n in [0, 1, 63, 64, 3000, 6665, 6666, 6667] {
        let expected = (0..20_000).filter(|k| k / 3 < n).count();
        assert_eq!(tree.partition(|score, _| score < f64::from(n)), expected);
    }
    for n in 0..10_000u32 {
        assert_eq!(tree.remove(0).map(|e| e.1), Some(n));
        assert_eq!(tree.remove(tree.len() - 1).map(|e| e.1), Some(19_999 - n));
    }
    same(&tree, &[]);
    assert_eq!(tree.remove(0), None);
}
