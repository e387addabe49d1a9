//! Repairs over files damaged here.

use std::path::{Path, PathBuf};

use redrock_log::fs::RealFs;
use redrock_log::manifest::{self, BaseFormat, Manifest, Names};
use redrock_log::writer::{SegmentStart, SegmentWriter};
use redrock_rdb::file::{EntryMeta, RdbWriter, WriterOptions};

use super::repair::{Action, carry_out, plan};
use super::*;

fn set(n: u64) -> Vec<u8> {
    format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n{n:04}\r\n").into_bytes()
}

struct Folder {
    dir: tempfile::TempDir,
    manifest: Manifest,
    offset: u64,
}

impl Folder {
    /// Base, then two segments of three commands each.
    fn new() -> Folder {
        let mut folder = Folder {
            dir: tempfile::tempdir().unwrap(),
            manifest: Manifest::default(),
            offset: 0,
        };
        folder.segment(1);
        let names = Names::default();
        let with_base = folder.manifest.with_base(&names, BaseFormat::Rdb, 1);
        folder.manifest = with_base.unwrap();
        rdb(&folder.path("appendonly.aof.1.base.rdb"), 0);
        folder.segment(2);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A segment without a command.
    fn begin(&self, seq: i64, start_offset: u64) -> SegmentWriter {
        let start = SegmentStart {
            start_offset,
            database: 0,
            replid: [b'a'; 40],
            run_id: [b'b'; 40],
            epoch: 1,
        };
        let path = self.path(&Names::default().incr(seq));
        SegmentWriter::begin(&RealFs, &path, &start, 1).unwrap()
    }

    fn segment(&mut self, seq: i64) {
        let names = Names::default();
        let mut writer = self.begin(seq, self.offset);
        for n in 0..3 {
            self.offset = writer.write(&set(n), 1000 * n).unwrap();
        }
        writer.finish(1000).unwrap();
        self.manifest = self.manifest.with_incr(&names, seq, None).unwrap();
        manifest::store(&RealFs, self.dir.path(), &names, &self.manifest).unwrap();
    }

    fn check(&self) -> Vec<FileReport> {
        check_path(&RealFs, self.dir.path(), &ActionProgress::new())
    }

    /// Plans and carries out the first repair; gives what it says is lost.
    fn repair(&self) -> String {
        let reports = self.check();
        let mut plans = reports.iter().filter_map(|report| plan(report).unwrap());
        let plan = plans.next().unwrap();
        assert_ne!(plan.action, Action::Nothing, "{plan:?}");
        let before = std::fs::read(&plan.path).unwrap();
        let kept = carry_out(&plan, 7).unwrap();
        assert_eq!(std::fs::read(&kept[0]).unwrap(), before);
        assert!(kept[0].to_string_lossy().ends_with(".damaged-7"));
        let damaged = |report: &FileReport| !matches!(report.verdict, Verdict::Sound);
        let left: Vec<FileReport> = self.check().into_iter().filter(damaged).collect();
        assert_eq!(left, []);
        plan.loss
    }
}

/// Three keys in two databases.
fn rdb(path: &Path, offset: u64) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = RdbWriter::new(file, WriterOptions::default()).unwrap();
    let offset = offset.to_string();
    writer.aux(b"repl-offset", offset.as_bytes()).unwrap();
    let expiring = EntryMeta {
        expire_at_ms: Some(4_000_000_000_000),
        ..EntryMeta::default()
    };
    for (database, keys) in [(0, 2), (3, 1)] {
        writer.select_db(database).unwrap();
        writer.resize_db(keys, 1).unwrap();
        for key in 0..keys {
            let name = format!("key-{database}-{key}");
            writer
                .entry(name.as_bytes(), &expiring, 0, b"\x05value")
                .unwrap();
        }
    }
    writer.finish().unwrap();
}

