//! Objects of every kind, for property tests.

use proptest::collection::{hash_map, hash_set, vec};
use proptest::prelude::*;

use crate::listpack::ListPack;
use crate::object::stream::{
    StreamConsumer, StreamGroup, StreamId, StreamMeta, StreamNode, StreamPending,
};
use crate::object::{ListBuilder, ListNode, Object, StreamObject};

/// Strings of every kind: numbers, short, compressible, random.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        (-70_000i32..70_000).prop_map(|value| value.to_string().into_bytes()),
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 20usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn pairs(max: usize) -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    hash_map(text(), text(), 1..max).prop_map(|map| map.into_iter().collect())
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("not a number", |score| !score.is_nan()),
        Just(f64::INFINITY),
        (-100i32..100).prop_map(f64::from),
    ]
}

pub(super) fn listpack_of<T: AsRef<[u8]>>(elements: impl IntoIterator<Item = T>) -> ListPack {
    elements.into_iter().collect()
}

fn stream_id() -> impl Strategy<Value = StreamId> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| StreamId { ms, seq })
}

/// A node of one entry for each pair, all with their own field, half of them
/// marked deleted.
pub(super) fn stream_node(master_id: StreamId, entries: &[(Vec<u8>, Vec<u8>)]) -> StreamNode {
    let deleted = entries.len() / 2;
    let mut listpack = ListPack::new();
    listpack.push_back_int((entries.len() - deleted) as i64);
    listpack.push_back_int(deleted as i64);
    listpack.push_back_int(1);
    listpack.push_back(b"field");
    listpack.push_back_int(0);
    for (index, (field, value)) in entries.iter().enumerate() {
        let same_fields = index % 3 == 0;
        let flags = i64::from(index < deleted) | i64::from(same_fields) << 1;
        listpack.push_back_int(flags);
        listpack.push_back_int(0);
        listpack.push_back_int(index as i64);
        if same_fields {
            listpack.push_back(value);
            listpack.push_back_int(4);
        } else {
            listpack.push_back_int(1);
            listpack.push_back(field);
            listpack.push_back(value);
            listpack.push_back_int(6);
        }
    }
    StreamNode {
        master_id,
        entries: listpack,
    }
}

fn group() -> impl Strategy<Value = StreamGroup> {
    let entry = (any::<i64>(), 0u64..1000, 0usize..3);
    let pending = hash_map(stream_id(), entry, 0..12);
    (
        text(),
        stream_id(),
        proptest::option::of(0u64..1 << 62),
        pending,
    )
        .prop_map(|(name, last_id, entries_read, pending)| {
            let mut consumers: Vec<StreamConsumer> = (0..3)
                .map(|index| StreamConsumer {
                    name: format!("consumer-{index}").into_bytes(),
                    seen_time_ms: 1_700_000_000_000 + index,
                    active_time_ms: index - 1,
                    pending: Vec::new(),
                })
                .collect();
            let mut all = Vec::new();
            for (id, (delivery_time_ms, delivery_count, owner)) in pending {
                all.push(StreamPending {
                    id,
                    delivery_time_ms,
                    delivery_count,
                });
                consumers[owner].pending.push(id);
            }
            all.sort_by_key(|pending| pending.id);
            for consumer in &mut consumers {
                consumer.pending.sort();
            }
            StreamGroup {
                name,
                last_id,
                entries_read,
                pending: all,
                consumers,
            }
        })
}

fn stream_object() -> impl Strategy<Value = Object> {
    let nodes = hash_map(stream_id(), pairs(6), 1..5);
    let ids = (stream_id(), stream_id(), stream_id());
    (nodes, ids, any::<u64>(), any::<u64>(), vec(group(), 0..3)).prop_map(
        |(nodes, (last_id, first_id, max_deleted_id), length, entries_added, mut groups)| {
            let mut nodes: Vec<StreamNode> = nodes
                .iter()
                .map(|(&id, entries)| stream_node(id, entries))
                .collect();
            nodes.sort_by_key(|node| node.master_id);
            groups.sort_by(|a, b| a.name.cmp(&b.name));
            groups.dedup_by(|a, b| a.name == b.name);
            let meta = StreamMeta {
                length,
                last_id,
                first_id,
                max_deleted_id,
                entries_added,
            };
            Object::Stream(StreamObject {
                nodes,
                meta,
                groups,
            })
        },
    )
}

pub(super) fn object() -> impl Strategy<Value = Object> {
    let intset = hash_set(any::<i64>(), 1..50);
    let members = || hash_set(text(), 1..30);
    let scored = || hash_map(text(), score(), 1..30);
    let ttl = hash_map(text(), (text(), proptest::option::of(1u64..1 << 47)), 1..30);
    prop_oneof![
        text().prop_map(Object::String),
        vec(text(), 1..60).prop_map(|elements| {
            let mut builder = ListBuilder::new();
            elements.iter().for_each(|element| builder.push(element));
            Object::List(builder.finish())
        }),
        vec(any::<u8>(), 1..40).prop_map(|element| Object::List(vec![ListNode::Plain(element)])),
        intset.prop_map(|integers| Object::SetIntset(integers.into_iter().collect())),
        members().prop_map(|members| Object::SetListpack(listpack_of(members))),
        members().prop_map(|members| Object::Set(members.into_iter().collect())),
        scored().prop_map(|members| {
            let flat = members
                .into_iter()
                .flat_map(|(m, s)| [m, format!("{s:e}").into_bytes()]);
            Object::ZSetListpack(listpack_of(flat))
        }),
        scored().prop_map(|members| Object::ZSet(members.into_iter().collect())),
        pairs(30).prop_map(|pairs| {
            Object::HashListpack(listpack_of(pairs.into_iter().flat_map(|(f, v)| [f, v])))
        }),
        pairs(30).prop_map(Object::Hash),
        ttl.prop_map(|fields| {
            let fields = fields
                .into_iter()
                .map(|(field, (value, at))| (field, value, at));
            Object::HashTtl(fields.collect())
        }),
        stream_object(),
    ]
}
