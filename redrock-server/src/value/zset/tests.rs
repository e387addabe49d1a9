use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn limits(entries: usize, bytes: usize) -> Limits {
    Limits {
        zset_listpack_entries_max: entries,
        zset_listpack_value_bytes_max: bytes,
        ..Limits::default()
    }
}

fn sorted(model: &BTreeMap<Vec<u8>, f64>) -> Vec<(Vec<u8>, f64)> {
    let mut all: Vec<_> = model.iter().map(|(m, s)| (m.clone(), *s)).collect();
    all.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then_with(|| a.0.cmp(&b.0)));
    all
}

fn owned(elements: Elements<'_>) -> Vec<(Vec<u8>, f64)> {
    elements
        .map(|(member, score)| (member.to_vec(), score))
        .collect()
}

fn scan_all(set: &ZSet, count: usize) -> BTreeSet<Vec<u8>> {
    let (mut seen, mut cursor) = (BTreeSet::new(), 0);
    loop {
        cursor = set.scan(cursor, count, |member, _| {
            assert!(seen.insert(member.to_vec()))
        });
        if cursor == 0 {
            return seen;
        }
    }
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (0u32..300).prop_map(|n| n.to_string().into_bytes()),
        2 => (0u32..100).prop_map(|n| format!("member:{n}").into_bytes()),
        1 => (0u32..20).prop_map(|n| format!("a member too long for its slot {n}").into_bytes()),
        1 => Just(Vec::new()),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (-20i32..20).prop_map(f64::from),
        2 => -1e6f64..1e6,
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e300), Just(-0.0)],
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Add(Vec<u8>, f64, u8),
    Remove(Vec<u8>),
    RemoveRanks(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (member(), score(), any::<u8>()).prop_map(|(m, s, r)| Op::Add(m, s, r)),
        4 => member().prop_map(Op::Remove),
        1 => (0usize..400, 0usize..12).prop_map(|(a, n)| Op::RemoveRanks(a, n)),
    ]
}

fn rule(bits: u8) -> AddRule {
    AddRule {
        increment: bits & 0b11 == 3,
        only_new: bits >> 2 & 7 == 7,
        only_present: bits >> 2 & 7 == 6,
        only_greater: bits >> 5 == 7,
        only_less: bits >> 5 == 6,
    }
}

/// What Redis's documentation says of ZADD.
fn add_to_model(
    model: &mut BTreeMap<Vec<u8>, f64>,
    member: &[u8],
    score: f64,
    rule: AddRule,
) -> Added {
    let Some(present) = model.get(member).copied() else {
        if rule.only_present {
            return Added::Refused;
        }
        model.insert(member.to_vec(), score);
        return Added::New(score);
    };
    let new = if rule.increment {
        present + score
    } else {
        score
    };
    match () {
        () if rule.only_new => Added::Refused,
        () if new.is_nan() => Added::NotANumber,
        () if rule.only_greater && new <= present => Added::Refused,
        () if rule.only_less && new >= present => Added::Refused,
        () if new == present => Added::Same(new),
        () => {
            model.insert(member.to_vec(), new);
            Added::Updated(new)
        }
    }
}

fn compare_all(set: &ZSet, model: &BTreeMap<Vec<u8>, f64>) {
    let all = sorted(model);
    assert_eq!(set.len(), all.len());
    assert_eq!(owned(set.iter()), all);
    for (rank, (member, score)) in all.iter().enumerate() {
        assert_eq!(set.rank(member), Some((rank, *score)));
        assert_eq!(set.score(member), Some(*score));
    }
    assert_eq!(set.score(b"not there"), None);
    assert_eq!(set.rank(b"not there"), None);
    let reversed = owned(set.range(3..all.len(), true));
    assert!(reversed.iter().eq(all.iter().skip(3).rev()));
    assert_eq!(scan_all(set, 7), model.keys().cloned().collect());
}

