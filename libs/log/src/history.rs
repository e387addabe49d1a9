//! Replication ids past and present, and the decision on a replica's PSYNC.
//!
//! `replication.state` holds the stream that the data set stands at (id, offset, database)
//! and the last 64 former ids, each with the offset up to which its stream equals ours.
//! Every start as a master mints a new id, since replicas may hold bytes that a power loss
//! took from us; the former id stays valid up to the recovered offset.
//!
//! An id may change in the middle of a segment: the sidecar names the id of the segment's
//! first byte, this file all later ones. So it is replaced, durably, before a byte is
//! appended under a new id. And it says which log it is about ([`LogOrigin`]): the histories
//! of earlier logs stay in it until a start has seen which log the manifest names.
//!
//! Offsets count bytes: a replica *at* offset N has N bytes. On the wire PSYNC asks for the
//! next byte, 1-based: `PSYNC id N+1`.

mod file;

pub use file::{HISTORIES_MAX, Histories};

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::checked_file::{Reader, StateFileError};
use crate::fs::Fs;
use crate::sidecar::HexId;

/// Name of the file in the data directory.
pub const STATE_FILE_NAME: &str = "replication.state";
/// Number of former ids kept.
pub const HISTORY_MAX: usize = 64;

/// A former id of our stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerId {
    /// The replication id.
    pub replid: HexId,
    /// Offset up to which the stream of that id equals ours.
    pub valid_to_offset: u64,
}

/// The very snapshot file that an unlisted log continues (AOF off): the log may be
/// replayed over `dump.rdb` only if that file is this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotIdentity {
    /// Length in bytes.
    pub file_bytes: u64,
    /// The file's CRC-64 trailer.
    pub crc64: u64,
    /// Replication id at its cut.
    pub replid: HexId,
    /// Stream offset at its cut.
    pub offset: u64,
}

/// Where a log began that has gone on without a break since. Files of other logs may lie
/// beside it and end at the same offsets, under the same ids; they hold other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOrigin {
    /// Number of its first segment in the append-only directory.
    pub sequence: u64,
    /// Stream offset of its first byte.
    pub offset: u64,
}

/// One history: the ids of a stream, and the log that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationState {
    /// Current id.
    pub replid: HexId,
    /// Stream offset when the file was written.
    pub offset: u64,
    /// Database selected in the stream at that offset.
    pub database: u32,
    /// Former ids, newest first, at most [`HISTORY_MAX`].
    former: VecDeque<FormerId>,
    /// The snapshot that `repl/` continues, if any.
    pub snapshot: Option<SnapshotIdentity>,
    /// The log that this is the history of.
    pub origin: LogOrigin,
    /// All of the log is a master's stream: it has nothing that the master may lack.
    pub is_copy: bool,
    /// A base of the log has changes that are in nobody's stream: those of a replica's own clients.
    pub has_own_changes: bool,
}

/// Bits of the byte in front of the snapshot.
const HAS_SNAPSHOT: u8 = 1;
const IS_COPY: u8 = 2;
const HAS_OWN_CHANGES: u8 = 4;

impl ReplicationState {
    /// A state without history.
    pub fn new(replid: HexId, offset: u64, database: u32) -> Self {
        Self {
            replid,
            offset,
            database,
            former: VecDeque::new(),
            snapshot: None,
            origin: LogOrigin::default(),
            is_copy: false,
            has_own_changes: false,
        }
    }

    /// Former ids, newest first; INFO shows the first one as `master_replid2`.
    pub fn former(&self) -> impl ExactSizeIterator<Item = &FormerId> {
        self.former.iter()
    }

    /// The stream goes on under a new id from `offset` (start as master, promotion, a
    /// `+CONTINUE` with another id): the present one becomes history, valid up to there. Whether the
    /// log is still a copy is for who knows whose id it is.
    pub fn change_id(&mut self, replid: HexId, offset: u64) {
        self.offset = offset;
        if replid == self.replid {
            return;
        }
        let old = self.replid;
        self.stands_at(offset);
        self.former
            .retain(|entry| entry.replid != old && entry.replid != replid);
        self.former.push_front(FormerId {
            replid: old,
            valid_to_offset: offset,
        });
        self.former.truncate(HISTORY_MAX);
        self.replid = replid;
        self.is_copy = false;
    }