fn flip(path: &Path, at: usize) {
    // Written anew, as it may be linked elsewhere.
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn sound_files_need_no_repair_and_tell_about_themselves() {
    let folder = Folder::new();
    let reports = folder.check();
    assert!(reports.iter().all(|report| plan(report).unwrap().is_none()));
    let fact = |report: usize, name: &str| {
        let facts = &reports[report].facts;
        let found = facts.iter().find(|(known, _)| known == name);
        found.map_or(String::new(), |(_, value)| value.clone())
    };
    assert_eq!(fact(0, "appendonly.aof.2.incr.aof"), "increment 2");
    assert_eq!(fact(1, "RDB version"), "10");
    assert_eq!(fact(1, "db0"), "2 keys, 2 of them expire");
    assert_eq!(fact(1, "db3"), "1 keys, 1 of them expire");
    assert_eq!(fact(2, "offsets"), format!("0 to {}", folder.offset / 2));
    assert_eq!(fact(2, "last dated write"), "1970-01-01T00:00:02.000Z");
}

#[test]
fn a_damaged_last_log_file_is_cut() {
    let folder = Folder::new();
    let path = folder.path("appendonly.aof.2.incr.aof");
    let len = std::fs::metadata(&path).unwrap().len() as usize;
    flip(&path, len - 2 * set(0).len() + 1);
    let link = folder.path("link");
    std::fs::hard_link(&path, &link).unwrap();
    let loss = folder.repair();
    assert!(loss.contains("keeps 53 bytes, 2 commands"), "{loss}");
    assert!(loss.contains("in which 1 whole commands"), "{loss}");
    let linked = std::fs::metadata(link).unwrap().len() as usize;
    assert_eq!(linked, len, "what shares the file's bytes is as it was");
}

#[test]
fn what_can_not_follow_a_cut_leaves_the_manifest() {
    let folder = Folder::new();
    let path = folder.path("appendonly.aof.1.incr.aof");
    let len = std::fs::metadata(&path).unwrap().len() as usize;
    flip(&path, len - 3);
    let loss = folder.repair();
    assert!(
        loss.contains("appendonly.aof.2.incr.aof can't follow"),
        "{loss}"
    );
    assert!(folder.path("appendonly.aof.2.incr.aof.damaged-7").exists());
    assert!(
        folder
            .path("appendonly.aof.2.incr.aof.damaged-7.meta")
            .exists()
    );
    assert!(!folder.path("appendonly.aof.2.incr.aof").exists());
}

#[test]
fn an_rdb_is_written_anew_from_what_can_be_read() {
    let cases: [(&str, fn(&mut Vec<u8>), &str); 4] = [
        (
            "checksum",
            |bytes| *bytes.last_mut().unwrap() ^= 1,
            "keeps 3 keys: all",
        ),
        (
            "tail",
            |bytes| bytes.truncate(bytes.len() - 20),
            "1 more keys",
        ),
        (
            "end",
            |bytes| bytes.truncate(bytes.len() - 8),
            "keeps 3 keys; loses the",
        ),
        (
            "type",
            |bytes| {
                let at = bytes.windows(5).rposition(|part| part == b"key-3").unwrap();
                bytes[at - 2] = 200;
            },
            "1 more keys",
        ),
    ];
    for (name, damage, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        rdb(&path, 0);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let check = || check_path(&RealFs, &path, &ActionProgress::new()).remove(0);
        let plan = plan(&check()).unwrap().unwrap();
        assert!(plan.loss.contains(expected), "{name}: {}", plan.loss);
        let kept = carry_out(&plan, 7).unwrap();
        assert_eq!(std::fs::read(&kept[0]).unwrap(), bytes);
        let after = check();
        assert_eq!(after.verdict, Verdict::Sound, "{name}");
        assert!(after.keys >= 2, "{name}");
        carry_out(&plan, 7).unwrap();
        assert!(dir.path().join("dump.rdb.damaged-7-1").exists());
    }
}

#[test]
fn a_value_that_makes_no_sense_costs_only_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = RdbWriter::new(file, WriterOptions::default()).unwrap();
    let meta = EntryMeta::default();
    writer.entry(b"good", &meta, 0, b"\x01x").unwrap();
    // A packed list whose bytes are none.
    writer.entry(b"bad", &meta, 16, b"\x03abc").unwrap();
    writer.entry(b"fine", &meta, 0, b"\x01y").unwrap();
    writer.finish().unwrap();
    let check = || check_path(&RealFs, &path, &ActionProgress::new()).remove(0);
    let plan = plan(&check()).unwrap().unwrap();
    assert!(
        plan.loss.contains("keeps 2 keys; loses 1 keys"),
        "{}",
        plan.loss
    );
    assert!(plan.loss.contains("(bad)"), "{}", plan.loss);
    carry_out(&plan, 7).unwrap();
    assert_eq!((check().verdict, check().keys), (Verdict::Sound, 2));
}

#[test]
fn a_manifest_is_made_anew_if_the_files_leave_no_doubt() {
    let folder = Folder::new();
    let path = folder.path("appendonly.aof.manifest");
    let manifest = |text: &str| std::fs::write(&path, text).unwrap();
    manifest("file nonsense\n");
    folder.repair();
    let loaded = manifest::load(&RealFs, folder.dir.path(), &Names::default());
    let loaded = loaded.unwrap().unwrap();
    assert_eq!((loaded.base.is_some(), loaded.incr.len()), (true, 2));
    // A base that no log file continues.
    rdb(&folder.path("appendonly.aof.2.base.rdb"), 1_000_000);
    manifest("");
    let report = folder.check().remove(0);
    assert_eq!(plan(&report).unwrap().unwrap().action, Action::Nothing);
}

#[test]
fn a_log_file_of_a_switch_that_did_not_happen_is_no_gap() {
    // Where the last one began, in its middle, and behind its end: that lost bytes with the power.
    let (begin, end) = (3 * set(0).len() as u64, 6 * set(0).len() as u64);
    for start in [begin, begin + 5, end + 5] {
        let folder = Folder::new();
        folder.begin(3, start).finish(1).unwrap();
        let path = folder.path("appendonly.aof.manifest");
        std::fs::write(&path, "file nonsense\n").unwrap();
        folder.repair();
        let loaded = manifest::load(&RealFs, folder.dir.path(), &Names::default());
        let incr = loaded.unwrap().unwrap().incr;
        let numbers: Vec<i64> = incr.iter().map(|entry| entry.sequence).collect();
        assert_eq!(numbers, [1, 2], "{start}");
    }
}
