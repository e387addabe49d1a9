//! What RocksDB tells of its work in the background, and which of its failures may stop it.
//!
//! Left alone, RocksDB refuses all writes until it is opened again as soon as a compaction meets
//! a damaged block or a flush meets any error but a full disk; its way back (`DB::Resume`) is
//! not in its C interface. Opening again would lose what is in memtables, of which there is no
//! log. So the listener takes these two kinds of failure upon itself, and RocksDB goes on:
//! - a compaction leaves its input files as they were: nothing is lost, but the work is never
//!   done. It is noted as damage ([`Background::damage`]); RocksDB tries again each second.
//! - a flush keeps its memtables in memory. It is noted, nothing more is written, and the flush
//!   is asked for again ([`Background::flush_trouble`]).
//!
//! A full disk stays RocksDB's: it refuses writes, watches the free space and resumes by itself.
//! So does what can't be repaired (its manifest): it stays refused ([`Background::stop_trouble`]).

use crate::priority;
use librocksdb_sys as ffi;
use parking_lot::Mutex;
use rocksdb::{AsRawPtr as _, Options};
use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

// RocksDB's `BackgroundErrorReason`.
const FLUSH: u32 = 0;
const COMPACTION: u32 = 1;
const FLUSH_WITHOUT_LOG: u32 = 5;
/// In the text of a status for a full disk.
const NO_SPACE: &str = "No space left on device";

/// The beginning of a status for what may be better the next time.
const IO_ERROR: &str = "IO error";

/// See the module.
#[derive(Debug, Default)]
pub struct Background {
    damage: Mutex<Option<String>>,
    flush: Mutex<Option<String>>,
    stop: Mutex<Option<String>>,
    errors: AtomicU64,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Damage,
    Flush,
    Stop,
}

fn judge(reason: u32, text: &str) -> Verdict {
    match reason {
        _ if text.contains(NO_SPACE) => Verdict::Stop,
        COMPACTION => Verdict::Damage,
        FLUSH | FLUSH_WITHOUT_LOG => Verdict::Flush,
        _ => Verdict::Stop,
    }
}

impl Background {
    /// A file that compaction can't read or write.
    pub fn damage(&self) -> Option<String> {
        self.damage.lock().clone()
    }

    /// Whether a file's bytes are wrong: trying again is of no use.
    pub fn is_corrupt(&self) -> bool {
        let damage = self.damage.lock();
        damage
            .as_deref()
            .is_some_and(|text| !text.starts_with(IO_ERROR))
    }

    /// Forgets the damage, before compaction is tried again.
    pub fn forget_damage(&self) {
        *self.damage.lock() = None;
    }

    /// Why memtables can't be written; until a flush has succeeded.
    pub fn flush_trouble(&self) -> Option<String> {
        self.flush.lock().clone()
    }

    /// Why RocksDB has refused writes; until one is known to be taken.
    pub fn stop_trouble(&self) -> Option<String> {
        self.stop.lock().clone()
    }

    /// A write was taken.
    pub fn forget_stop(&self) {
        *self.stop.lock() = None;
    }

    /// Failures of flushes and compactions so far.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Notes a failure; whether it may stop RocksDB.
    fn note(&self, reason: u32, text: String) -> bool {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let verdict = judge(reason, &text);
        let slot = match verdict {
            Verdict::Damage => &self.damage,
            Verdict::Flush => &self.flush,
            Verdict::Stop => &self.stop,
        };
        *slot.lock() = Some(text);
        verdict == Verdict::Stop
    }

    /// Has it told what the databases opened with `options` do.
    pub(super) fn listen(self: &Arc<Self>, options: &mut Options) {
        let state = Arc::into_raw(self.clone()).cast_mut().cast::<c_void>();
        // SAFETY: all callbacks are given and have the signatures that are declared for them; the
        // options take the listener over, and it takes `state` over, which `destroy` releases when
        // the last database that uses it is closed.
        unsafe {
            let listener = ffi::rocksdb_eventlistener_create(
                state,
                Some(destroy),
                Some(on_flush),
                Some(on_flush_completed),
                Some(on_compaction),
                Some(on_compaction_completed),
                Some(on_subcompaction),
                Some(on_subcompaction),
                Some(on_ingested),
                Some(on_background_error),
                Some(on_stall),
                Some(on_sealed),
            );
            ffi::rocksdb_options_add_eventlistener(options.as_raw_ptr(), listener);
        }
    }
}

