//! Streams against a model: a vector of entries, a map of pending ones, a trie of ids.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use redrock_rdb::object;
use std::collections::{BTreeMap, BTreeSet};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug, Clone)]
enum Step {
    Add {
        ms: u64,
        seq: u64,
        pairs: Pairs,
    },
    Delete(Vec<usize>),
    Trim {
        by_id: bool,
        at: usize,
        approximate: bool,
        limit: u64,
    },
    SpillAndLoad,
}

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        (0..300i64).prop_map(|n| n.to_string().into_bytes()),
        vec(any::<u8>(), 0..30),
    ]
}

fn pairs() -> impl Strategy<Value = Pairs> {
    let same = text().prop_map(|value| vec![(b"f".to_vec(), value)]);
    prop_oneof![3 => same, 1 => vec((text(), text()), 1..4)]
}

fn step() -> impl Strategy<Value = Step> {
    let add = (0..3u64, 0..4u64, pairs());
    let trim = (any::<bool>(), any::<usize>(), any::<bool>(), 0..8u64);
    prop_oneof![
        8 => add.prop_map(|(ms, seq, pairs)| Step::Add { ms, seq, pairs }),
        2 => vec(any::<usize>(), 1..4).prop_map(Step::Delete),
        1 => trim.prop_map(|(by_id, at, approximate, limit)| Step::Trim { by_id, at, approximate, limit }),
        1 => Just(Step::SpillAndLoad),
    ]
}

fn all(stream: &Stream) -> Vec<(StreamId, Pairs)> {
    let text = |value: redrock_rdb::listpack::LpValue<'_>| value.to_vec();
    let entries = stream.range(ID_MIN, ID_MAX);
    entries
        .map(|entry| {
            let pairs = entry.pairs().map(|(f, v)| (text(f), text(v))).collect();
            (entry.id, pairs)
        })
        .collect()
}

fn decoded(stream: &Stream) -> Stream {
    let mut payload = Vec::new();
    let kind = stream.encode(&mut payload);
    match object::decode(kind, &payload).expect("decode") {
        object::Object::Stream(object) => Stream::from_rdb(object),
        other => panic!("{other:?}"),
    }
}

/// Applies a step to both.
fn apply(stream: &mut Stream, model: &mut Vec<(StreamId, Pairs)>, step: &Step, limits: NodeLimits) {
    match step {
        Step::Add { ms, seq, pairs } => {
            let last = stream.meta().last_id;
            let wanted = id(last.ms + ms, if *ms == 0 { last.seq + seq } else { *seq });
            let Ok(new) = stream.new_id(NewId::Exact(wanted)) else {
                assert!(wanted <= last);
                return;
            };
            let words: Vec<&[u8]> = pairs.iter().flat_map(|(f, v)| [&f[..], &v[..]]).collect();
            stream.add(new, &words, limits).expect("add");
            model.push((new, pairs.clone()));
        }
        Step::Delete(at) => {
            let picked = at
                .iter()
                .filter_map(|at| Some(model.get(at % (model.len() + 1))?.0));
            let ids: Vec<_> = picked.collect();
            let gone: BTreeSet<_> = ids.iter().copied().collect();
            assert_eq!(stream.delete_all(&ids), gone.len() as u64);
            model.retain(|(id, _)| !gone.contains(id));
        }
        Step::Trim {
            by_id,
            at,
            approximate,
            limit,
        } => {
            let at = at % (model.len() + 2);
            let threshold = model.get(at).map_or(ID_MAX, |(id, _)| *id);
            let by = match by_id {
                true => TrimBy::MinId(threshold),
                false => TrimBy::MaxLen(model.len().saturating_sub(at) as u64),
            };
            let exact = at.min(model.len()) as u64;
            let trim = Trim {
                by,
                approximate: *approximate,
                limit: if *approximate { *limit } else { 0 },
            };
            let removed = stream.trim(&trim);
            assert!(removed <= exact && (trim.limit == 0 || removed <= trim.limit));
            assert!(*approximate || removed == exact);
            model.drain(..removed as usize);
        }
        Step::SpillAndLoad => *stream = decoded(stream),
    }
}

