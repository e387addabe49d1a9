//! Sets against a model, and their encodings.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Model = BTreeSet<Vec<u8>>;

fn content(set: &Set) -> Model {
    set.iter().map(|member| member.to_vec()).collect()
}

fn small_limits() -> Limits {
    Limits {
        set_intset_entries_max: 10,
        set_listpack_entries_max: 6,
        set_listpack_value_bytes_max: 8,
        ..Limits::default()
    }
}

fn set_of(members: &[&str], limits: &Limits) -> Set {
    let mut set = Set::new();
    let members: Vec<&[u8]> = members.iter().map(|member| member.as_bytes()).collect();
    set.prepare(&members, limits);
    members
        .iter()
        .for_each(|member| assert!(set.add(member, limits)));
    set
}

#[test]
fn encodings_change_at_the_thresholds() {
    let limits = Limits::default();
    let mut set = Set::new();
    (0..512).for_each(|n| assert!(set.add(n.to_string().as_bytes(), &limits)));
    assert_eq!(set.encoding(), "intset");
    assert!(set.add(b"512", &limits));
    assert_eq!((set.encoding(), set.len()), ("hashtable", 513));

    let mut set = set_of(&["1", "2"], &limits);
    assert!(set.add(b"x", &limits));
    assert_eq!(set.encoding(), "listpack");
    (3..128).for_each(|n| assert!(set.add(n.to_string().as_bytes(), &limits)));
    assert_eq!((set.encoding(), set.len()), ("listpack", 128));
    assert!(set.add(b"y", &limits));
    assert_eq!(set.encoding(), "hashtable");

    let mut set = set_of(&["1"], &limits);
    assert!(set.add(&[b'x'; 65], &limits));
    assert_eq!(set.encoding(), "hashtable");
    // More integers than a listpack takes go straight to a table with the first text.
    let mut set = Set::new();
    (0..128).for_each(|n| assert!(set.add(n.to_string().as_bytes(), &limits)));
    assert!(set.add(b"x", &limits));
    assert_eq!(set.encoding(), "hashtable");
}

#[test]
fn prepare_chooses_by_first_member_and_number() {
    let limits = small_limits();
    let encoding = |members: &[&[u8]]| {
        let mut set = Set::new();
        set.prepare(members, &limits);
        set.encoding()
    };
    assert_eq!(encoding(&[b"1"]), "intset");
    assert_eq!(encoding(&[b"x"]), "listpack");
    assert_eq!(encoding(&[b"1".as_slice(); 10]), "intset");
    assert_eq!(encoding(&[b"1".as_slice(); 11]), "hashtable");
    assert_eq!(encoding(&[b"x".as_slice(); 7]), "hashtable");
    let mut set = set_of(&["a"], &limits);
    set.prepare(&[b"x".as_slice(); 7], &limits);
    assert_eq!((set.encoding(), set.len()), ("hashtable", 1));
}

#[test]
fn an_intersection_of_integers_is_an_intset_again() {
    let limits = small_limits();
    let a = set_of(&["1", "2", "3", "x"], &limits);
    let b = set_of(&["2", "3", "y"], &limits);
    let result = intersection(&mut [&a, &b], &limits);
    assert_eq!((result.encoding(), content(&result).len()), ("intset", 2));
    let c = set_of(&["x", "2"], &limits);
    assert_eq!(intersection(&mut [&a, &c], &limits).encoding(), "listpack");
    assert_eq!(intersection(&mut [&a, &a], &limits).len(), 4);
    assert_eq!(difference(&[Some(&a), None, Some(&a)], &limits).len(), 0);
    assert_eq!(difference(&[None, Some(&a)], &limits).len(), 0);
}

#[test]
fn bad_input_is_refused() {
    let limits = Limits::default();
    assert!(Set::from_members(["a", "a"].into_iter(), &limits).is_none());
    assert!(Set::from_members([""; 0].into_iter(), &limits).is_none());
    assert!(Set::from_listpack(ListPack::new(), &limits).is_none());
    assert!(Set::from_intset(IntSet::new(), &limits).is_none());
}

/// Members of all kinds: short integers, words, and words too long for a listpack.
fn member() -> impl Strategy<Value = Vec<u8>> {
    "-?[1-3]?[0-9]|[a-c]{0,2}|long-member-[a-c]".prop_map(String::into_bytes)
}

fn built(members: &Model, limits: &Limits) -> Set {
    let mut set = Set::new();
    members
        .iter()
        .for_each(|member| assert!(set.add(member, limits)));
    set
}

proptest! {
    #[test]
    fn behaves_as_a_set(steps in prop::collection::vec((0..3_u8, member()), 0..80)) {
        let limits = small_limits();
        let (mut set, mut model) = (Set::new(), Model::new());
        for (kind, member) in steps {
            if kind == 0 {
                prop_assert_eq!(set.remove(&member), model.remove(&member));
            } else {
                prop_assert_eq!(set.add(&member, &limits), model.insert(member.clone()));
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.contains(&member), model.contains(&member));
        }
        prop_assert_eq!(content(&set), model.clone());
        let (mut scanned, mut cursor) = (Model::new(), 0);
        loop {
            cursor = set.scan(cursor, 2, |member| {
                scanned.insert(member.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(&scanned, &model);
        if let Some(again) = Set::from_members(model.iter(), &limits) {
            prop_assert_eq!(content(&again), model);
        }
    }

    #[test]
    fn random_members_are_members_and_taken_ones_are_gone(
        members in prop::collection::btree_set(member(), 1..30), count in 0..40_usize,
    ) {
        let limits = small_limits();
        let mut set = built(&members, &limits);
        let mut distinct = Vec::new();
        set.random_distinct(count, |member| distinct.push(member.to_vec()));
        prop_assert_eq!(distinct.len(), count.min(members.len()));
        let distinct: Model = distinct.into_iter().collect();
        prop_assert_eq!(distinct.len(), count.min(members.len()));
        prop_assert!(distinct.is_subset(&members));
        let mut repeated = 0;
        set.random_repeating(count as u64, |member| {
            assert!(members.contains(&member.to_vec()));
            repeated += 1;
            true
        });
        prop_assert_eq!(repeated, count);

        let taken = set.take_many_random(count, &limits);
        prop_assert_eq!(taken.len(), count.min(members.len()));
        let taken: Model = taken.into_iter().collect();
        let left = content(&set);
        prop_assert!(taken.is_disjoint(&left));
        prop_assert_eq!(taken.union(&left).cloned().collect::<Model>(), members);
    }

    #[test]
    fn algebra_agrees_with_the_model(
        all in prop::collection::vec(prop::collection::btree_set(member(), 0..20), 1..5),
    ) {
        let limits = small_limits();
        let sets: Vec<Set> = all.iter().map(|members| built(members, &limits)).collect();
        let options: Vec<Option<&Set>> = sets.iter().map(Some).collect();
        let mut references: Vec<&Set> = sets.iter().collect();
        let fold = |combine: fn(&Model, &Model) -> Model| {
            all.iter().skip(1).fold(all[0].clone(), |so_far, next| combine(&so_far, next))
        };
        prop_assert_eq!(content(&union(&options, &limits)), fold(|a, b| a | b));
        prop_assert_eq!(content(&difference(&options, &limits)), fold(|a, b| a - b));
        prop_assert_eq!(content(&intersection(&mut references, &limits)), fold(|a, b| a & b));
    }
}