fn compare_ranges(
    set: &ZSet,
    model: &BTreeMap<Vec<u8>, f64>,
    bounds: (f64, f64),
    open: (bool, bool),
) {
    let mark = |open| if open { "(" } else { "" };
    let (min, max) = (
        format!("{}{}", mark(open.0), bounds.0),
        format!("{}{}", mark(open.1), bounds.1),
    );
    let range = ScoreRange::parse(min.as_bytes(), max.as_bytes()).unwrap();
    let expected: Vec<_> = sorted(model)
        .into_iter()
        .filter(|(_, s)| {
            if open.0 {
                *s > bounds.0
            } else {
                *s >= bounds.0
            }
        })
        .filter(|(_, s)| {
            if open.1 {
                *s < bounds.1
            } else {
                *s <= bounds.1
            }
        })
        .collect();
    assert_eq!(
        owned(set.range(set.ranks_by_score(&range), false)),
        expected,
        "{min} {max}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn behaves_as_a_sorted_map_through_both_forms(
        ops in prop::collection::vec(op(), 1..500),
        entries in prop_oneof![Just(0usize), Just(16), Just(100), Just(10_000)],
        bytes in prop_oneof![Just(8usize), Just(64)],
        bounds in (score(), score()),
        open in (any::<bool>(), any::<bool>()),
    ) {
        let limits = limits(entries, bytes);
        let mut set = ZSet::new();
        let mut model = BTreeMap::new();
        let mut grown = false;
        for op in ops {
            match op {
                Op::Add(member, score, bits) => {
                    let rule = rule(bits);
                    let expected = add_to_model(&mut model, &member, score, rule);
                    prop_assert_eq!(set.add(score, &member, rule, &limits), expected);
                    if matches!(expected, Added::New(_)) {
                        grown |= model.len() > entries || member.len() > bytes;
                    }
                }
                Op::Remove(member) => {
                    prop_assert_eq!(set.remove(&member), model.remove(&member).is_some());
                }
                Op::RemoveRanks(start, count) => {
                    for (member, _) in sorted(&model).iter().skip(start).take(count) {
                        model.remove(member);
                    }
                    set.remove_ranks(start..start + count);
                }
            }
            prop_assert_eq!(set.encoding(), if grown { "skiplist" } else { "listpack" });
        }
        compare_all(&set, &model);
        compare_ranges(&set, &model, bounds, open);
        let copy = set.clone();
        set.remove_ranks(0..usize::MAX);
        prop_assert_eq!(set.len(), 0);
        compare_all(&copy, &model);
    }

    #[test]
    fn lex_ranges_select_what_lies_between(
        members in prop::collection::btree_set(member(), 1..200),
        min in member(), max in member(), open in (any::<bool>(), any::<bool>()), big: bool,
    ) {
        let set = ZSet::from_sorted(
            members.iter().map(|m| (LpValue::Str(m), 0.0)),
            &limits(if big { 0 } else { 1000 }, 64),
        );
        let mark = |open, m: &[u8]| [if open { b"(" } else { b"[" }, m].concat();
        let (low, high) = (mark(open.0, &min), mark(open.1, &max));
        let range = LexRange::parse(&low, &high).unwrap();
        let expected: Vec<_> = members
            .iter()
            .filter(|m| if open.0 { **m > min } else { **m >= min })
            .filter(|m| if open.1 { **m < max } else { **m <= max })
            .map(|m| (m.clone(), 0.0))
            .collect();
        prop_assert_eq!(owned(set.range(set.ranks_by_lex(&range), false)), expected);
        let whole = LexRange::parse(b"-", b"+").unwrap();
        prop_assert_eq!(set.ranks_by_lex(&whole), 0..members.len());
        let nothing = LexRange::parse(b"+", b"-").unwrap();
        prop_assert!(set.ranks_by_lex(&nothing).is_empty());
    }

    #[test]
    fn survives_encoding_and_files_of_any_order(
        model in prop::collection::btree_map(member(), score(), 1..300),
        seed: u64, entries in prop_oneof![Just(0usize), Just(1000)],
    ) {
        let limits = limits(entries, 64);
        let mut shuffled: Vec<_> = model.iter().map(|(m, s)| (m.clone(), *s)).collect();
        shuffled.sort_by_key(|(m, _)| m.iter().fold(seed, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)));
        let set = ZSet::from_elements(&mut shuffled, &limits).unwrap();
        compare_all(&set, &model);
        let mut bytes = Vec::new();
        if set.encode(&mut bytes) == 17 {
            let Repr::Pack(pack) = &set.0 else { panic!("type 17 is the listpack") };
            prop_assert!(bytes.ends_with(pack.as_bytes()));
            let again = ZSet::from_pack(pack.clone(), &limits).unwrap();
            compare_all(&again, &model);
            prop_assert_eq!(again.encoding(), "listpack");
            let grown = ZSet::from_pack(pack.clone(), &self::limits(0, 64)).unwrap();
            compare_all(&grown, &model);
            prop_assert_eq!(grown.encoding(), "skiplist");
        } else {
            let scores = sorted(&model);
            let last = scores.first().map(|(_, s)| s.to_le_bytes()).unwrap();
            prop_assert!(bytes.ends_with(&last), "the smallest score comes last");
        }
    }
}

