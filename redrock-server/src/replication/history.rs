//! The ids of our stream: what is true now, and what `replication.state` says.
//!
//! Invariants:
//! - while a log is kept, the file knows an id before anything is appended under it, so that a
//!   start never takes bytes of one id for another's;
//! - while none is kept the file stays as it is: it belongs to the log that a start would find;
//! - the history of a log that begins is stored beside the former log's before the first byte
//!   ([`redrock_log::history::Histories`]).
//!
//! Order of locks: `changing`, the keyspace, `inner`. The file is written with `changing` held.

use crate::log::CutPoint;
use parking_lot::{Mutex, MutexGuard};
use redrock_log::StateFileError;
use redrock_log::fs::Fs;
use redrock_log::history::{Histories, LogOrigin, ReplicationState};
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
    stored: Option<Histories>,
    /// The file speaks of the present stream: its log is kept.
    is_logged: bool,
    /// Rises with every change.
    version: u64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            present: ReplicationState::new([b'0'; 40], 0, 0),
            stored: None,
            is_logged: false,
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
    /// What recovery has found. `stored` is what the file says now; with `is_logged` its newest
    /// history is `present`.
    pub fn open(
        &self,
        fs: Arc<dyn Fs>,
        data_dir: PathBuf,
        present: ReplicationState,
        stored: Option<Histories>,
        is_logged: bool,
    ) {
        let _first = self.place.set((fs, data_dir));
        *self.inner.lock() = Inner {
            present,
            stored,
            is_logged,
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
        inner.is_logged = false;
        inner.version += 1;
    }

    /// The append-only log goes on in another segment from `cut` on, or begins there
    /// (`from_nothing`). True if the file must be told ([`StreamHistory::store`]) before the log
    /// counts as on. Called with the keyspace held.
    pub fn switched(&self, cut: &CutPoint, from_nothing: bool) -> bool {
        let mut inner = self.inner.lock();
        if inner.is_logged && !from_nothing {
            return false;
        }
        let mut state = inner.present.clone();
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
            Some(stored) => stored.begin_log(state.clone()),
            None => inner.stored = Some(Histories::new(state.clone())),
        }
        inner.present = state;
        inner.is_logged = true;
        inner.version += 1;
        true
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

    /// Makes the file say what is true. Called without the keyspace.
    pub fn store(&self) -> Result<(), StateFileError> {
        let _changing = self.changing.lock();
        let stored = self.inner.lock().stored.clone();
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
        let (version, is_logged) = (inner.version, inner.is_logged);
        drop(inner);
        if let Some(stored) = stored.as_mut().filter(|_| is_logged) {
            stored.update(state.clone());
            self.write(stored)?;
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

    fn opened(fs: &PowerLossFs, is_logged: bool) -> StreamHistory {
        let mut state = ReplicationState::new(A, 100, 0);
        state.origin.sequence = 1;
        let histories = Histories::new(state.clone());
        histories.store(fs, Path::new("/d"), &|| Ok(())).unwrap();
        let history = StreamHistory::default();
        let place = (Arc::new(fs.clone()), "/d".into());
        history.open(place.0, place.1, state, Some(histories), is_logged);
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
            kind: crate::log::state::LogKind::AppendOnly,
        }
    }

    #[test]
    fn a_new_id_is_on_disk_before_it_is_in_force() {
        let fs = PowerLossFs::new("/d");
        let history = opened(&fs, true);
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
        let history = opened(&fs, true);
        let prepared = history.prepare(B, 250, 0, Former::Keep).unwrap();
        history.replace([b'c'; 40], 900);
        assert!(!history.commit(prepared));
        assert_eq!(history.present().replid, [b'c'; 40]);
    }

    #[test]
    fn without_a_log_the_file_keeps_what_belongs_to_the_log_on_disk() {
        let fs = PowerLossFs::new("/d");
        let history = opened(&fs, true);
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
}
