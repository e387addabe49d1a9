//! A list behaves as a deque of strings, whatever the limits; encodings follow Redis's rules.

use super::*;
use proptest::prelude::*;
use redrock_rdb::object;
use std::collections::VecDeque;

type Model = VecDeque<Vec<u8>>;

#[derive(Debug, Clone)]
enum Op {
    Push(End, Vec<Vec<u8>>),
    Pop(End),
    Set(i64, Vec<u8>),
    Insert(Vec<u8>, bool, Vec<u8>),
    RemoveRange(usize, usize),
    RemoveMatching(Vec<u8>, End, usize),
    Shrink,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Head), Just(End::Tail)]
}

/// Few distinct texts, so that searches hit; integers, short and long strings.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (-3i64..200_000).prop_map(|n| n.to_string().into_bytes()),
        4 => (0u8..6).prop_map(|n| vec![b'a' + n; 3]),
        2 => (0usize..6).prop_map(|n| vec![b'L'; n * 37]),
        1 => (2000usize..5000).prop_map(|n| vec![b'H'; n]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (end(), prop::collection::vec(text(), 1..8)).prop_map(|(e, v)| Op::Push(e, v)),
        2 => end().prop_map(Op::Pop),
        3 => (-60i64..60, text()).prop_map(|(i, v)| Op::Set(i, v)),
        4 => (text(), any::<bool>(), text()).prop_map(|(p, a, v)| Op::Insert(p, a, v)),
        1 => (0usize..40, 0usize..12).prop_map(|(s, c)| Op::RemoveRange(s, c)),
        2 => (text(), end(), 1usize..4).prop_map(|(v, e, m)| Op::RemoveMatching(v, e, m)),
        1 => Just(Op::Shrink),
    ]
}

fn apply_to_model(model: &mut Model, op: &Op) {
    match op {
        Op::Push(End::Head, values) => values.iter().for_each(|v| model.push_front(v.clone())),
        Op::Push(End::Tail, values) => model.extend(values.iter().cloned()),
        Op::Pop(End::Head) => drop(model.pop_front()),
        Op::Pop(End::Tail) => drop(model.pop_back()),
        Op::Set(index, value) => {
            let at = if *index < 0 {
                index + model.len() as i64
            } else {
                *index
            };
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| model.get_mut(at)) {
                slot.clone_from(value);
            }
        }
        Op::Insert(pivot, after, value) => {
            if let Some(at) = model.iter().position(|v| v == pivot) {
                model.insert(at + usize::from(*after), value.clone());
            }
        }
        Op::RemoveRange(start, count) => {
            let start = (*start).min(model.len());
            model.drain(start..(start + count).min(model.len()));
        }
        Op::RemoveMatching(value, from, max) => {
            for _ in 0..*max {
                let at = match from {
                    End::Head => model.iter().position(|v| v == value),
                    End::Tail => model.iter().rposition(|v| v == value),
                };
                if let Some(at) = at {
                    model.remove(at);
                }
            }
        }
        Op::Shrink => {}
    }
}

fn apply(list: &mut List, op: &Op, fill: Fill) {
    match op {
        Op::Push(end, values) => {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            list.push_within(*end, &values, fill);
        }
        Op::Pop(end) => list.remove_end(*end),
        Op::Set(index, value) => {
            list.set_within(*index, value, fill);
        }
        Op::Insert(pivot, after, value) => {
            list.insert_within(pivot, *after, value, fill);
        }
        Op::RemoveRange(start, count) => list.remove_range(*start, *count),
        Op::RemoveMatching(value, from, max) => {
            list.remove_matching(value, *from, *max);
        }
        Op::Shrink => list.settle(fill, true),
    }
}

