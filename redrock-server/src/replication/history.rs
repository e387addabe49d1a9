//! The ids of our stream: what is true now, and what `replication.state` says.
//!
//! There are two such files: the append-only log's in the data directory, and under `repl/` that
//! of the log that is kept for replicas only ([`redrock_log::backlog`]).
//!
//! Invariants:
//! - while a log is kept, its file knows an id before anything is appended under it, so that a
//!   start never takes bytes of one id for another's;
//! - while a log is not kept its file stays as it is: it belongs to what a start would find;
//! - the history of an append-only log that begins is stored beside the former one's before the
//!   first byte ([`redrock_log::history::Histories`]).
//!
//! Order of locks: `changing`, the keyspace, `inner`. The file is written with `changing` held.

use crate::log::CutPoint;
use crate::log::state::LogKind;
use parking_lot::{Mutex, MutexGuard};
use redrock_log::StateFileError;
use redrock_log::backlog;
use redrock_log::fs::Fs;
use redrock_log::history::{Histories, LogOrigin, ReplicationState, SnapshotIdentity};
use redrock_log::sidecar::HexId;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What becomes of the former id when a stream gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// It stays valid up to here.
    Keep,
    /// Nobody who knows it may go on.
    Forget,
}

/// See the module.
#[derive(Default)]
pub struct StreamHistory {
    place: OnceLock<(Arc<dyn Fs>, PathBuf)>,
    changing: Mutex<()>,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for StreamHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.lock().fmt(f)
    }
}

#[derive(Debug)]
struct Inner {
    present: ReplicationState,
    /// What the append-only log's file says.
    stored: Option<Histories>,
    /// The log that holds the present stream: its file speaks of it.
    kept: LogKind,
    /// Rises with every change.
    version: u64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            present: ReplicationState::new([b'0'; 40], 0, 0),
            stored: None,
            kept: LogKind::None,
            version: 0,
        }
    }
}

/// A change of the id that is stored where that is needed, and not in force yet.
#[derive(Debug)]
pub(super) struct Prepared {
    state: ReplicationState,
    stored: Option<Histories>,
    version: u64,
}

impl StreamHistory {
    /// What recovery has found. `stored` is what the append-only log's file says now; if that log
    /// is `kept`, its newest history is `present`.
    pub fn open(
        &self,
        fs: Arc<dyn Fs>,
        data_dir: PathBuf,
        present: ReplicationState,
        stored: Option<Histories>,
        kept: LogKind,
    ) {
        let _first = self.place.set((fs, data_dir));
        *self.inner.lock() = Inner {
            present,
            stored,
            kept,
            version: 1,
        };
    }

    /// The present history. Its offset is that of its last change.
    pub fn present(&self) -> ReplicationState {
        self.inner.lock().present.clone()
    }

    /// The data set is another: a full sync, or changes that nobody counted. Its stream stands at
    /// `offset`, and no log holds it. Called with the keyspace held.
    pub fn replace(&self, replid: HexId, offset: u64) {
        let mut inner = self.inner.lock();
        inner.present = ReplicationState::new(replid, offset, 0);
        inner.kept = LogKind::None;
        inner.version += 1;
    }

    /// No log holds the stream any more. Called with the keyspace held.
    pub fn end_log(&self) {
        let mut inner = self.inner.lock();
        inner.kept = LogKind::None;
        inner.version += 1;
    }

    /// Whether a log for replicas only holds the stream, as far as the history was told.
    pub fn is_for_replicas(&self) -> bool {
        self.inner.lock().kept == LogKind::Replication
    }

    /// The log goes on in another segment from `cut` on, or begins there (`from_nothing`). True
    /// if its file must be told ([`StreamHistory::store`]) before the log counts as on. Called
    /// with the keyspace held.
    pub fn switched(&self, cut: &CutPoint, from_nothing: bool) -> bool {
        let mut inner = self.inner.lock();
        if cut.kind == LogKind::None || (inner.kept == cut.kind && !from_nothing) {
            return false;
        }
        let mut state = inner.present.clone();
        state.snapshot = None;
        state.offset = cut.offset;
        state.database = cut.stream_db.unwrap_or(0);
        state.origin = LogOrigin {
            sequence: cut.segment_seq,
            offset: if from_nothing {
                cut.offset
            } else {
                state.origin.offset
            },
        };
        match &mut inner.stored {
            _ if cut.kind == LogKind::Replication => {}
            Some(stored) => stored.begin_log(state.clone()),
            None => inner.stored = Some(Histories::new(state.clone())),
        }
        inner.present = state;
        inner.kept = cut.kind;
        inner.version += 1;
        true
    }

