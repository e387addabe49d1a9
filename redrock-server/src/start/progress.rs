//! How far a load is: for INFO, the log and `-LOADING`.

use parking_lot::Mutex;
use redrock_rdb::file::ModuleTally;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The load under way, written by the loader and read by anybody.
#[derive(Debug, Default)]
pub struct LoadingState {
    active: AtomicBool,
    started_ms: AtomicI64,
    total_bytes: AtomicU64,
    loaded_bytes: AtomicU64,
    keys: AtomicU64,
    expired: AtomicU64,
    logged_ms: AtomicI64,
    used_memory_bytes: AtomicU64,
    modules: Mutex<ModuleTally>,
}

/// Pause between lines about progress.
const LOG_INTERVAL_MS: i64 = 5000;

/// What INFO shows of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// `loading_start_time`, unix seconds.
    pub start_time: i64,
    /// `loading_total_bytes`
    pub total_bytes: u64,
    /// `loading_loaded_bytes`
    pub loaded_bytes: u64,
    /// `loading_loaded_perc`
    pub percent: f64,
    /// `loading_eta_seconds`
    pub eta_seconds: u64,
    /// `loading_bytes_per_sec`
    pub bytes_per_second: u64,
    /// `rdb_last_load_keys_loaded`
    pub keys: u64,
    /// `rdb_last_load_keys_expired`
    pub expired: u64,
    /// `loading_rdb_used_mem`: memory of the server that wrote the RDB, as it says itself.
    pub used_memory_bytes: u64,
}

impl Progress {
    /// For the log. Without a known end only what was done.
    fn line(&self) -> String {
        let Self {
            percent,
            loaded_bytes,
            total_bytes,
            eta_seconds,
            bytes_per_second,
            keys,
            ..
        } = self;
        let rate = *bytes_per_second as f64 / 1e6;
        if *total_bytes == 0 {
            return format!("Loading: {loaded_bytes} bytes and {keys} keys so far, {rate:.1} MB/s");
        }
        format!(
            "Loading: {percent:.1}% ({loaded_bytes} of {total_bytes} bytes), {rate:.1} MB/s, \
             about {eta_seconds} s left"
        )
    }
}

impl LoadingState {
    /// A load of this many bytes begins.
    pub fn begin(&self, total_bytes: u64) {
        self.count_anew(total_bytes);
        self.active.store(true, Ordering::Release);
    }

    /// A load begins that keeps nobody out by itself.
    pub fn count_anew(&self, total_bytes: u64) {
        let now = crate::clock::unix_ms();
        self.started_ms.store(now, Ordering::Relaxed);
        self.logged_ms.store(now, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.loaded_bytes.store(0, Ordering::Relaxed);
        self.keys.store(0, Ordering::Relaxed);
        self.expired.store(0, Ordering::Relaxed);
        self.used_memory_bytes.store(0, Ordering::Relaxed);
        *self.modules.lock() = ModuleTally::default();
    }

    /// The load is over.
    pub fn end(&self) {
        self.active.store(false, Ordering::Release);
    }

    /// Whether a load is under way that keeps clients out.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// More bytes were read.
    pub fn add_bytes(&self, bytes: u64) {
        self.loaded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A key of an RDB was loaded.
    pub fn add_key(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// A key of an RDB had expired.
    pub fn add_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// An RDB says how much memory its writer had.
    pub fn set_used_memory(&self, bytes: u64) {
        self.used_memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What an RDB had of modules, which was left out.
    pub fn set_modules(&self, modules: &ModuleTally) {
        self.modules.lock().clone_from(modules);
    }

    /// What the last RDB had of modules.
    pub fn modules(&self) -> ModuleTally {
        self.modules.lock().clone()
    }

    /// Sets the bytes to load once they are known.
    pub fn set_total(&self, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    /// Says how far the load is, each few seconds. What a replica's stream waits for behind the snapshot is no
    /// load.
    pub fn log_progress(&self) {
        if let Some(line) = self.due_line(crate::clock::unix_ms(), LOG_INTERVAL_MS) {
            tracing::info!("{line}");
        }
    }

    /// The line for the log if the last one is so old.
    fn due_line(&self, now_ms: i64, interval_ms: i64) -> Option<String> {
        if now_ms - self.logged_ms.load(Ordering::Relaxed) < interval_ms {
            return None;
        }
        let progress = self.progress();
        if !self.is_active() && progress.percent >= 100.0 {
            return None;
        }
        self.logged_ms.store(now_ms, Ordering::Relaxed);
        Some(progress.line())
    }

    /// How far the present or the last load is.
    pub fn progress(&self) -> Progress {
        let started_ms = self.started_ms.load(Ordering::Relaxed);
        let total_bytes = self.total_bytes.load(Ordering::Relaxed);
        let loaded_bytes = match self.loaded_bytes.load(Ordering::Relaxed) {
            read if total_bytes == 0 => read,
            read => read.min(total_bytes),
        };
        let elapsed_s = (crate::clock::unix_ms() - started_ms).max(0) as f64 / 1000.0;
        let rate = loaded_bytes as f64 / elapsed_s.max(0.001);
        let left = total_bytes.saturating_sub(loaded_bytes) as f64;
        Progress {
            start_time: started_ms / 1000,
            total_bytes,
            loaded_bytes,
            percent: match total_bytes {
                0 => 0.0,
                total => loaded_bytes as f64 * 100.0 / total as f64,
            },
            // Redis's guess before anything is known.
            eta_seconds: if loaded_bytes == 0 {
                1
            } else {
                (left / rate) as u64
            },
            bytes_per_second: rate as u64,
            keys: self.keys.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            used_memory_bytes: self.used_memory_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_with_what_is_known_of_the_end() {
        let loading = LoadingState::default();
        loading.begin(0);
        let begun = crate::clock::unix_ms();
        loading.started_ms.store(begun - 10_000, Ordering::Relaxed);
        loading.add_bytes(300);
        loading.add_key();
        assert_eq!(
            loading.progress().line(),
            "Loading: 300 bytes and 1 keys so far, 0.0 MB/s"
        );
        loading.set_total(1200);
        let line = loading.progress().line();
        assert!(
            line.starts_with("Loading: 25.0% (300 of 1200 bytes)"),
            "{line}"
        );
        loading.add_bytes(2000);
        assert_eq!(loading.progress().loaded_bytes, 1200);
    }
    #[test]
    fn a_line_with_percent_and_time_left_is_due_each_few_seconds() {
        let loading = LoadingState::default();
        loading.begin(1000);
        let begun = crate::clock::unix_ms();
        loading.started_ms.store(begun - 10_000, Ordering::Relaxed);
        loading.add_bytes(250);
        assert_eq!(loading.due_line(begun + 4000, LOG_INTERVAL_MS), None);
        let line = loading.due_line(begun + 5001, LOG_INTERVAL_MS).unwrap();
        // A quarter took ten seconds, give or take what this test takes.
        let head = "Loading: 25.0% (250 of 1000 bytes), 0.0 MB/s, about ";
        let left = line
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(" s left"));
        let seconds: u64 = left.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        assert!((30..60).contains(&seconds), "{line}");
        assert_eq!(loading.due_line(begun + 9000, LOG_INTERVAL_MS), None);
        assert!(loading.due_line(begun + 10_002, LOG_INTERVAL_MS).is_some());
    }
}