    /// The stream was found to end at `offset` (a start that goes on under the same id): ids
    /// beyond it promise bytes that we do not have.
    pub fn stands_at(&mut self, offset: u64) {
        self.offset = offset;
        for entry in &mut self.former {
            entry.valid_to_offset = entry.valid_to_offset.min(offset);
        }
    }

    /// Whether a segment that begins at `offset` under `replid` can be one of this stream's. Ids
    /// that were forgotten for newer ones count.
    pub fn knows(&self, replid: &HexId, offset: u64) -> bool {
        self.replid == *replid
            || self.former.len() == HISTORY_MAX
            || self
                .former
                .iter()
                .any(|former| former.replid == *replid && offset <= former.valid_to_offset)
    }

    /// The id under which the byte before `offset` was appended: others who have that byte may
    /// know no later one.
    pub fn id_of_byte_before(&self, offset: u64) -> HexId {
        let later = self.former.iter();
        let earlier = later.take_while(|former| former.valid_to_offset >= offset);
        earlier.last().map_or(self.replid, |former| former.replid)
    }

    /// What stood here before the last change of the id: the file is ahead of the server for a
    /// moment.
    pub fn before_last_change(&self) -> Option<Self> {
        let mut state = self.clone();
        let former = state.former.pop_front()?;
        state.replid = former.replid;
        state.offset = former.valid_to_offset;
        Some(state)
    }

    /// The data set was replaced by a full sync: another stream, no shared history.
    pub fn replace_stream(&mut self, replid: HexId, offset: u64, database: u32) {
        *self = Self::new(replid, offset, database);
    }

    fn encode(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(&self.replid);
        body.extend_from_slice(&self.offset.to_le_bytes());
        body.extend_from_slice(&self.database.to_le_bytes());
        let snapshot = if self.snapshot.is_some() {
            HAS_SNAPSHOT
        } else {
            0
        };
        let copy = if self.is_copy { IS_COPY } else { 0 };
        let own = if self.has_own_changes {
            HAS_OWN_CHANGES
        } else {
            0
        };
        body.push(snapshot | copy | own);
        if let Some(snapshot) = &self.snapshot {
            body.extend_from_slice(&snapshot.file_bytes.to_le_bytes());
            body.extend_from_slice(&snapshot.crc64.to_le_bytes());
            body.extend_from_slice(&snapshot.replid);
            body.extend_from_slice(&snapshot.offset.to_le_bytes());
        }
        body.extend_from_slice(&(self.former.len() as u32).to_le_bytes());
        for entry in &self.former {
            body.extend_from_slice(&entry.replid);
            body.extend_from_slice(&entry.valid_to_offset.to_le_bytes());
        }
        body.extend_from_slice(&self.origin.sequence.to_le_bytes());
        body.extend_from_slice(&self.origin.offset.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut state = Self::new(reader.array()?, reader.u64()?, reader.u32()?);
        let flags = reader.u8()?;
        if flags & !(HAS_SNAPSHOT | IS_COPY | HAS_OWN_CHANGES) != 0 {
            return None;
        }
        state.is_copy = flags & IS_COPY != 0;
        state.has_own_changes = flags & HAS_OWN_CHANGES != 0;
        if flags & HAS_SNAPSHOT != 0 {
            state.snapshot = Some(SnapshotIdentity {
                file_bytes: reader.u64()?,
                crc64: reader.u64()?,
                replid: reader.array()?,
                offset: reader.u64()?,
            });
        }
        let count = reader.u32()? as usize;
        if count > HISTORY_MAX {
            return None;
        }
        for _ in 0..count {
            state.former.push_back(FormerId {
                replid: reader.array()?,
                valid_to_offset: reader.u64()?,
            });
        }
        state.origin = LogOrigin {
            sequence: reader.u64()?,
            offset: reader.u64()?,
        };
        Some(state)
    }

    /// The newest history of the file in the data directory; `None` if there is none.
    pub fn load(fs: &dyn Fs, directory: &Path) -> Result<Option<Self>, StateFileError> {
        let histories = Histories::load(fs, directory)?;
        Ok(histories.map(|histories| histories.newest().clone()))
    }

    /// Stores a file with this history alone, durably; `check` runs before the rename.
    pub fn store(
        &self,
        fs: &dyn Fs,
        directory: &Path,
        check: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), StateFileError> {
        Histories::new(self.clone()).store(fs, directory, check)
    }
}

/// Stream offsets that the kept segments hold without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainedRange {
    /// Offset before the first byte held.
    pub start_offset: u64,
    /// Offset behind the last byte held.
    pub end_offset: u64,
}

