//! The state file: the history of the present log, and those of logs before it.
//!
//! A log that begins anew (after a full sync, or turned on again) replaces the former one only
//! when its base is in the manifest, and no rename covers both files. So the new history is
//! stored beside the old one before the log begins, and a start takes the one whose log the
//! manifest names: segment numbers rise and are never shared by two logs that both count.

use std::io;
use std::path::Path;

use super::{ReplicationState, STATE_FILE_NAME};
use crate::checked_file::{self, Reader, StateFileError};
use crate::fs::Fs;

/// Histories kept. More than two exist only after attempts to begin a log that failed; a start
/// that finds none for its log claims nothing of the past.
pub const HISTORIES_MAX: usize = 4;

const MAGIC: [u8; 8] = *b"RRREPLST";
const VERSION: u32 = 2;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histories {
    newest: ReplicationState,
    /// Newest first.
    earlier: Vec<ReplicationState>,
}

impl Histories {
    /// A history alone.
    pub fn new(newest: ReplicationState) -> Self {
        Self {
            newest,
            earlier: Vec::new(),
        }
    }

    /// The history of the log that began last.
    pub fn newest(&self) -> &ReplicationState {
        &self.newest
    }

    /// The same log goes on with another state.
    pub fn update(&mut self, newest: ReplicationState) {
        self.newest = newest;
    }

    /// Another log begins; its number is the largest so far, unless attempts to begin one have
    /// failed and their numbers were given anew.
    pub fn begin_log(&mut self, state: ReplicationState) {
        let before = std::mem::replace(&mut self.newest, state);
        self.earlier.insert(0, before);
        let first = self.newest.origin.sequence;
        self.earlier
            .retain(|history| history.origin.sequence < first);
        self.earlier.truncate(HISTORIES_MAX - 1);
    }

    /// The history of the log whose newest listed segment has this number.
    pub fn of_log(&self, last_sequence: u64) -> Option<&ReplicationState> {
        std::iter::once(&self.newest)
            .chain(&self.earlier)
            .find(|history| history.origin.sequence <= last_sequence)
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let count = usize::from(reader.u8()?);
        if count == 0 || count > HISTORIES_MAX {
            return None;
        }
        let mut histories = Self::new(ReplicationState::decode(&mut reader)?);
        for _ in 1..count {
            histories
                .earlier
                .push(ReplicationState::decode(&mut reader)?);
        }
        reader.is_empty().then_some(histories)
    }

    /// Loads the file from the data directory; `None` if there is none.
    pub fn load(fs: &dyn Fs, directory: &Path) -> Result<Option<Self>, StateFileError> {
        let path = directory.join(STATE_FILE_NAME);
        let Some(body) = checked_file::read(fs, &path, &MAGIC, VERSION)? else {
            return Ok(None);
        };
        match Self::decode(&body) {
            Some(histories) => Ok(Some(histories)),
            None => Err(StateFileError::Damaged {
                path,
                reason: "body",
            }),
        }
    }

    /// Stores the file durably; `check` runs before the rename.
    pub fn store(
        &self,
        fs: &dyn Fs,
        directory: &Path,
        check: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), StateFileError> {
        let mut body = vec![1 + self.earlier.len() as u8];
        self.newest.encode(&mut body);
        for history in &self.earlier {
            history.encode(&mut body);
        }
        let bytes = checked_file::encode(&MAGIC, VERSION, &body);
        checked_file::write(fs, &directory.join(STATE_FILE_NAME), &bytes, check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{HISTORY_MAX, LogOrigin};
    use crate::testing::PowerLossFs;

    fn history(letter: u8, sequence: u64) -> ReplicationState {
        let mut state = ReplicationState::new([letter; 40], sequence * 100, 0);
        state.origin = LogOrigin {
            sequence,
            offset: sequence * 100,
        };
        state
    }

    fn id_for(histories: &Histories, last_sequence: u64) -> Option<u8> {
        histories
            .of_log(last_sequence)
            .and_then(|history| history.replid.first().copied())
    }

    #[test]
    fn a_start_gets_the_history_of_the_log_that_the_manifest_names() {
        let mut histories = Histories::new(history(b'a', 3));
        histories.begin_log(history(b'b', 7));
        assert_eq!(id_for(&histories, 2), None);
        assert_eq!(id_for(&histories, 3), Some(b'a'));
        assert_eq!(id_for(&histories, 6), Some(b'a'));
        assert_eq!(id_for(&histories, 7), Some(b'b'));
        // The attempt failed, its file was removed, and its number is given again.
        histories.begin_log(history(b'c', 7));
        assert_eq!(id_for(&histories, 6), Some(b'a'));
        assert_eq!(id_for(&histories, 9), Some(b'c'));
        for sequence in 8..20 {
            histories.begin_log(history(b'd', sequence));
        }
        assert_eq!(
            id_for(&histories, 6),
            None,
            "what is forgotten claims nothing"
        );
        assert_eq!(id_for(&histories, 19), Some(b'd'));
    }

    #[test]
    fn all_histories_at_their_longest_fit_into_the_file() {
        let fs = PowerLossFs::new("/d");
        let dir = Path::new("/d");
        let full = |sequence| {
            let mut state = history(b'x', sequence);
            for number in 0..2 * HISTORY_MAX as u8 {
                state.change_id([number; 40], sequence * 100);
            }
            state
        };
        let mut histories = Histories::new(full(1));
        for sequence in 2..10 {
            histories.begin_log(full(sequence));
        }
        histories.store(&fs, dir, &|| Ok(())).unwrap();
        assert_eq!(Histories::load(&fs, dir).unwrap(), Some(histories.clone()));
        assert_eq!(
            ReplicationState::load(&fs, dir).unwrap().as_ref(),
            Some(histories.newest())
        );
    }
}
