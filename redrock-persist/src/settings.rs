//! The server's configuration, as far as it concerns the persister.
//!
//! It comes over `Admin.WatchConfig`: everything first, then what changes. Values are the texts
//! of CONFIG GET. One that makes no sense leaves the former value and is logged once each time
//! it arrives; names that are not known are none of our business.

use std::path::Path;
use std::time::Duration;

use redrock_daemon::disk::automatic_backlog;
use redrock_daemon::logging::Level;
use redrock_daemon::schedule::Schedule;
use redrock_daemon::size::parse_size;
use redrock_proto::v1;

use crate::snapshot::pace::Rate;
use crate::snapshot::schedule::SavePoint;

/// What the persister goes by. [`Settings::default`] has Redis's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// File name in the data directory.
    pub dbfilename: String,
    /// Name of the append-only directory below the data directory.
    pub append_dir_name: String,
    pub append_file_name: String,
    pub append_only: bool,
    pub save_points: Vec<SavePoint>,
    /// 10, 11 or 12.
    pub rdb_version: u16,
    pub rdb_compression: bool,
    pub rdb_checksum: bool,
    /// Sync an RDB every few megabytes while it is written.
    pub save_incremental_fsync: bool,
    /// The same for bases.
    pub rewrite_incremental_fsync: bool,
    pub snapshot_rate: Rate,
    /// 0: no automatic rewrite.
    pub rewrite_percentage: u64,
    pub rewrite_min_bytes: u64,
    /// `aof-disable-auto-gc`: history is listed and not removed.
    pub keep_history: bool,
    /// `repl-backlog-size` in bytes: the least where the next one is automatic.
    pub backlog_bytes_min: u64,
    /// `repl-backlog-disk-size` in bytes; 0: by the size of the disk.
    pub backlog_disk_bytes: u64,
    /// `repl-backlog-disk-ttl`; `None` (0) is forever.
    pub backlog_ttl: Option<Duration>,
    /// `rdb-key-save-delay`: a pause before each key, for tests.
    pub key_delay: Duration,
    pub log_level: Option<Level>,
    /// `backup-dir`, below the data directory unless it is absolute.
    pub backup_dir: String,
    /// `backup-keep`: sets named by the time; 0 keeps all.
    pub backup_keep: usize,
    /// `backup-schedule`
    pub backup_schedule: Option<Schedule>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dbfilename: "dump.rdb".into(),
            append_dir_name: "appendonlydir".into(),
            append_file_name: "appendonly.aof".into(),
            append_only: false,
            save_points: Vec::new(),
            rdb_version: 10,
            rdb_compression: true,
            rdb_checksum: true,
            save_incremental_fsync: true,
            rewrite_incremental_fsync: true,
            snapshot_rate: Rate::Automatic,
            rewrite_percentage: 100,
            rewrite_min_bytes: 64 << 20,
            keep_history: false,
            backlog_bytes_min: 1 << 20,
            backlog_disk_bytes: 0,
            backlog_ttl: Some(Duration::from_secs(3600)),
            key_delay: Duration::ZERO,
            log_level: None,
            backup_dir: "backup".into(),
            backup_keep: 7,
            backup_schedule: None,
        }
    }
}

impl Settings {
    /// These settings after an update.
    pub fn updated(&self, update: &v1::ConfigUpdate) -> Settings {
        let mut settings = if update.complete {
            Settings::default()
        } else {
            self.clone()
        };
        for setting in &update.settings {
            if settings.set(&setting.name, &setting.value).is_none() {
                tracing::warn!(
                    name = %setting.name,
                    value = %setting.value,
                    "the server sent a setting that makes no sense; the former value stays"
                );
            }
        }
        settings
    }

    /// Disk for what replicas still need.
    pub fn backlog_bytes(&self, data_dir: &Path) -> u64 {
        match self.backlog_disk_bytes {
            0 => automatic_backlog(data_dir, self.backlog_bytes_min),
            bytes => bytes,
        }
    }

    /// `None` if the value makes no sense.
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match READ.iter().find(|(known, _)| *known == name) {
            Some((_, read)) => read(self, value),
            None => Some(()),
        }
    }
}

/// Reads the text of one setting.
type Read = fn(&mut Settings, &str) -> Option<()>;