/// The answer to a PSYNC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// `+CONTINUE`: feed from this offset (the number of bytes that the replica has).
    Continue {
        /// First byte to send, as a 0-based offset.
        from_offset: u64,
        /// The replica knows the current id; else it must be told the new one.
        id_is_current: bool,
    },
    /// `+FULLRESYNC`.
    FullResync(FullResyncReason),
}

/// Why a replica can't continue; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullResyncReason {
    /// The replica asked for one (`?`), or its id or offset is malformed.
    Asked,
    /// The id is neither current nor in the history.
    UnknownId,
    /// The replica has bytes of a former id beyond the point where our stream left it.
    Diverged {
        /// Where it did.
        valid_to_offset: u64,
    },
    /// The bytes it lacks are no longer kept, or there is no log.
    NotRetained,
    /// It claims more bytes than the stream has.
    Ahead,
}

/// Decides on `PSYNC asked_replid asked_offset` as they stand on the wire. Ids compare
/// without regard to case, as in Redis. `retained` is `None` when no log is kept.
pub fn can_continue(
    state: &ReplicationState,
    retained: Option<RetainedRange>,
    asked_replid: &[u8],
    asked_offset: i64,
) -> Decision {
    let held = asked_offset
        .checked_sub(1)
        .and_then(|offset| u64::try_from(offset).ok());
    let (Some(held), true) = (held, asked_replid.len() == 40) else {
        return Decision::FullResync(FullResyncReason::Asked);
    };
    let id_is_current = asked_replid.eq_ignore_ascii_case(&state.replid);
    if !id_is_current {
        let former = state
            .former()
            .find(|entry| asked_replid.eq_ignore_ascii_case(&entry.replid));
        match former {
            None => return Decision::FullResync(FullResyncReason::UnknownId),
            Some(entry) if held > entry.valid_to_offset => {
                return Decision::FullResync(FullResyncReason::Diverged {
                    valid_to_offset: entry.valid_to_offset,
                });
            }
            Some(_) => {}
        }
    }
    match retained {
        Some(range) if held > range.end_offset => Decision::FullResync(FullResyncReason::Ahead),
        Some(range) if held >= range.start_offset => Decision::Continue {
            from_offset: held,
            id_is_current,
        },
        _ => Decision::FullResync(FullResyncReason::NotRetained),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::PowerLossFs;

    fn id(letter: u8) -> HexId {
        [letter; 40]
    }

    const RANGE: RetainedRange = RetainedRange {
        start_offset: 100,
        end_offset: 500,
    };

    #[test]
    fn the_state_reads_back_with_its_history_and_snapshot() {
        let fs = PowerLossFs::new("/d");
        let dir = Path::new("/d");
        assert_eq!(ReplicationState::load(&fs, dir).unwrap(), None);
        let mut state = ReplicationState::new(id(b'0'), 0, 3);
        for number in 1..=100u8 {
            state.change_id(id(number), u64::from(number) * 10);
        }
        state.snapshot = Some(SnapshotIdentity {
            file_bytes: 1,
            crc64: 2,
            replid: id(b'x'),
            offset: 3,
        });
        state.origin = LogOrigin {
            sequence: 7,
            offset: 90,
        };
        state.is_copy = true;
        state.has_own_changes = true;
        state.store(&fs, dir, &|| Ok(())).unwrap();
        let read = ReplicationState::load(&fs, dir).unwrap().unwrap();
        assert_eq!(read, state);
        assert_eq!(read.former().len(), HISTORY_MAX);
        assert_eq!(read.former().next().unwrap().replid, id(99));
        assert_eq!(read.former().next().unwrap().valid_to_offset, 1000);
        fs.flip_bits(&dir.join(STATE_FILE_NAME), 30, 1);
        assert!(ReplicationState::load(&fs, dir).is_err());
    }

    #[test]
    fn the_current_id_continues_anywhere_in_the_retained_range() {
        let state = ReplicationState::new(id(b'a'), 500, 0);
        let decide = |offset| can_continue(&state, Some(RANGE), &id(b'A'), offset);
        assert_eq!(
            decide(101),
            Decision::Continue {
                from_offset: 100,
                id_is_current: true
            }
        );
        assert!(matches!(
            decide(501),
            Decision::Continue {
                from_offset: 500,
                ..
            }
        ));
        assert_eq!(
            decide(100),
            Decision::FullResync(FullResyncReason::NotRetained)
        );
        assert_eq!(decide(502), Decision::FullResync(FullResyncReason::Ahead));
        assert_eq!(decide(-1), Decision::FullResync(FullResyncReason::Asked));
        assert_eq!(
            decide(i64::MIN),
            Decision::FullResync(FullResyncReason::Asked)
        );
        let none = can_continue(&state, None, &id(b'a'), 500);
        assert_eq!(none, Decision::FullResync(FullResyncReason::NotRetained));
        let question = can_continue(&state, Some(RANGE), b"?", -1);
        assert_eq!(question, Decision::FullResync(FullResyncReason::Asked));
    }

    #[test]
    fn a_former_id_continues_only_up_to_where_our_stream_left_it() {
        let mut state = ReplicationState::new(id(b'a'), 0, 0);
        state.change_id(id(b'b'), 300);
        state.change_id(id(b'c'), 400);
        let decide = |letter, offset| can_continue(&state, Some(RANGE), &id(letter), offset);
        assert_eq!(
            decide(b'a', 301),
            Decision::Continue {
                from_offset: 300,
                id_is_current: false
            }
        );
        let diverged = FullResyncReason::Diverged {
            valid_to_offset: 300,
        };
        assert_eq!(decide(b'a', 302), Decision::FullResync(diverged));
        assert!(matches!(decide(b'b', 401), Decision::Continue { .. }));
        assert_eq!(
            decide(b'z', 301),
            Decision::FullResync(FullResyncReason::UnknownId)
        );
    }

    #[test]
    fn an_offset_that_a_power_loss_took_back_shortens_all_former_ids() {
        let mut state = ReplicationState::new(id(b'a'), 0, 0);
        state.change_id(id(b'b'), 450);
        state.change_id(id(b'c'), 420);
        assert!(state.former().all(|entry| entry.valid_to_offset == 420));
        state.replace_stream(id(b'd'), 9, 1);
        assert_eq!(state.former().len(), 0);
    }

    #[test]
    fn the_last_byte_is_known_by_the_id_that_was_in_force_when_it_was_appended() {
        let mut state = ReplicationState::new(id(b'a'), 0, 0);
        assert_eq!(state.id_of_byte_before(700), id(b'a'));
        state.change_id(id(b'b'), 300);
        // Two starts, and nothing was appended since.
        state.change_id(id(b'c'), 500);
        state.change_id(id(b'd'), 500);
        assert_eq!(state.id_of_byte_before(500), id(b'b'));
        assert_eq!(state.id_of_byte_before(501), id(b'd'));
    }

    #[test]
    fn a_segment_belongs_to_the_stream_if_its_first_byte_does() {
        let mut state = ReplicationState::new(id(b'a'), 0, 0);
        state.change_id(id(b'b'), 300);
        assert!(state.knows(&id(b'a'), 300) && state.knows(&id(b'b'), 900));
        assert!(!state.knows(&id(b'a'), 301) && !state.knows(&id(b'z'), 0));
        let before = state.before_last_change().unwrap();
        assert_eq!((before.replid, before.former().len()), (id(b'a'), 0));
        assert_eq!(before.before_last_change(), None);
    }

    proptest! {
        #[test]
        fn any_body_decodes_or_is_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Histories::decode(&body);
        }

        #[test]
        fn what_continues_is_always_retained_and_valid(
            start in 0u64..50, length in 0u64..50, left_at in 0u64..120,
            asked in -5i64..130, letter in prop::sample::select(vec![b'a', b'b', b'z']),
        ) {
            let mut state = ReplicationState::new(id(b'a'), 0, 0);
            state.change_id(id(b'b'), left_at);
            let range = RetainedRange { start_offset: start, end_offset: start + length };
            if let Decision::Continue { from_offset, .. } =
                can_continue(&state, Some(range), &id(letter), asked)
            {
                prop_assert!(from_offset >= start && from_offset <= start + length);
                prop_assert!(letter == b'b' || (letter == b'a' && from_offset <= left_at));
                prop_assert_eq!(from_offset as i64 + 1, asked);
            }
        }
    }
}
