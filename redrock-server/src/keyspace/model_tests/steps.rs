//! Steps that see stubs: looks that need no value, loads straight to the tier, scans.

use super::super::load::{LoadOutcome, PreparedEntry};
use super::super::position::POSITION_END;
use super::super::tiering::scan::ScanRequest;
use super::world::{World, decode, value_of};
use super::{DATABASES, NOW, Value};
use crate::value::{Limits, ObjectType};
use rand::RngExt as _;
use redrock_rdb::file::Entry as FileEntry;
use std::collections::BTreeMap;

impl World {
    /// A key is in memory with its value or as a packed stub: no entry is without a value.
    pub(super) fn check_memory(&self) {
        for index in 0..DATABASES {
            let (mut keys, mut stubs) = (0, 0);
            self.keyspace.for_each_key(index, |found| {
                keys += 1;
                stubs += usize::from(found.is_stub());
                assert_eq!(found.value().is_none(), found.is_stub());
                assert!(!(found.is_stub() && found.is_dirty()));
            });
            let table = &self.keyspace.databases[index].table;
            assert_eq!((keys, stubs), (table.len(), table.stub_count()));
        }
    }

    /// What a stub alone tells (TYPE, TTL), and an access (TOUCH): no value is loaded for them.
    pub(super) fn look(&mut self, index: usize, key: &[u8]) {
        let loads = |world: &Self| world.keyspace.tiering.as_ref().map(|t| t.stats.loaded);
        let before = loads(self);
        let is_known = self.keyspace.databases[index]
            .table
            .find(self.keyspace.positioner.hash(key), key)
            .is_some();
        let found = self.with_db(index, |db| {
            let touched = db.touch_key(key)?;
            let found = db.presence(key)?;
            assert_eq!(touched, found.is_some());
            Ok(found.map(|found| (found.object_type, found.expire)))
        });
        let expected = self.model[index]
            .get(key)
            .map(|(value, expire)| match value {
                Value::String(_) => (ObjectType::String, *expire),
                Value::Hash(_) => (ObjectType::Hash, *expire),
            });
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(key));
        assert!(!is_known || loads(self) == before, "a stub was loaded");
    }

    /// A file is loaded when there is no room: the value goes straight to the tier, and the stub is
    /// there while its put is still queued.
    pub(super) fn load_to_tier(&mut self, index: usize, key: Vec<u8>) {
        // A load fills databases that had no such key before: nothing of it is on its way.
        self.finish_expiring();
        self.drain();
        let value = vec![b'v'; self.random.random_range(15_000..20_000)];
        let mut payload = Vec::new();
        redrock_rdb::object::encode::string(&mut payload, &value);
        let expire = self
            .random
            .random_bool(0.5)
            .then(|| NOW + self.random.random_range(1..999));
        let entry = FileEntry {
            key: key.clone(),
            object_type: redrock_rdb::object::types::STRING,
            payload,
            expire_at_ms: expire,
            idle_secs: None,
            frequency: None,
        };
        let prepared = PreparedEntry::new(entry, &Limits::default(), true).expect("a value");
        let outcome = self.keyspace.load_entry(index, prepared).expect("the tier");
        let known = self.model[index].contains_key(&key);
        assert_eq!(outcome == LoadOutcome::Duplicate, known);
        if !known {
            self.model[index].insert(key, (Value::String(value), expire));
        }
    }

    /// A scan in small steps, with the tier's writer and spills at work between them, meets every
    /// key that stays, with its type and expiry.
    pub(super) fn scan(&mut self, index: usize) {
        let (mut from, mut seen) = (0, BTreeMap::new());
        while from < POSITION_END {
            let request = ScanRequest {
                index,
                from,
                count: 3,
                record_bytes_max: Some(self.random.random_range(0..200)),
                now_ms: NOW,
            };
            let instant = self
                .keyspace
                .begin_scan(&self.store, &request)
                .expect("a database");
            let (keys, next) = instant.finish(&request).expect("scan");
            assert!(next > from);
            for key in keys {
                let value = match &key.record {
                    Some(record) => decode(record),
                    // On its way to the tier straight from a file.
                    None => self.with_db(index, |db| {
                        let value = db.peek(&key.key)?;
                        Ok(value_of(value.expect("it was just seen")))
                    }),
                };
                assert!(
                    seen.insert(key.key, (value, key.expire)).is_none(),
                    "met twice"
                );
            }
            from = next;
            let key = self.key();
            match self.random.random_range(0..4) {
                0 => self.spill(index, &key),
                1 => self.drop(index, &key),
                2 => self.apply(),
                _ => {}
            }
        }
        assert_eq!(seen, self.model[index]);
    }
}
