//! A snapshot under way, and what it must turn out to be.

use super::super::cold::key::{TierKey, position_prefix};
use super::super::cold::{ColdStore, ColdValue};
use super::super::snapshot::CutDatabase;
use super::super::snapshot::ring::{Item, Ring};
use super::super::snapshot::walk::Walk;
use super::super::tiering::fifo::TierOp;
use super::world::{World, decode, value_of};
use super::{Entry, Flat};
use crate::keyspace::snapshot::spool::Content;
use parking_lot::Mutex;
use redrock_proto::model::record::Records;
use std::sync::Arc;

/// A snapshot under way, with what it must turn out to be.
pub(super) struct Taking {
    ring: Arc<Ring>,
    walk: Walk,
    databases: Vec<CutDatabase>,
    expected: Flat,
    checkpoint: Arc<Mutex<Option<Vec<(TierKey, ColdValue)>>>>,
    dirty_end: bool,
    records: Vec<(usize, Vec<u8>, Entry)>,
}

impl World {
    pub(super) fn cut(&mut self) {
        if self.taking.is_some() {
            return;
        }
        // So small that old values go through the file, too.
        let ring = Arc::new(Ring::new(256, 64).with_spool(std::env::temp_dir()));
        let Some(databases) = self.keyspace.cut(ring.clone()) else {
            return;
        };
        let checkpoint = Arc::new(Mutex::new(None));
        let (slot, cut) = (checkpoint.clone(), databases.clone());
        self.queue.push(TierOp::Marker(Box::new(move |store| {
            *slot.lock() = Some(read_all(store.expect("nothing fails"), &cut));
        })));
        let expected = self.model.iter().enumerate().flat_map(|(index, keys)| {
            keys.iter()
                .map(move |(key, entry)| ((index, key.clone()), entry.clone()))
        });
        self.taking = Some(Taking {
            ring,
            walk: Walk::default(),
            databases,
            expected: expected.collect(),
            checkpoint,
            dirty_end: false,
            records: Vec::new(),
        });
    }

    pub(super) fn walk(&mut self) {
        let Some(mut taking) = self.taking.take() else {
            return;
        };
        if !taking.dirty_end {
            taking.dirty_end = self
                .keyspace
                .walk_step_for_test(&mut taking.walk, &taking.ring);
        }
        while let Some(item) = taking.ring.try_take_for_test() {
            take_item(&mut taking.records, item);
        }
        if taking.dirty_end && taking.checkpoint.lock().is_some() {
            self.note("a snapshot");
            taking.verify();
        } else {
            self.taking = Some(taking);
        }
    }
}

fn take_item(records: &mut Vec<(usize, Vec<u8>, Entry)>, item: Item) {
    match item {
        Item::Records(packed, count) => take_records(records, &packed, count),
        Item::Spooled(piece) => {
            let bytes = piece.read(0, piece.bytes as usize).expect("the file");
            match &piece.content {
                Content::Records(count) => take_records(records, &bytes, *count),
                Content::Value(header) => {
                    let record = [&header[..], &bytes].concat();
                    take_records(records, &record, 1);
                }
            }
        }
        Item::Value(large) => {
            let value = value_of(large.object.as_value_ref());
            records.push((large.db as usize, large.key, (value, large.expire)));
        }
        Item::DirtyEnd(_) => {}
        other => panic!("{other:?}"),
    }
}

fn take_records(records: &mut Vec<(usize, Vec<u8>, Entry)>, packed: &[u8], count: u32) {
    let before = records.len();
    for record in Records::new(packed) {
        let record = record.expect("our own frame");
        let mut bytes = vec![record.header.object_type];
        bytes.extend_from_slice(record.payload);
        let entry = (decode(&bytes), record.header.expires_unix_ms);
        records.push((
            record.header.database as usize,
            record.header.key.to_vec(),
            entry,
        ));
    }
    assert_eq!(records.len() - before, count as usize);
}

fn read_all(store: &ColdStore, cut: &[CutDatabase]) -> Vec<(TierKey, ColdValue)> {
    let mut out = Vec::new();
    for database in cut {
        let (keys, rest) = store
            .scan_keys(database.generation, 0, usize::MAX)
            .expect("scan");
        assert_eq!(rest, None);
        for (position, key) in keys {
            let mut bytes = position_prefix(database.generation, position).to_vec();
            bytes.extend_from_slice(&key);
            let tier_key = TierKey::from_bytes(&bytes);
            let value = store
                .get(&tier_key)
                .expect("read")
                .expect("it was just seen");
            out.push((tier_key, value));
        }
    }
    out
}

impl Taking {
    /// Each key of the cut came exactly once, with its value and expiry of the cut.
    fn verify(self) {
        let mut all = Flat::new();
        for (db, key, entry) in self.records {
            assert!(
                all.insert((db, key), entry).is_none(),
                "a key came twice from memory"
            );
        }
        for (tier_key, value) in self.checkpoint.lock().take().expect("a checkpoint") {
            let generation = tier_key.generation();
            let database = self.databases.iter().find(|d| d.generation == generation);
            let index = database.expect("a database of the cut").index;
            let entry = (decode(&value.record), value.expire);
            let slot = (index, tier_key.key().to_vec());
            assert!(
                all.insert(slot, entry).is_none(),
                "a key came from memory and from the tier"
            );
        }
        let keys: u64 = self.databases.iter().map(|d| d.keys).sum();
        assert_eq!(all.len() as u64, keys, "the counts of the cut");
        assert_eq!(all, self.expected, "the data of the cut");
    }
}
