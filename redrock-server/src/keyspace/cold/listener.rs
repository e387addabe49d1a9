//! What RocksDB tells of its work in the background, and what becomes of its failures (ADR 13).
//!
//! Left to itself, RocksDB refuses all writes until it is opened again as soon as a compaction meets
//! a damaged block, or a flush or its manifest any error but a full disk; its way back
//! (`DB::Resume`) is not in its C interface, and does not lead back from these. From a full disk it
//! comes back by itself, but for ever no more if another error comes before. Opening again would
//! lose what is in memtables, of which there is no log. So the listener takes failures upon itself,
//! and RocksDB goes on:
//! - a compaction leaves its input files as they were: nothing is lost, but the work is not done.
//!   It is noted as damage ([`Background::damage`]), or, where there was no room for its output, as
//!   that ([`Background::no_room`]); RocksDB tries again each second unless compaction is turned off.
//! - a flush, or what it writes to the manifest, keeps its memtables in memory. It is noted, nothing
//!   more is written, and the flush is asked for again ([`Background::flush_trouble`]).
//!
//! What else may fail (a memtable that takes no write) can't be repaired: RocksDB refuses writes from
//! then on ([`Background::stop_trouble`]).

use crate::priority;
use librocksdb_sys as ffi;
use parking_lot::{Condvar, Mutex};
use rocksdb::{AsRawPtr as _, Options};
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

// RocksDB's `BackgroundErrorReason`.
const FLUSH: u32 = 0;
const COMPACTION: u32 = 1;
const MANIFEST: u32 = 4;
const FLUSH_WITHOUT_LOG: u32 = 5;
const MANIFEST_WITHOUT_LOG: u32 = 6;
/// In the text of a status for a full disk.
pub const NO_SPACE: &str = "No space left on device";

/// The beginning of a status for what may be better the next time.
const IO_ERROR: &str = "IO error";

/// A compaction that found no room for its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    /// RocksDB's words.
    pub text: String,
    /// Bytes of the files that it was to rewrite.
    pub wanted_bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Background {
    damage: Mutex<Option<String>>,
    no_room: Mutex<Option<NoRoom>>,
    flush: Mutex<Option<String>>,
    stop: Mutex<Option<String>>,
    /// Flushes that have ended, one a column family, and failures.
    flushes: Mutex<u64>,
    flush_ended: Condvar,
    errors: AtomicU64,
    /// Compactions that found no room.
    without_room: AtomicU64,
    /// Bytes that the compaction which failed last was to rewrite.
    failed_bytes: AtomicU64,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Damage,
    NoRoom,
    Flush,
    Stop,
}

fn judge(reason: u32, text: &str) -> Verdict {
    match reason {
        COMPACTION if is_no_space(text) => Verdict::NoRoom,
        COMPACTION => Verdict::Damage,
        FLUSH | FLUSH_WITHOUT_LOG | MANIFEST | MANIFEST_WITHOUT_LOG => Verdict::Flush,
        _ => Verdict::Stop,
    }
}

/// Whether an error says that the disk is full.
pub fn is_no_space(text: &str) -> bool {
    text.contains(NO_SPACE)
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

    /// Forgets the damage, before compaction is tried again or because none is needed any more.
    pub fn forget_damage(&self) {
        *self.damage.lock() = None;
    }

    /// A compaction that found no room; until one has ended well.
    pub fn no_room(&self) -> Option<NoRoom> {
        self.no_room.lock().clone()
    }

    /// How often compactions found no room so far.
    pub fn without_room(&self) -> u64 {
        self.without_room.load(Ordering::Relaxed)
    }

    /// Nothing needs to be compacted any more, or it is tried again by hand.
    pub fn forget_no_room(&self) {
        *self.no_room.lock() = None;
    }

    /// Why memtables can't be written, or the manifest that names their files; until a flush has
    /// succeeded.
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

    /// Ends of flushes so far, one a column family, and failures.
    pub fn flush_ends(&self) -> u64 {
        *self.flushes.lock()
    }

    /// Waits until a flush ends, well or not, at most `timeout`.
    pub fn wait_flush(&self, timeout: Duration) {
        let mut flushes = self.flushes.lock();
        self.flush_ended.wait_for(&mut flushes, timeout);
    }

    fn note_flush_end(&self) {
        *self.flushes.lock() += 1;
        self.flush_ended.notify_all();
    }

    /// Notes a failure; whether it may stop RocksDB.
    fn note(&self, reason: u32, text: String) -> bool {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let verdict = judge(reason, &text);
        match verdict {
            Verdict::Damage => *self.damage.lock() = Some(text),
            Verdict::NoRoom => {
                let wanted_bytes = self.failed_bytes.load(Ordering::Relaxed);
                *self.no_room.lock() = Some(NoRoom { text, wanted_bytes });
                self.without_room.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Flush => *self.flush.lock() = Some(text),
            Verdict::Stop => *self.stop.lock() = Some(text),
        }
        self.note_flush_end();
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
    let background = unsafe { background(state) };
    *background.flush.lock() = None;
    background.note_flush_end();
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
        let background = background(state);
        if !error.is_null() {
            ffi::rocksdb_free(error.cast());
            // It is told before the failure is.
            let bytes = input_bytes(info);
            background.failed_bytes.store(bytes, Ordering::Relaxed);
            return;
        }
        background
    };
    background.forget_no_room();
    // A disk that has come back; a damaged file is not among those that were read now.
    if !background.is_corrupt() {
        background.forget_damage();
    }
}

/// Bytes of the tables that a compaction reads.
///
/// # Safety
/// `info` is valid.
unsafe fn input_bytes(info: *const ffi::rocksdb_compactionjobinfo_t) -> u64 {
    // SAFETY: the name is `length` bytes that live as long as `info`.
    let name = |at| unsafe {
        let mut length = 0;
        let name = ffi::rocksdb_compactionjobinfo_input_file_at(info, at, &mut length);
        (!name.is_null()).then(|| std::slice::from_raw_parts(name.cast::<u8>(), length))
    };
    // SAFETY: as above.
    let count = unsafe { ffi::rocksdb_compactionjobinfo_input_files_count(info) };
    let bytes = |name: &[u8]| {
        Path::new(OsStr::from_bytes(name))
            .metadata()
            .map(|m| m.len())
    };
    (0..count)
        .filter_map(name)
        .filter_map(|name| bytes(name).ok())
        .sum()
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
    fn only_what_can_not_be_repaired_stops_rocksdb() {
        let background = Background::default();
        let full = || format!("IO error: {NO_SPACE}: x");
        background.failed_bytes.store(700, Ordering::Relaxed);
        assert!(!background.note(COMPACTION, full()));
        let told = background.no_room().map(|room| room.wanted_bytes);
        assert_eq!((told, background.without_room()), (Some(700), 1));
        for reason in [FLUSH_WITHOUT_LOG, MANIFEST, MANIFEST_WITHOUT_LOG] {
            assert!(!background.note(reason, full()));
        }
        assert!(!background.note(MANIFEST, "IO error: manifest".into()));
        let trouble = background.flush_trouble();
        assert_eq!(trouble.as_deref(), Some("IO error: manifest"));
        assert!(!background.note(COMPACTION, "Corruption: block".into()));
        assert_eq!(background.damage().as_deref(), Some("Corruption: block"));
        assert_eq!(background.stop_trouble(), None);
        assert!(background.note(3, "Corruption: memtable".into()));
        let stopped = background.stop_trouble();
        assert_eq!(stopped.as_deref(), Some("Corruption: memtable"));
        assert_eq!(background.errors(), 7);
    }
}