fn check(stream: &Stream, model: &[(StreamId, Pairs)]) {
    assert_eq!(all(stream), model);
    assert_eq!(stream.len(), model.len());
    let first = model.first().map_or(ID_MIN, |(id, _)| *id);
    let last = model.last().map_or(ID_MIN, |(id, _)| *id);
    assert_eq!(
        (stream.meta().first_id, stream.last_entry_id()),
        (first, last)
    );
    let sizes: usize = stream.nodes.values().map(|node| node.byte_len()).sum();
    assert_eq!(stream.node_bytes, sizes);
    assert_eq!(decoded(stream), *stream);
    let picks = model.iter().step_by(3).map(|(id, _)| *id);
    let ids: Vec<_> = picks.chain([ID_MIN, ID_MAX, id(2, 1)]).collect();
    for &start in &ids {
        for &end in &ids {
            let within = |id: StreamId| (start..=end).contains(&id);
            let expected: Vec<_> = model
                .iter()
                .map(|(id, _)| *id)
                .filter(|id| within(*id))
                .collect();
            let found: Vec<_> = stream.range(start, end).map(|entry| entry.id).collect();
            let mut reversed: Vec<_> = stream
                .range_reversed(start, end)
                .map(|entry| entry.id)
                .collect();
            reversed.reverse();
            assert_eq!(
                (&found, &reversed),
                (&expected, &expected),
                "{start:?} {end:?}"
            );
        }
    }
}