fn assert_same(list: &List, model: &Model) {
    if let Repr::Quick(quick) = &list.repr {
        quick.check();
    }
    assert_eq!(list.len(), model.len());
    let forward: Vec<Vec<u8>> = list.iter().map(|v| v.to_vec()).collect();
    assert!(forward.iter().eq(model.iter()), "forward");
    assert!(
        list.items(End::Tail, 0)
            .map(|v| v.to_vec())
            .eq(model.iter().rev().cloned())
    );
    for skip in [1, 2, 7, model.len() / 2, model.len()] {
        assert!(
            list.items(End::Head, skip)
                .map(|v| v.to_vec())
                .eq(model.iter().skip(skip).cloned())
        );
        assert!(
            list.items(End::Tail, skip).map(|v| v.to_vec()).eq(model
                .iter()
                .rev()
                .skip(skip)
                .cloned())
        );
    }
    for index in -(model.len() as i64) - 1..=model.len() as i64 {
        let at = if index < 0 {
            index + model.len() as i64
        } else {
            index
        };
        let expected = usize::try_from(at)
            .ok()
            .and_then(|at| model.get(at))
            .cloned();
        assert_eq!(
            list.get(index).map(|v| v.to_vec()),
            expected,
            "index {index}"
        );
    }
    assert_eq!(
        list.end(End::Head).map(|v| v.to_vec()),
        model.front().cloned()
    );
    assert_eq!(
        list.end(End::Tail).map(|v| v.to_vec()),
        model.back().cloned()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_deque(
        ops in prop::collection::vec(op(), 1..60),
        size in prop::sample::select(vec![-1i64, -2, -9, 0, 1, 2, 5, 128]),
        plain in prop::sample::select(vec![30usize, 150, 1 << 30]),
    ) {
        let fill = Fill::with_plain(size, plain);
        let (mut list, mut model) = (List::new(), Model::new());
        for op in &ops {
            apply(&mut list, op, fill);
            apply_to_model(&mut model, op);
            assert_same(&list, &model);
        }
        if !model.is_empty() {
            assert_same(&reread(&list), &model);
        }
    }
}

/// Encodes a list and reads it back.
fn reread(list: &List) -> List {
    let mut payload = Vec::new();
    let object_type = list.encode(&mut payload);
    match object::decode(object_type, &payload) {
        Ok(object::Object::List(nodes)) => List::from_rdb(nodes, &Limits::default()),
        other => panic!("no list: {other:?}"),
    }
}

fn push_numbers(list: &mut List, count: usize, fill: Fill) {
    for n in 0..count {
        list.push_within(End::Tail, &[n.to_string().as_bytes()], fill);
    }
}

#[test]
fn converts_to_quicklist_beyond_the_entry_limit_and_back_at_half() {
    let fill = Fill::with_plain(10, 1 << 30);
    let mut list = List::new();
    push_numbers(&mut list, 10, fill);
    assert_eq!(list.encoding(), "listpack");
    push_numbers(&mut list, 1, fill);
    assert_eq!((list.encoding(), list.node_count()), ("quicklist", Some(2)));
    list.remove_end(End::Tail);
    list.settle(fill, true);
    assert_eq!((list.encoding(), list.node_count()), ("quicklist", Some(1)));
    list.remove_range(0, 4);
    list.settle(fill, true);
    assert_eq!((list.len(), list.encoding()), (6, "quicklist"));
    list.remove_end(End::Head);
    list.settle(fill, true);
    assert_eq!((list.len(), list.encoding()), (5, "listpack"));
}

#[test]
fn converts_to_quicklist_beyond_the_byte_limit() {
    let fill = Fill::with_plain(-1, 1 << 30);
    let mut list = List::new();
    list.push_within(End::Tail, &[&[b'x'; 4000]], fill);
    assert_eq!(list.encoding(), "listpack");
    list.push_within(End::Tail, &[&[b'y'; 100]], fill);
    assert_eq!((list.encoding(), list.node_count()), ("quicklist", Some(2)));
}

#[test]
fn huge_elements_are_plain_nodes_and_keep_the_list_a_quicklist() {
    let fill = Fill::with_plain(2, 100);
    let mut list = List::new();
    push_numbers(&mut list, 4, fill);
    assert!(list.set_within(1, &[b'p'; 100], fill));
    assert_eq!(list.node_count(), Some(3));
    assert!(list.set_within(1, b"small again", fill));
    let all: Vec<Vec<u8>> = list.iter().map(|v| v.to_vec()).collect();
    assert_eq!(all, [&b"0"[..], b"small again", b"2", b"3"]);
}

#[test]
fn an_insert_into_a_full_node_splits_it_and_merges_what_fits() {
    let fill = Fill::with_plain(4, 1 << 30);
    let mut list = List::new();
    push_numbers(&mut list, 8, fill);
    assert_eq!(list.node_count(), Some(2));
    // [0 1 | x 2 3] [4 5 6 7]: nothing fits together.
    assert!(list.insert_within(b"1", true, b"x", fill));
    assert_eq!(list.node_count(), Some(3));
}

#[test]
fn positions_count_from_the_end_they_start_at() {
    let mut list = List::new();
    let values: [&[u8]; 5] = [b"a", b"1", b"a", b"b", b"a"];
    list.push(End::Tail, &values, &Limits::default());
    assert_eq!(
        list.positions(b"a", End::Head, usize::MAX)
            .collect::<Vec<_>>(),
        [0, 2, 4]
    );
    assert_eq!(
        list.positions(b"a", End::Tail, 3).collect::<Vec<_>>(),
        [0, 2]
    );
    assert_eq!(
        list.positions(b"1", End::Tail, usize::MAX)
            .collect::<Vec<_>>(),
        [3]
    );
}