/// The settings that concern the persister.
const READ: &[(&str, Read)] = &[
    ("dbfilename", |s, text| {
        set(&mut s.dbfilename, file_name(text))
    }),
    ("appenddirname", |s, text| {
        set(&mut s.append_dir_name, file_name(text))
    }),
    ("appendfilename", |s, text| {
        set(&mut s.append_file_name, file_name(text))
    }),
    ("appendonly", |s, text| {
        set(&mut s.append_only, yes_no(text))
    }),
    ("save", |s, text| set(&mut s.save_points, save_points(text))),
    ("rdb-version", |s, text| {
        set(&mut s.rdb_version, rdb_version(text))
    }),
    ("rdbcompression", |s, text| {
        set(&mut s.rdb_compression, yes_no(text))
    }),
    ("rdbchecksum", |s, text| {
        set(&mut s.rdb_checksum, yes_no(text))
    }),
    ("rdb-save-incremental-fsync", |s, text| {
        set(&mut s.save_incremental_fsync, yes_no(text))
    }),
    ("aof-rewrite-incremental-fsync", |s, text| {
        set(&mut s.rewrite_incremental_fsync, yes_no(text))
    }),
    ("backup-dir", |s, text| {
        set(&mut s.backup_dir, directory(text))
    }),
    ("backup-keep", |s, text| {
        set(&mut s.backup_keep, text.parse().ok())
    }),
    ("backup-schedule", |s, text| {
        set(&mut s.backup_schedule, schedule(text))
    }),
    ("snapshot-rate", |s, text| {
        set(&mut s.snapshot_rate, rate(text))
    }),
    ("auto-aof-rewrite-percentage", |s, text| {
        set(&mut s.rewrite_percentage, text.parse().ok())
    }),
    ("auto-aof-rewrite-min-size", |s, text| {
        set(&mut s.rewrite_min_bytes, bytes(text))
    }),
    ("aof-disable-auto-gc", |s, text| {
        set(&mut s.keep_history, yes_no(text))
    }),
    ("repl-backlog-size", |s, text| {
        set(&mut s.backlog_bytes_min, bytes(text))
    }),
    ("repl-backlog-disk-size", |s, text| {
        set(&mut s.backlog_disk_bytes, bytes(text))
    }),
    ("repl-backlog-disk-ttl", |s, text| {
        set(&mut s.backlog_ttl, seconds_or_forever(text))
    }),
    ("rdb-key-save-delay", |s, text| {
        set(&mut s.key_delay, key_delay(text))
    }),
    ("loglevel", |s, text| {
        set(&mut s.log_level, text.parse().ok().map(Some))
    }),
];

/// The names of the settings that concern the persister: all it asks the server for.
pub fn names() -> impl Iterator<Item = &'static str> {
    READ.iter().map(|(name, _)| *name)
}

fn set<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
}

fn rdb_version<T: std::str::FromStr + PartialOrd + From<u8>>(text: &str) -> Option<T> {
    let version: Option<T> = text.parse().ok();
    version.filter(|v| (T::from(10)..=T::from(12)).contains(v))
}

/// A negative one is so many keys a microsecond: too short to wait.
fn key_delay(text: &str) -> Option<Duration> {
    let delay_us: i64 = text.parse().ok()?;
    Some(Duration::from_micros(delay_us.max(0).unsigned_abs()))
}

/// 0 is forever.
fn seconds_or_forever(text: &str) -> Option<Option<Duration>> {
    let seconds: u64 = text.parse().ok()?;
    Some((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// A plain file name: paths would lead out of the directory.
fn file_name(value: &str) -> Option<String> {
    let plain = !value.is_empty()
        && !matches!(value, "." | "..")
        && !value.contains(['/', '\0'])
        && value.len() <= 255;
    plain.then(|| value.to_owned())
}

/// A directory; relative ones are below the data directory.
fn directory(value: &str) -> Option<String> {
    let plain = !value.is_empty() && !value.contains('\0') && value.len() <= 4096;
    plain.then(|| value.to_owned())
}

/// No text means no schedule.
fn schedule(value: &str) -> Option<Option<Schedule>> {
    match value.trim() {
        "" => Some(None),
        text => Schedule::parse(text).map(Some),
    }
}

fn yes_no(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn save_points(value: &str) -> Option<Vec<SavePoint>> {
    let numbers: Vec<u64> = value
        .split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    Some(
        numbers
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [seconds, changes] => Some(SavePoint {
                    seconds: *seconds,
                    changes: *changes,
                }),
                _ => None,
            })
            .collect(),
    )
}

fn rate(value: &str) -> Option<Rate> {
    match value.to_ascii_lowercase().as_str() {
        "automatic" | "auto" | "-1" => Some(Rate::Automatic),
        text => Some(match bytes(text)? {
            0 => Rate::Unlimited,
            per_second => Rate::BytesPerSecond(per_second),
        }),
    }
}

fn bytes(value: &str) -> Option<u64> {
    parse_size(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(complete: bool, pairs: &[(&str, &str)]) -> v1::ConfigUpdate {
        v1::ConfigUpdate {
            complete,
            settings: pairs
                .iter()
                .map(|(name, value)| v1::Setting {
                    name: (*name).into(),
                    value: (*value).into(),
                })
                .collect(),
        }
    }

    #[test]
    fn settings_follow_updates_and_a_complete_one_forgets_the_former() {
        let first = Settings::default().updated(&update(
            true,
            &[
                ("save", "900 1 300 10"),
                ("rdbcompression", "no"),
                ("auto-aof-rewrite-min-size", "1mb"),
                ("snapshot-rate", "0"),
                ("maxmemory", "100mb"),
            ],
        ));
        assert_eq!(first.save_points.len(), 2);
        assert_eq!(first.rewrite_min_bytes, 1 << 20);
        assert_eq!(first.snapshot_rate, Rate::Unlimited);
        let second = first.updated(&update(false, &[("save", "")]));
        assert!(second.save_points.is_empty() && !second.rdb_compression);
        let backlog = first.updated(&update(false, &[("repl-backlog-size", "102400gb")]));
        assert_eq!(backlog.backlog_bytes(Path::new("/")), 100 << 40);
        let third = second.updated(&update(true, &[]));
        assert_eq!(third, Settings::default());
    }

    #[test]
    fn nonsense_and_paths_leave_the_former_value() {
        let settings = Settings::default().updated(&update(
            false,
            &[
                ("dbfilename", "../etc/passwd"),
                ("appenddirname", ".."),
                ("rdb-version", "9"),
                ("save", "900"),
                ("rdbchecksum", "maybe"),
                ("snapshot-rate", "fast"),
                ("backup-dir", ""),
                ("backup-keep", "-1"),
                ("backup-schedule", "now and then"),
            ],
        ));
        assert_eq!(settings, Settings::default());
    }
}