#[test]
fn broken_files_are_refused() {
    let limits = limits(128, 64);
    let pack = |values: &[&[u8]]| {
        let mut pack = ListPack::new();
        values.iter().for_each(|v| {
            pack.push_back(v);
        });
        pack
    };
    let refused = |values: &[&[u8]]| ZSet::from_pack(pack(values), &limits).err();
    assert_eq!(refused(&[b"a"]), Some(InvalidZSet::MissingScore));
    assert_eq!(refused(&[b"a", b"x"]), Some(InvalidZSet::BadScore));
    assert_eq!(refused(&[b"a", b"nan"]), Some(InvalidZSet::BadScore));
    assert_eq!(
        refused(&[b"a", b"1", b"b", b"2", b"a", b"3"]),
        Some(InvalidZSet::Duplicate)
    );
    assert_eq!(refused(&[]), Some(InvalidZSet::Empty));
    let set = ZSet::from_pack(pack(&[b"b", b"2", b"a", b"1.0"]), &limits).unwrap();
    assert_eq!(
        owned(set.iter()),
        [(b"a".to_vec(), 1.0), (b"b".to_vec(), 2.0)]
    );
}

#[test]
fn a_million_changes_keep_a_large_set_in_order_and_its_memory_small() {
    let limits = Limits::default();
    let mut set = ZSet::new();
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for n in 0..200_000u64 {
        set.add(
            (random() % 50_000) as f64,
            format!("m:{n}").as_bytes(),
            AddRule::default(),
            &limits,
        );
    }
    let full = set.memory_bytes();
    assert!(full < 200_000 * 64, "{} bytes an element", full / 200_000);
    let increment = AddRule {
        increment: true,
        ..AddRule::default()
    };
    for _ in 0..200_000 {
        let member = format!("m:{}", random() % 200_000);
        set.add(
            (random() % 100) as f64 - 50.0,
            member.as_bytes(),
            increment,
            &limits,
        );
    }
    assert_eq!(set.len(), 200_000);
    let order = owned(set.iter());
    assert!(order.is_sorted_by(|a, b| (a.1, &a.0) < (b.1, &b.0)));
    for at in [0, 1, 77, 100_000, 199_999] {
        assert_eq!(set.rank(&order[at].0), Some((at, order[at].1)));
    }
    set.remove_ranks(1000..199_000);
    assert_eq!(set.len(), 2000);
    assert!(
        set.memory_bytes() < full / 20,
        "{} of {full}",
        set.memory_bytes()
    );
    let left: Vec<_> = order[..1000]
        .iter()
        .chain(&order[199_000..])
        .cloned()
        .collect();
    assert_eq!(owned(set.iter()), left);
}