/// Nodes of a radix tree over the ids: of the trie, what is no inner link of a chain.
fn radix_nodes(stream: &Stream) -> usize {
    let mut children: BTreeMap<Vec<u8>, BTreeSet<u8>> = BTreeMap::new();
    for key in stream.nodes.keys().map(|id| id.to_bytes()) {
        for depth in 0..key.len() {
            children
                .entry(key[..depth].to_vec())
                .or_default()
                .insert(key[depth]);
        }
    }
    let is_chain = |prefix: &[u8]| children.get(prefix).is_some_and(|next| next.len() == 1);
    let starts = |prefix: &[u8]| {
        is_chain(prefix)
            && prefix
                .split_last()
                .is_none_or(|(_, parent)| !is_chain(parent))
    };
    let chains = children.keys().filter(|prefix| starts(prefix)).count();
    let branches = children.values().filter(|next| next.len() > 1).count();
    match stream.nodes.len() {
        0 => 1,
        leaves => chains + branches + leaves,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn entries_are_those_of_a_plain_vector(steps in vec(step(), 1..60), entries_max in 0..6usize, bytes_max in prop_oneof![Just(0), 20..300usize]) {
        let limits = NodeLimits { bytes_max, entries_max };
        let (mut stream, mut model) = (Stream::new(), Vec::new());
        for step in &steps {
            apply(&mut stream, &mut model, step, limits);
            check(&stream, &model);
        }
        prop_assert_eq!(stream.radix_node_count(), radix_nodes(&stream));
    }

    #[test]
    fn the_radix_tree_of_any_ids_has_as_many_nodes_as_redis_would_need(
        ids in vec((prop_oneof![0..3u64, any::<u64>()], prop_oneof![0..600u64, any::<u64>()]), 0..40),
        gone in vec(0..44usize, 0..40)
    ) {
        let mut stream = Stream::new();
        for (ms, seq) in &ids {
            stream.nodes.insert(id(*ms, *seq), Default::default());
            prop_assert_eq!(stream.radix_node_count(), radix_nodes(&stream));
        }
        for at in gone {
            let (ms, seq) = ids.get(at).copied().unwrap_or((at as u64, 0));
            stream.nodes.remove(&id(ms, seq));
            prop_assert_eq!(stream.radix_node_count(), radix_nodes(&stream));
        }
    }

    #[test]
    fn pending_entries_belong_to_one_consumer_each(
        steps in vec((0..4u8, 0..3u8, 1..12u64), 1..60)
    ) {
        let mut group = Group::new(ID_MIN, None);
        let mut owners: BTreeMap<StreamId, u8> = BTreeMap::new();
        let mut names: BTreeSet<u8> = BTreeSet::new();
        for (what, name, seq) in steps {
            let entry = id(1, seq);
            match what {
                0 | 1 => {
                    let found = group.find_consumer(&[name]);
                    let consumer = found.unwrap_or_else(|| group.create_consumer(&[name], 5));
                    names.insert(name);
                    let pending = Pending { delivery_time_ms: 7, delivery_count: 1, consumer };
                    group.assign(entry, pending);
                    owners.insert(entry, name);
                }
                2 => prop_assert_eq!(group.acknowledge(entry).is_some(), owners.remove(&entry).is_some()),
                _ => {
                    let had = owners.values().filter(|owner| **owner == name).count();
                    let expected = names.remove(&name).then_some(had);
                    prop_assert_eq!(group.remove_consumer(&[name]), expected);
                    owners.retain(|_, owner| *owner != name);
                }
            }
            let found: Vec<_> = group.pending_from(ID_MIN).map(|(id, p)| (id, group.name_of(p)[0])).collect();
            prop_assert_eq!(&found, &owners.iter().map(|(id, name)| (*id, *name)).collect::<Vec<_>>());
            prop_assert_eq!(group.consumer_count(), names.len());
            for consumer in group.consumers() {
                let own = owners.iter().filter(|(_, owner)| [**owner] == *consumer.name());
                let own: Vec<_> = own.map(|(id, _)| *id).collect();
                prop_assert_eq!(consumer.pending_from(ID_MIN).collect::<Vec<_>>(), own);
            }
        }
        let mut stream = Stream::new();
        stream.groups.insert(b"g"[..].into(), group);
        let mut again = Vec::new();
        decoded(&stream).encode(&mut again);
        let mut first = Vec::new();
        stream.encode(&mut first);
        prop_assert_eq!(first, again);
    }
}

const LIMITS: NodeLimits = NodeLimits {
    bytes_max: 4096,
    entries_max: 100,
};

#[test]
fn nodes_have_the_bytes_of_redis() {
    // What redis-server 7.0.15 has after XADD s 1-1 f v, XADD s 1-2 f 10, XADD s 2-0 g v.
    let mut stream = Stream::new();
    for (at, field, value) in [
        (id(1, 1), "f", "v"),
        (id(1, 2), "f", "10"),
        (id(2, 0), "g", "v"),
    ] {
        stream
            .add(at, &[field.as_bytes(), value.as_bytes()], LIMITS)
            .expect("add");
    }
    let node = stream.nodes.values().next().expect("a node");
    let elements: Vec<String> = node
        .iter()
        .map(|e| String::from_utf8(e.to_vec()).expect("text"))
        .collect();
    let expected = "3 0 1 f 0 2 0 0 v 4 2 0 1 10 4 0 1 -1 1 g v 6";
    assert_eq!(elements.join(" "), expected);
    assert_eq!((stream.node_count(), stream.radix_node_count()), (1, 2));
}

#[test]
fn ids_go_up_to_the_last_and_no_further() {
    let mut stream = Stream::new();
    assert_eq!(stream.new_id(NewId::NextOf(0)), Ok(id(0, 1)));
    assert_eq!(stream.new_id(NewId::Auto(5)), Ok(id(5, 0)));
    stream.set_meta(id(7, u64::MAX), None, None);
    assert_eq!(stream.new_id(NewId::Auto(5)), Ok(id(8, 0)));
    assert_eq!(stream.new_id(NewId::NextOf(7)), Err(AddError::NotAbove));
    assert_eq!(stream.new_id(NewId::NextOf(6)), Err(AddError::NotAbove));
    stream.set_meta(ID_MAX, None, None);
    assert_eq!(stream.new_id(NewId::Auto(5)), Err(AddError::NotAbove));
}

#[test]
fn a_group_knows_how_far_it_is_behind_unless_entries_are_missing_ahead() {
    let mut stream = Stream::new();
    for ms in 1..=5 {
        stream.add(id(ms, 0), &[b"f", b"v"], LIMITS).expect("add");
    }
    stream.create_group(b"g", ID_MIN, None);
    assert_eq!(stream.lag(ID_MIN, None), Some(5));
    assert_eq!(stream.lag(id(1, 0), None), Some(4));
    assert_eq!(stream.lag(id(3, 0), None), None);
    assert_eq!(stream.lag(id(3, 0), Some(3)), Some(2));
    let group = stream.group_mut(b"g").expect("group");
    let consumer = group.create_consumer(b"c", 1);
    let how = Delivery {
        group: b"g",
        consumer,
        count: 2,
        no_ack: false,
        now_ms: 9,
    };
    let mut seen = Vec::new();
    stream.deliver(&how, |entry, last_id| seen.push((entry.id, last_id)));
    assert_eq!(seen, [(id(1, 0), id(1, 0)), (id(2, 0), id(2, 0))]);
    let group = stream.group(b"g").expect("group");
    assert_eq!((group.entries_read, group.pending_count()), (Some(2), 2));
    stream.delete_all(&[id(4, 0)]);
    assert_eq!(stream.lag(id(2, 0), Some(2)), None);
    assert_eq!(stream.lag(id(5, 0), None), Some(0));
    assert_eq!(stream.meta().max_deleted_id, id(4, 0));
}

#[test]
fn what_claims_to_be_more_than_it_is_does_no_harm() {
    let mut stream = Stream::new();
    stream.add(id(1, 0), &[b"f", b"v"], LIMITS).expect("add");
    stream.meta.length = u64::MAX;
    stream.meta.entries_added = u64::MAX;
    stream.add(id(2, 0), &[b"f", b"v"], LIMITS).expect("add");
    stream.trim(&Trim {
        by: TrimBy::MaxLen(1),
        approximate: false,
        limit: 0,
    });
    stream.meta.length = 0;
    stream.add(id(3, 0), &[b"f", b"v"], LIMITS).expect("add");
    assert_eq!(stream.delete_all(&[id(3, 0), id(3, 0)]), 1);
    assert_eq!(
        stream.trim(&Trim {
            by: TrimBy::MinId(ID_MAX),
            approximate: true,
            limit: 0
        }),
        0
    );
}
