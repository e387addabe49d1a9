//! What happens between the look at the tier's index and the deletion.

use super::*;
use crate::command::testing::wait_for_stream;
use crate::config::Config;
use crate::keyspace::cold::options::ColdBudget;
use crate::keyspace::hot::entry::NewValue;
use crate::keyspace::position::Positioner;
use crate::keyspace::tiering::Tiering;
use crate::keyspace::tiering::fifo::TierQueue;
use crate::state::{PauseBy, PauseMode};
use crate::value::Limits;
use crate::value::hash::Hash;

/// Everything here is due by then.
const NOW: i64 = 1000;

struct Bench {
    server: Server,
    cold: Arc<ColdStore>,
    queue: Arc<TierQueue>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A key that is due, and a hash of which a field is, both on disk only.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cold = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).unwrap();
        let cold = Arc::new(cold);
        let queue = Arc::new(TierQueue::new(1 << 20));
        let mut keyspace = Keyspace::new(1, Positioner::new((1, 2)));
        keyspace.enable_tiering(Tiering::new(cold.clone(), queue.clone(), 1 << 20));
        let server = Server::new(Config::default(), keyspace, "0".repeat(40), 1);
        let bench = Self {
            server,
            cold,
            queue,
            _folder: folder,
        };
        bench.fill();
        bench
    }

    fn fill(&self) {
        let mut keyspace = self.server.keyspace.lock();
        let mut effect = Effect::default();
        let mut db = Db::new(&mut keyspace, &self.server, &mut effect, 0, 0);
        let value = NewValue::Inline(b"a value");
        db.restore(b"key", value, Some(5)).unwrap();
        let hash: &mut Hash = db.write_or_create(b"hash").unwrap();
        for (field, time) in [(b"due", Some(5)), (b"not", None)] {
            hash.set(field, b"v", &Limits::default());
            hash.set_time(field, time);
        }
        db.fields_changed(b"hash");
        for key in [&b"key"[..], b"hash"] {
            self.evict(&mut keyspace, key);
        }
    }

    /// Of a key nothing stays in memory.
    fn evict(&self, keyspace: &mut Keyspace, key: &[u8]) {
        let hash = keyspace.databases[0].table.hash(key);
        assert!(keyspace.spill(0, hash, key));
        while !self.queue.is_empty() {
            drop(keyspace.applied(&self.queue.apply_one_batch(&self.cold)));
        }
        assert!(keyspace.drop_clean(0, hash, key, true).is_some());
    }

    /// What both kinds of rounds do behind the first look; keys and fields that are deleted so far.
    fn rounds(&self) -> (u64, u64) {
        keys_round(&self.server, &self.cold, NOW).unwrap();
        cold_fields::round(&self.server, &self.cold, NOW).unwrap();
        let keyspace = self.server.keyspace.lock();
        (keyspace.stats.expired, keyspace.stats.expired_fields)
    }
}

#[test]
fn what_is_due_on_disk_goes() {
    assert_eq!(Bench::new().rounds(), (1, 1));
}

#[test]
fn nothing_goes_that_a_pause_or_another_role_has_overtaken() {
    let bench = Bench::new();
    let server = &bench.server;
    let offset = server.log.appended_offset();
    let pause = &server.state.pause;
    pause.start(PauseBy::Client, i64::MAX, PauseMode::Write);
    assert_eq!(bench.rounds(), (0, 0), "a pause");
    pause.lift(PauseBy::Client);
    server.keyspace.lock().set_role_expiry(ExpireMode::Hide);
    assert_eq!(bench.rounds(), (0, 0), "a replica");
    server.keyspace.lock().set_role_expiry(ExpireMode::Delete);
    server.expiry.enabled.store(false, Ordering::Relaxed);
    assert_eq!(bench.rounds(), (0, 0), "switched off");
    server.expiry.enabled.store(true, Ordering::Relaxed);
    assert_eq!(server.log.appended_offset(), offset);
    // Nobody waits for what was read in vain.
    assert_eq!(bench.rounds(), (1, 1));
}

/// Nothing of it is in memory then, as when the read began: what was read of it is out of date.
#[test]
fn a_key_that_is_deleted_meanwhile_does_not_expire() {
    let bench = Bench::new();
    let due = bench.cold.due(DueIndex::Keys, NOW, DUE_MAX).unwrap();
    let [(time, key)] = &due[..] else {
        panic!("{due:?}");
    };
    let mut keyspace = bench.server.keyspace.lock();
    assert_eq!(keyspace.begin_cold_expiry(*time, key), Due::Ask);
    let current = bench.cold.times_of(key).unwrap();
    assert_eq!(current.key, Some(*time));
    // A script does not wait for the read that is under way.
    keyspace.load_blocking(0, b"key").unwrap();
    let mut effect = Effect::default();
    let mut db = Db::new(&mut keyspace, &bench.server, &mut effect, 0, 0);
    assert!(db.remove(b"key").unwrap());
    assert_eq!(db.len(), 1);
    drop(keyspace);
    finish(&bench.server, *time, key, current, NOW);
    let keyspace = bench.server.keyspace.lock();
    assert_eq!(keyspace.stats.expired, 0);
    assert_eq!(keyspace.databases[0].keys, 1);
}

#[test]
fn who_waits_for_a_key_that_goes_is_served_before_the_next_command() {
    let bench = Bench::new();
    let waiting = wait_for_stream(&mut bench.server.keyspace.lock(), "key");
    keys_round(&bench.server, &bench.cold, NOW).unwrap();
    assert!(waiting.returned.lock().is_some());
    assert!(waiting.outbox.lock().starts_with(b"-NOGROUP"));
}
