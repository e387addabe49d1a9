mod redis_bytes;

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn texts(listpack: &ListPack) -> Vec<Vec<u8>> {
    listpack.iter().map(|value| value.to_vec()).collect()
}

#[test]
fn malformed_blobs_are_refused_with_the_place() {
    let cases: [(&[u8], &str); 11] = [
        (b"\x07\0\0\0\0\0", "listpack shorter than its header"),
        (
            b"\x08\0\0\0\0\0\xff",
            "listpack length differs from its header",
        ),
        (b"\x07\0\0\0\0\0\x00", "listpack without end mark"),
        (
            b"\x09\0\0\0\0\0\x05\x01\xff",
            "listpack count differs from its header",
        ),
        (
            b"\x09\0\0\0\x01\0\x05\x02\xff",
            "listpack backlen differs from its entry",
        ),
        (
            b"\x09\0\0\0\x01\0\xf5\x01\xff",
            "unknown or cut listpack encoding",
        ),
        (
            b"\x09\0\0\0\x01\0\xff\x01\xff",
            "unknown or cut listpack encoding",
        ),
        (
            b"\x08\0\0\0\x01\0\xe0\xff",
            "unknown or cut listpack encoding",
        ),
        (b"\x08\0\0\0\x01\0\x05\xff", "listpack entry beyond the end"),
        (
            b"\x09\0\0\0\x01\0\x82a\xff",
            "listpack entry beyond the end",
        ),
        (
            b"\x0c\0\0\0\x01\0\xf0\xff\xff\xff\xff\xff",
            "listpack entry beyond the end",
        ),
    ];
    for (bytes, reason) in cases {
        assert_eq!(
            ListPack::from_bytes(bytes.to_vec())
                .expect_err(reason)
                .reason,
            reason
        );
    }
    // A count of 65535 says nothing, so that any number of entries is right.
    let unknown = b"\x09\0\0\0\xff\xff\x05\x01\xff";
    assert_eq!(
        ListPack::from_bytes(unknown.to_vec()).map(|lp| lp.len()),
        Ok(1)
    );
}

#[test]
fn uncommon_encodings_of_other_writers_still_compare_by_text() {
    // The integer 5 in two bytes, and the string "5".
    let bytes = b"\x0d\0\0\0\x02\0\xc0\x05\x02\x815\x02\xff".to_vec();
    let listpack = ListPack::from_bytes(bytes).expect("valid");
    let first = listpack
        .find(listpack.first().expect("head"), b"5", 0)
        .expect("first");
    assert_eq!(Some(first), listpack.first());
    let second = listpack.find(listpack.next(first).expect("next"), b"5", 0);
    assert_eq!(second, listpack.last());
    assert_eq!(
        listpack.value(first),
        listpack.value(second.expect("second"))
    );
    assert_eq!(
        listpack
            .iter()
            .map(|value| value.as_int())
            .collect::<Vec<_>>(),
        [Some(5); 2]
    );
}

#[test]
fn removing_gives_memory_back() {
    let mut listpack: ListPack = (0..1000).map(|i| format!("element {i}")).collect();
    let full = listpack.capacity();
    assert!(full < listpack.byte_len() * 5 / 4 + 64);
    listpack.remove_range(5, 1000);
    assert!(listpack.capacity() < 256, "{}", listpack.capacity());
    listpack.clear();
    assert_eq!(listpack, ListPack::new());
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (any::<i64>(), 0u32..64).prop_map(|(v, shift)| (v >> shift).to_string().into_bytes()),
        4 => vec(prop_oneof![Just(b'0'), Just(b'-'), any::<u8>()], 0..6),
        2 => vec(any::<u8>(), 55..140),
        1 => (4090usize..4100).prop_map(|len| vec![b'x'; len]),
        1 => (16_370usize..16_390).prop_map(|len| vec![b'y'; len]),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    InsertBefore(Index, Vec<u8>),
    InsertAfter(Index, Vec<u8>),
    Replace(Index, Vec<u8>),
    ReplaceInt(Index, i64),
    Remove(Index),
    RemoveRange(Index, bool, usize),
    SplitAndMerge(Index, bool),
    Find(Index, Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => element().prop_map(Edit::PushBack),
        3 => element().prop_map(Edit::PushFront),
        2 => (at(), element()).prop_map(|(i, e)| Edit::InsertBefore(i, e)),
        2 => (at(), element()).prop_map(|(i, e)| Edit::InsertAfter(i, e)),
        2 => (at(), element()).prop_map(|(i, e)| Edit::Replace(i, e)),
        1 => (at(), any::<i64>()).prop_map(|(i, v)| Edit::ReplaceInt(i, v)),
        2 => at().prop_map(Edit::Remove),
        1 => (at(), any::<bool>(), 0usize..5).prop_map(|(i, tail, n)| Edit::RemoveRange(i, tail, n)),
        1 => (at(), any::<bool>()).prop_map(|(i, back)| Edit::SplitAndMerge(i, back)),
        2 => (at(), at(), 0usize..3).prop_map(|(i, j, skip)| Edit::Find(i, j, skip)),
    ]
}