    /// The base that is cut here has changes of a replica's own clients, which are in nobody's stream. True if
    /// the log's file must be told. Called with the keyspace held.
    pub fn note_own_changes(&self) -> bool {
        let mut inner = self.inner.lock();
        if inner.kept != LogKind::AppendOnly {
            return false;
        }
        inner.present.has_own_changes = true;
        let state = inner.present.clone();
        if let Some(stored) = &mut inner.stored {
            stored.update(state);
        }
        inner.version += 1;
        true
    }

    /// A dump is in place that was cut while the log was kept for replicas: a start may replay
    /// that log over it. Of a dump from before the log nothing is kept. Blocks on the disk.
    pub fn note_dump(&self, dump: SnapshotIdentity) -> Result<(), StateFileError> {
        let _changing = self.changing.lock();
        let mut inner = self.inner.lock();
        let is_in_log = dump.offset >= inner.present.origin.offset
            && inner.present.knows(&dump.replid, dump.offset);
        if inner.kept != LogKind::Replication || !is_in_log {
            return Ok(());
        }
        inner.present.snapshot = Some(dump);
        inner.version += 1;
        let state = inner.present.clone();
        drop(inner);
        self.write_for_replicas(&state)
    }

    /// A master goes on where the log ends: all of it is that master's stream, if this is a replica still.
    /// Blocks on the disk.
    pub(super) fn note_copy(
        &self,
        is_replica: impl FnOnce() -> bool,
    ) -> Result<(), StateFileError> {
        // A promotion waits for this.
        let _changing = self.changing.lock();
        if !is_replica() {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        if inner.present.is_copy {
            return Ok(());
        }
        inner.present.is_copy = true;
        inner.version += 1;
        let (kept, state) = (inner.kept, inner.present.clone());
        drop(inner);
        match kept {
            LogKind::Replication => self.write_for_replicas(&state),
            // The append-only log is replayed, whosever it is.
            LogKind::AppendOnly | LogKind::None => Ok(()),
        }
    }

    /// The log that recovery has begun starts here.
    pub fn begin_at(&self, origin: LogOrigin) -> Result<(), StateFileError> {
        {
            let mut inner = self.inner.lock();
            inner.present.origin = origin;
            let state = inner.present.clone();
            if let Some(stored) = &mut inner.stored {
                stored.update(state);
            }
            inner.version += 1;
        }
        self.store()
    }

    /// Makes the log's file say what is true. Called without the keyspace.
    pub fn store(&self) -> Result<(), StateFileError> {
        let _changing = self.changing.lock();
        let inner = self.inner.lock();
        if inner.kept == LogKind::Replication {
            let state = inner.present.clone();
            drop(inner);
            return self.write_for_replicas(&state);
        }
        let stored = inner.stored.clone();
        drop(inner);
        stored.map_or(Ok(()), |stored| self.write(&stored))
    }

    /// Lets one change happen at a time.
    pub(super) fn begin_change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// A new id from `offset` on, durable where it must be; [`StreamHistory::commit`] puts it in
    /// force. The caller holds [`StreamHistory::begin_change`].
    pub(super) fn prepare(
        &self,
        replid: HexId,
        offset: u64,
        database: usize,
        former: Former,
    ) -> Result<Prepared, StateFileError> {
        let inner = self.inner.lock();
        let mut state = inner.present.clone();
        match former {
            Former::Keep => state.change_id(replid, offset),
            Former::Forget => {
                let origin = state.origin;
                state = ReplicationState::new(replid, offset, 0);
                state.origin = origin;
            }
        }
        state.database = u32::try_from(database).unwrap_or(0);
        let mut stored = inner.stored.clone();
        let (version, kept) = (inner.version, inner.kept);
        drop(inner);
        match (kept, stored.as_mut()) {
            (LogKind::AppendOnly, Some(stored)) => {
                stored.update(state.clone());
                self.write(stored)?;
            }
            (LogKind::Replication, _) => self.write_for_replicas(&state)?,
            _ => {}
        }
        Ok(Prepared {
            state,
            stored,
            version,
        })
    }

    /// Whether nothing has changed since. Called with the keyspace held, as is what follows.
    pub(super) fn is_current(&self, prepared: &Prepared) -> bool {
        self.inner.lock().version == prepared.version
    }

    /// Puts a change in force; false if another one came first.
    pub(super) fn commit(&self, prepared: Prepared) -> bool {
        let mut inner = self.inner.lock();
        if inner.version != prepared.version {
            return false;
        }
        inner.present = prepared.state;
        inner.stored = prepared.stored;
        inner.version += 1;
        true
    }

    fn write(&self, histories: &Histories) -> Result<(), StateFileError> {
        match self.place.get() {
            Some((fs, data_dir)) => histories.store(fs.as_ref(), data_dir, &|| Ok(())),
            None => Ok(()),
        }
    }

    fn write_for_replicas(&self, state: &ReplicationState) -> Result<(), StateFileError> {
        match self.place.get() {
            Some((fs, data_dir)) => {
                state.store(fs.as_ref(), &backlog::directory(data_dir), &|| Ok(()))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redrock_log::history::HISTORIES_MAX;
    use redrock_log::testing::{CrashMode, PowerLossFs};
    use redrock_proto::model::HexId as WireId;
    use std::path::Path;

    const A: HexId = [b'a'; 40];
    const B: HexId = [b'b'; 40];

    fn opened(fs: &PowerLossFs, kept: LogKind) -> StreamHistory {
        let mut state = ReplicationState::new(A, 100, 0);
        state.origin.sequence = 1;
        let histories = Histories::new(state.clone());
        histories.store(fs, Path::new("/d"), &|| Ok(())).unwrap();
        let history = StreamHistory::default();
        let place = (Arc::new(fs.clone()), "/d".into());
        history.open(place.0, place.1, state, Some(histories), kept);
        history
    }

    fn on_disk(fs: &PowerLossFs) -> Histories {
        Histories::load(fs, Path::new("/d")).unwrap().unwrap()
    }

    fn cut(offset: u64, segment_seq: u64) -> CutPoint {
        CutPoint {
            offset,
            replid: WireId::from_digits(B).unwrap(),
            stream_db: Some(3),
            rotated: true,
            segment_seq,
            kind: LogKind::AppendOnly,
        }
    }

    #[test]
    fn a_new_id_is_on_disk_before_it_is_in_force() {
        let fs = PowerLossFs::new("/d");
        let history = opened(&fs, LogKind::AppendOnly);
        let prepared = history.prepare(B, 250, 3, Former::Keep).unwrap();
        assert_eq!(history.present().replid, A);
        fs.crash(CrashMode::Scattered { seed: 1 });
        let stored = on_disk(&fs).newest().clone();
        assert_eq!((stored.replid, stored.database), (B, 3));
        assert!(stored.knows(&A, 250) && !stored.knows(&A, 251));
        assert!(history.commit(prepared));
        assert_eq!(history.present(), stored);
    }

    #[test]
    fn a_change_that_another_one_overtook_is_not_put_in_force() {
        let fs = PowerLossFs::new("/d");
        let history = opened(&fs, LogKind::AppendOnly);
        let prepared = history.prepare(B, 250, 0, Former::Keep).unwrap();
        history.replace([b'c'; 40], 900);
        assert!(!history.commit(prepared));
        assert_eq!(history.present().replid, [b'c'; 40]);
    }

    #[test]
    fn without_a_log_the_file_keeps_what_belongs_to_the_log_on_disk() {
        let fs = PowerLossFs::new("/d");
        let history = opened(&fs, LogKind::AppendOnly);
        history.replace([b'c'; 40], 900);
        let prepared = history.prepare(B, 950, 0, Former::Keep).unwrap();
        assert!(history.commit(prepared));
        assert_eq!(on_disk(&fs).newest().replid, A);
        // The log begins: until the manifest names it, the former history counts.
        assert!(history.switched(&cut(970, 5), true));
        history.store().unwrap();
        assert_eq!(on_disk(&fs).of_log(4).map(|state| state.replid), Some(A));
        let state = on_disk(&fs).of_log(5).cloned().unwrap();
        assert_eq!((state.replid, state.origin.offset), (B, 970));
        assert!(state.knows(&[b'c'; 40], 950));
        // From now on changes are stored again.
        assert!(!history.switched(&cut(980, 6), false));
        let prepared = history.prepare(A, 990, 0, Former::Forget).unwrap();
        assert!(history.commit(prepared));
        let state = on_disk(&fs).newest().clone();
        assert_eq!((state.replid, state.origin.sequence), (A, 5));
        assert_eq!(state.former().len(), 0);
        for sequence in 7..10 + HISTORIES_MAX as u64 {
            assert!(history.switched(&cut(1000, sequence), true));
        }
        history.store().unwrap();
        assert_eq!(
            on_disk(&fs).of_log(4),
            None,
            "too many logs ago to be believed"
        );
    }

    fn for_replicas(fs: &PowerLossFs) -> ReplicationState {
        let directory = backlog::directory(Path::new("/d"));
        ReplicationState::load(fs, &directory).unwrap().unwrap()
    }

    fn dump(replid: HexId, offset: u64) -> SnapshotIdentity {
        SnapshotIdentity {
            file_bytes: 9,
            crc64: 7,
            replid,
            offset,
        }
    }

    #[test]
    fn a_log_for_replicas_has_a_file_of_its_own_that_names_the_dump_it_continues() {
        let fs = PowerLossFs::new("/d");
        fs.create_dir(&backlog::directory(Path::new("/d"))).unwrap();
        let history = opened(&fs, LogKind::None);
        history.replace(B, 900);
        let mut begun = cut(900, 3);
        begun.kind = LogKind::Replication;
        assert!(history.switched(&begun, true) && history.is_for_replicas());
        history.store().unwrap();
        for unrelated in [dump(B, 899), dump(A, 950)] {
            history.note_dump(unrelated).unwrap();
            assert_eq!(for_replicas(&fs).snapshot, None);
        }
        history.note_dump(dump(B, 950)).unwrap();
        // A later id keeps it: the log goes on.
        let prepared = history.prepare([b'c'; 40], 990, 0, Former::Keep).unwrap();
        fs.crash(CrashMode::Scattered { seed: 2 });
        let stored = for_replicas(&fs);
        assert!(history.commit(prepared));
        assert_eq!(stored, history.present());
        assert_eq!(stored.snapshot, Some(dump(B, 950)));
        assert_eq!((stored.origin.sequence, stored.origin.offset), (3, 900));
        assert_eq!(
            on_disk(&fs).newest().replid,
            A,
            "the other log's file stays"
        );
        // The append-only log goes on with the same stream.
        assert!(history.switched(&cut(1000, 5), false));
        history.store().unwrap();
        let stored = on_disk(&fs).of_log(5).cloned().unwrap();
        assert_eq!((stored.origin.sequence, stored.origin.offset), (5, 900));
        assert_eq!(stored.snapshot, None);
        history.note_dump(dump([b'c'; 40], 1010)).unwrap();
        assert_eq!(on_disk(&fs).newest().snapshot, None);
    }

    #[test]
    fn a_log_is_a_copy_from_when_a_master_goes_on_behind_it_until_the_promotion() {
        let fs = PowerLossFs::new("/d");
        fs.create_dir(&backlog::directory(Path::new("/d"))).unwrap();
        let history = opened(&fs, LogKind::None);
        let follow = |is_replica: bool| history.note_copy(|| is_replica).unwrap();
        history.replace(B, 900);
        follow(false);
        assert!(!history.present().is_copy);
        follow(true);
        let mut begun = cut(900, 3);
        begun.kind = LogKind::Replication;
        assert!(history.switched(&begun, true));
        history.store().unwrap();
        assert!(for_replicas(&fs).is_copy);
        // Whose id this is is not known yet.
        let change = |replid| {
            let prepared = history.prepare(replid, 990, 0, Former::Keep).unwrap();
            assert!(history.commit(prepared));
        };
        change([b'c'; 40]);
        assert!(!for_replicas(&fs).is_copy);
        follow(true);
        assert!(for_replicas(&fs).is_copy);
        change([b'd'; 40]);
        follow(false);
        assert!(!for_replicas(&fs).is_copy && !history.present().is_copy);
    }
}