/// What `state` points to.
///
/// # Safety
/// `state` comes from [`Background::listen`] and has not been destroyed.
unsafe fn background<'a>(state: *mut c_void) -> &'a Background {
    // SAFETY: it is what `Arc::into_raw` gave, and the listener holds that reference.
    unsafe { &*state.cast::<Background>() }
}

unsafe extern "C" fn destroy(state: *mut c_void) {
    // SAFETY: called once, with what `Arc::into_raw` gave.
    drop(unsafe { Arc::from_raw(state.cast::<Background>()) });
}

unsafe extern "C" fn on_background_error(
    state: *mut c_void,
    reason: u32,
    status: *mut ffi::rocksdb_status_ptr_t,
) {
    // SAFETY: RocksDB passes our state and a status that lives as long as the call.
    unsafe {
        let text = status_text(status);
        if !background(state).note(reason, text) {
            ffi::rocksdb_reset_status(status);
        }
    }
}

/// # Safety
/// `status` is valid.
unsafe fn status_text(status: *mut ffi::rocksdb_status_ptr_t) -> String {
    let mut text: *mut c_char = std::ptr::null_mut();
    // SAFETY: the text is a string that is ours to free.
    unsafe {
        ffi::rocksdb_status_ptr_get_error(status, &mut text);
        if text.is_null() {
            return String::new();
        }
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        ffi::rocksdb_free(text.cast());
        owned
    }
}

unsafe extern "C" fn on_flush_completed(
    state: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_flushjobinfo_t,
) {
    // SAFETY: RocksDB passes our state.
    *unsafe { background(state) }.flush.lock() = None;
}

unsafe extern "C" fn on_compaction_completed(
    state: *mut c_void,
    _: *mut ffi::rocksdb_t,
    info: *const ffi::rocksdb_compactionjobinfo_t,
) {
    let mut error: *mut c_char = std::ptr::null_mut();
    // SAFETY: RocksDB passes our state and what lives as long as the call; the text is ours to
    // free.
    let background = unsafe {
        ffi::rocksdb_compactionjobinfo_status(info, &mut error);
        if !error.is_null() {
            ffi::rocksdb_free(error.cast());
            return;
        }
        background(state)
    };
    // A disk that has come back; a damaged file is not among those that were read now.
    if !background.is_corrupt() {
        background.forget_damage();
    }
}

// These two begin on the thread that will do the work.

unsafe extern "C" fn on_flush(
    _: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_flushjobinfo_t,
) {
    priority::lower(priority::FLUSH);
}

unsafe extern "C" fn on_compaction(
    _: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_compactionjobinfo_t,
) {
    priority::lower(priority::COMPACTION);
}

// RocksDB calls these without a look whether they are there.

unsafe extern "C" fn on_subcompaction(
    _: *mut c_void,
    _: *const ffi::rocksdb_subcompactionjobinfo_t,
) {
}

unsafe extern "C" fn on_ingested(
    _: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_externalfileingestioninfo_t,
) {
}

unsafe extern "C" fn on_stall(_: *mut c_void, _: *const ffi::rocksdb_writestallinfo_t) {}

unsafe extern "C" fn on_sealed(_: *mut c_void, _: *const ffi::rocksdb_memtableinfo_t) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_and_what_can_not_be_repaired_stop_rocksdb() {
        let background = Background::default();
        assert!(background.note(COMPACTION, format!("IO error: {NO_SPACE}: x")));
        assert!(background.note(FLUSH_WITHOUT_LOG, format!("IO error: {NO_SPACE}: x")));
        assert!(background.note(6, "IO error: manifest".into()));
        assert_eq!(
            background.stop_trouble().as_deref(),
            Some("IO error: manifest")
        );
        assert!(!background.note(COMPACTION, "Corruption: block".into()));
        assert!(!background.note(FLUSH_WITHOUT_LOG, "IO error: no such file".into()));
        assert_eq!(background.damage().as_deref(), Some("Corruption: block"));
        assert_eq!(
            background.flush_trouble().as_deref(),
            Some("IO error: no such file")
        );
        assert_eq!(background.errors(), 5);
    }
}
