//! What the allocator and the kernel say that this process uses, in bytes.
//!
//! The allocator's figures are those of its newest epoch; [`refresh`] starts one. It takes a few
//! microseconds, so it is called by the 100 ms tick and by the commands that show the figures.

use parking_lot::Mutex;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tikv_jemalloc_ctl::{epoch, raw, stats};

unsafe extern "C" {
    /// jemalloc's control interface, for what has neither input nor output.
    fn mallctl(
        name: *const c_char,
        old: *mut c_void,
        old_len: *mut usize,
        new: *mut c_void,
        new_len: usize,
    ) -> c_int;
    /// jemalloc's report.
    fn malloc_stats_print(
        write: extern "C" fn(*mut c_void, *const c_char),
        out: *mut c_void,
        options: *const c_char,
    );
}

/// Makes the allocator's figures current.
pub fn refresh() {
    // Failure means that the allocator was built without statistics: the figures stay zero.
    let _ = epoch::advance();
}

/// Bytes that were asked for and not freed (`used_memory`). What threads have set aside to hand
/// out again is free.
pub fn allocated() -> usize {
    // 4096 stands for all arenas (MALLCTL_ARENAS_ALL).
    // SAFETY: the name is terminated and its value a `size_t`.
    let aside = unsafe { raw::read::<usize>(b"stats.arenas.4096.tcache_bytes\0") };
    let allocated = stats::allocated::read().unwrap_or(0);
    allocated.saturating_sub(aside.unwrap_or(0))
}

/// Bytes in pages that hold allocations.
pub fn active() -> usize {
    stats::active::read().unwrap_or(0)
}

/// Bytes of physical memory that the allocator holds.
pub fn resident() -> usize {
    stats::resident::read().unwrap_or(0)
}

/// How old figures may be that are shown.
const SHOWN_AGE_MAX: Duration = Duration::from_millis(1);

/// Makes the allocator's and the kernel's figures as current as who asks can tell: who asks all the
/// time does not hold up others by it.
pub fn refresh_shown() {
    static REFRESHED: Mutex<Option<Instant>> = Mutex::new(None);
    let mut refreshed = REFRESHED.lock();
    if refreshed.is_none_or(|at| at.elapsed() > SHOWN_AGE_MAX) {
        refresh();
        PROCESS_RESIDENT.store(read_process_resident(), Ordering::Relaxed);
        *refreshed = Some(Instant::now());
    }
}

static PROCESS_RESIDENT: AtomicUsize = AtomicUsize::new(0);

/// Physical memory of the whole process (`used_memory_rss`), as of the last [`refresh_shown`].
pub fn process_resident() -> usize {
    PROCESS_RESIDENT.load(Ordering::Relaxed)
}

fn read_process_resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split_ascii_whitespace().nth(1);
    let resident = resident.and_then(|pages| pages.parse::<usize>().ok());
    // SAFETY: this call only returns a number.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    resident.unwrap_or(0) * usize::try_from(page_bytes).unwrap_or(0)
}

/// Physical memory of the machine.
pub fn system_total() -> usize {
    // Scripts ask at every run; the kernel writes out the whole file for each reader.
    static TOTAL: OnceLock<usize> = OnceLock::new();
    *TOTAL.get_or_init(read_system_total)
}

fn read_system_total() -> usize {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_ascii_whitespace()
            .next()?
            .parse::<usize>()
            .ok()
    });
    total.unwrap_or(0) * 1024
}

/// Gives unused pages back to the kernel; false if the allocator refuses.
pub fn purge() -> bool {
    // 4096 stands for all arenas (MALLCTL_ARENAS_ALL).
    let name = c"arena.4096.purge";
    // SAFETY: a terminated name of an operation that neither reads nor writes anything.
    unsafe {
        mallctl(
            name.as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        ) == 0
    }
}

/// Gives what the calling thread has set aside back to the arenas: only then is what it freed no
/// longer counted as allocated.
pub fn flush_thread_cache() {
    // SAFETY: a terminated name of an operation that neither reads nor writes anything. It fails
    // where there is no cache, which is as good.
    let _ = unsafe {
        mallctl(
            c"thread.tcache.flush".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
}

/// The allocator's own report (MEMORY MALLOC-STATS).
pub fn report() -> Vec<u8> {
    extern "C" fn append(out: *mut c_void, text: *const c_char) {
        // SAFETY: `out` is the vector below, `text` a terminated string of the allocator.
        unsafe { (*out.cast::<Vec<u8>>()).extend_from_slice(CStr::from_ptr(text).to_bytes()) };
    }
    let mut out: Vec<u8> = Vec::new();
    // SAFETY: the callback is called before this returns, with the pointer given.
    unsafe {
        malloc_stats_print(
            append,
            std::ptr::from_mut(&mut out).cast(),
            std::ptr::null(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_there_and_in_order() {
        refresh();
        refresh_shown();
        assert!(process_resident() > 1 << 20);
        assert!(system_total() > process_resident());
        assert!(purge());
        assert!(report().starts_with(b"___ Begin jemalloc statistics"));
    }
}