/// Does `edit` to both; the element edits need one to stand at.
fn apply(edit: Edit, model: &mut Vec<Vec<u8>>, listpack: &mut ListPack) {
    let len = model.len();
    let place = |index: Index, listpack: &ListPack| {
        let i = index.index(len);
        (i, listpack.seek(i as i64).expect("in range"))
    };
    match edit {
        Edit::PushBack(element) => {
            let pos = listpack.push_back(&element);
            assert_eq!(Some(pos), listpack.last());
            model.push(element);
        }
        Edit::PushFront(element) => {
            listpack.push_front(&element);
            model.insert(0, element);
        }
        _ if len == 0 => {}
        Edit::InsertBefore(index, element) => {
            let (i, pos) = place(index, listpack);
            let pos = listpack.insert_before(pos, &element);
            assert!(listpack.value(pos).eq_bytes(&element));
            model.insert(i, element);
        }
        Edit::InsertAfter(index, element) => {
            let (i, pos) = place(index, listpack);
            let pos = listpack.insert_after(pos, &element);
            assert!(listpack.value(pos).eq_bytes(&element));
            model.insert(i + 1, element);
        }
        Edit::Replace(index, element) => {
            let (i, pos) = place(index, listpack);
            listpack.replace(pos, &element);
            model[i] = element;
        }
        Edit::ReplaceInt(index, value) => {
            let (i, pos) = place(index, listpack);
            listpack.replace_int(pos, value);
            model[i] = value.to_string().into_bytes();
        }
        Edit::Remove(index) => {
            let (i, pos) = place(index, listpack);
            let next = listpack.remove(pos);
            model.remove(i);
            assert_eq!(
                next.map(|pos| listpack.value(pos).to_vec()).as_ref(),
                model.get(i)
            );
        }
        Edit::RemoveRange(index, from_tail, count) => {
            let i = index.index(len);
            let at = if from_tail {
                i as i64 - len as i64
            } else {
                i as i64
            };
            listpack.remove_range(at, count);
            model.drain(i..(i + count).min(len));
        }
        Edit::SplitAndMerge(index, swap) => {
            let (i, pos) = place(index, listpack);
            let tail = listpack.split_off(pos);
            assert_eq!((listpack.len(), tail.len()), (i, len - i));
            let head = std::mem::take(listpack);
            *listpack = if swap {
                ListPack::merge(tail, head)
            } else {
                ListPack::merge(head, tail)
            };
            if swap {
                model.rotate_left(i);
            }
        }
        Edit::Find(start, needle, skip) => {
            let (i, pos) = place(start, listpack);
            let needle = model[needle.index(len)].clone();
            let expected = (i..len).step_by(skip + 1).find(|&j| model[j] == needle);
            let found = listpack.find(pos, &needle, skip);
            assert_eq!(found, expected.and_then(|j| listpack.seek(j as i64)));
        }
    }
}

proptest! {
    #[test]
    fn edits_do_what_they_do_to_a_plain_vector(edits in vec(edit(), 0..60)) {
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut listpack = ListPack::new();
        for edit in edits {
            apply(edit, &mut model, &mut listpack);
            prop_assert_eq!(listpack.len(), model.len());
            prop_assert_eq!(listpack.is_empty(), model.is_empty());
        }
        prop_assert_eq!(&texts(&listpack), &model);
        let mut reversed: Vec<_> = listpack.iter().rev().map(|value| value.to_vec()).collect();
        reversed.reverse();
        prop_assert_eq!(&reversed, &model);
        for (i, element) in model.iter().enumerate() {
            let pos = listpack.seek(i as i64);
            prop_assert_eq!(pos, listpack.seek(i as i64 - model.len() as i64));
            let value = listpack.value(pos.expect("in range"));
            prop_assert!(value.eq_bytes(element));
            prop_assert_eq!(value.len(), element.len());
        }
        // However it came about, it is what building it at once gives.
        let built: ListPack = model.iter().collect();
        prop_assert_eq!(&built, &listpack);
        prop_assert_eq!(ListPack::from_bytes(listpack.clone().into_bytes()), Ok(listpack));
    }

    #[test]
    fn both_ends_of_an_iterator_meet(elements in vec(element(), 0..12), turns in vec(any::<bool>(), 12)) {
        let listpack: ListPack = elements.iter().collect();
        let mut left: std::collections::VecDeque<_> = elements.iter().cloned().collect();
        let mut iter = listpack.iter();
        for back in turns {
            let (value, expected) = if back {
                (iter.next_back(), left.pop_back())
            } else {
                (iter.next(), left.pop_front())
            };
            prop_assert_eq!(value.map(|value| value.to_vec()), expected);
        }
        prop_assert!(iter.next().is_none() && iter.next_back().is_none());
    }

    #[test]
    fn mutated_blobs_are_read_or_refused(
        elements in vec(element(), 0..8),
        flips in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in 0usize..4,
    ) {
        let mut bytes = elements.iter().collect::<ListPack>().into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        // Even unchecked, reading ends and doesn't panic.
        let unchecked = ListPackRef::from_trusted(&bytes);
        let _ = (unchecked.iter().count(), unchecked.iter().rev().count(), unchecked.len());
        for pos in [unchecked.first(), unchecked.last(), unchecked.seek(-3), unchecked.seek(3)] {
            let _ = pos.map(|pos| unchecked.value(pos).len());
        }
        if let Some(first) = unchecked.first() {
            let _ = unchecked.find(first, b"no such", 1);
        }
        if let Ok(mut listpack) = ListPack::from_bytes(bytes) {
            let count = listpack.iter().count();
            prop_assert_eq!(listpack.len(), count);
            prop_assert_eq!(listpack.iter().rev().count(), count);
            if let Some(last) = listpack.last() {
                listpack.remove(last);
                prop_assert_eq!(listpack.len(), count - 1);
                prop_assert!(ListPack::from_bytes(listpack.into_bytes()).is_ok());
            }
        }
    }
}
