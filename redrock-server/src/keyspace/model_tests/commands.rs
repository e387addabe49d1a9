//! Steps that are commands, each done to the keyspace and to the model.

use super::super::db::Expiry;
use super::world::{World, value_of};
use super::{DATABASES, NOW, Value};
use crate::value::{Limits, hash::Hash};
use rand::RngExt as _;
use std::collections::BTreeMap;

impl World {
    pub(super) fn set(&mut self, index: usize, key: Vec<u8>) {
        let long = self.random.random_bool(0.1);
        let len = self.random.random_range(0..if long { 9000 } else { 40 });
        let value: Vec<u8> = (0..len)
            .map(|_| self.random.random_range(b'0'..b'z'))
            .collect();
        let expiry = match self.random.random_range(0..3) {
            0 => Expiry::Clear,
            1 => Expiry::Keep,
            _ => Expiry::At(NOW + self.random.random_range(1..1000)),
        };
        self.with_db(index, |db| db.set_string(&key, &value, expiry));
        let old = self.model[index].get(&key).and_then(|entry| entry.1);
        let expire = match expiry {
            Expiry::Clear => None,
            Expiry::Keep => old,
            Expiry::At(ms) => Some(ms),
        };
        self.model[index].insert(key, (Value::String(value), expire));
    }

    pub(super) fn hset(&mut self, index: usize, key: Vec<u8>) {
        if matches!(self.model[index].get(&key), Some((Value::String(_), _))) {
            return;
        }
        let field = format!("f{}", self.random.random_range(0..200)).into_bytes();
        let value = vec![b'v'; self.random.random_range(0..90)];
        let time = self
            .random
            .random_bool(0.3)
            .then(|| NOW + self.random.random_range(-50..50));
        self.with_db(index, |db| {
            let hash = db.write_or_create::<Hash>(&key)?;
            hash.set(&field, &value, &Limits::default());
            hash.set_time(&field, time);
            db.fields_changed(&key);
            Ok(())
        });
        let entry = self.model[index]
            .entry(key)
            .or_insert((Value::Hash(BTreeMap::new()), None));
        if let Value::Hash(fields) = &mut entry.0 {
            fields.insert(field, (value, time));
        }
    }

    /// What active expiry does to a hash in memory.
    pub(super) fn expire_fields(&mut self, index: usize, key: Vec<u8>) {
        self.with_db(index, |db| {
            db.peek(&key)?;
            while db.expire_fields(&key, 3)? > 0 {}
            Ok(())
        });
        let Some((Value::Hash(fields), _)) = self.model[index].get_mut(&key) else {
            return;
        };
        fields.retain(|_, (_, time)| time.is_none_or(|ms| ms >= NOW));
        if fields.is_empty() {
            self.model[index].remove(&key);
        }
    }

    pub(super) fn append(&mut self, index: usize, key: Vec<u8>) {
        if matches!(self.model[index].get(&key), Some((Value::Hash(_), _))) {
            return;
        }
        self.with_db(index, |db| {
            db.string_mut(&key)?.extend_from_slice(b"+tail");
            Ok(())
        });
        let entry = self.model[index]
            .entry(key)
            .or_insert((Value::String(Vec::new()), None));
        if let Value::String(bytes) = &mut entry.0 {
            bytes.extend_from_slice(b"+tail");
        }
    }

    pub(super) fn remove(&mut self, index: usize, key: Vec<u8>) {
        let removed = self.with_db(index, |db| db.remove(&key));
        assert_eq!(removed, self.model[index].remove(&key).is_some());
    }

    pub(super) fn expire(&mut self, index: usize, key: Vec<u8>) {
        let expire = self
            .random
            .random_bool(0.7)
            .then(|| NOW + self.random.random_range(1..999));
        let found = self.with_db(index, |db| db.set_expire(&key, expire));
        assert_eq!(found, self.model[index].contains_key(&key));
        if let Some(entry) = self.model[index].get_mut(&key) {
            entry.1 = expire;
        }
    }

    pub(super) fn check(&mut self, index: usize, key: &[u8]) {
        let found = self.with_db(index, |db| {
            let expire = db.presence(key)?.and_then(|presence| presence.expire);
            Ok(db.read_any(key)?.map(|value| (value_of(value), expire)))
        });
        assert_eq!(
            found.as_ref(),
            self.model[index].get(key),
            "{}",
            String::from_utf8_lossy(key)
        );
    }

    pub(super) fn flush(&mut self, index: usize) {
        self.keyspace.flush(index, false);
        drop(self.keyspace.garbage.take());
        self.model[index].clear();
    }

    pub(super) fn swap(&mut self) {
        let (a, b) = (
            self.random.random_range(0..DATABASES),
            self.random.random_range(0..DATABASES),
        );
        self.keyspace.swap(a, b);
        self.model.swap(a, b);
    }

    /// A target: another key of any database.
    fn target(&mut self, index: usize, key: &[u8]) -> Option<(usize, Vec<u8>)> {
        let target = (self.random.random_range(0..DATABASES), self.key());
        (target != (index, key.to_vec())).then_some(target)
    }

    /// RENAME and MOVE, onto whatever is there.
    pub(super) fn rename(&mut self, index: usize, key: &[u8]) {
        let Some((to_index, to)) = self.target(index, key) else {
            return;
        };
        let moved = self.with_db(index, |db| db.move_entry(key, to_index, &to));
        let entry = self.model[index].remove(key);
        assert_eq!(moved, entry.is_some());
        if let Some(entry) = entry {
            self.model[to_index].insert(to.clone(), entry);
        }
        self.check_entry(to_index, &to);
    }

    /// COPY with REPLACE.
    pub(super) fn copy(&mut self, index: usize, key: &[u8]) {
        let Some((to_index, to)) = self.target(index, key) else {
            return;
        };
        let copied = self.with_db(index, |db| db.copy_entry(key, to_index, &to));
        let entry = self.model[index].get(key).cloned();
        assert_eq!(copied, entry.is_some());
        if let Some(entry) = entry {
            self.model[to_index].insert(to.clone(), entry);
        }
        self.check_entry(to_index, &to);
    }
}
