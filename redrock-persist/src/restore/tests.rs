//! Restores over folders made here, whose times are known.

use std::path::Path;

use redrock_log::fs::{Fs, OpenMode, RealFs};
use redrock_log::history::{Histories, LogOrigin, ReplicationState};
use redrock_log::manifest::{self, Manifest, Names};
use redrock_log::scan::{ScanLimits, SegmentScanner, Step};
use redrock_log::writer::{SegmentStart, SegmentWriter};
use redrock_rdb::file::{RdbWriter, WriterOptions};

use super::*;

const NOW: u64 = u64::MAX - 1;

fn set(n: u64) -> Vec<u8> {
    format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n{n:04}\r\n").into_bytes()
}

fn plain(word: &str) -> Vec<u8> {
    format!("*1\r\n${}\r\n{word}\r\n", word.len()).into_bytes()
}

/// A data directory whose log is written here.
struct Source {
    dir: tempfile::TempDir,
    manifest: Manifest,
    offset: u64,
}

impl Source {
    fn new() -> Source {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/appendonlydir")).unwrap();
        Source {
            dir,
            manifest: Manifest::default(),
            offset: 0,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn directory(&self) -> PathBuf {
        self.data().join("appendonlydir")
    }

    fn segment(&self, seq: i64) -> PathBuf {
        self.directory().join(Names::default().incr(seq))
    }

    /// Adds a segment with writes at the given times.
    fn log(&mut self, seq: i64, begun: u64, writes: &[(u64, Vec<u8>)]) {
        let start = SegmentStart {
            start_offset: self.offset,
            database: 0,
            replid: [b'a'; 40],
            run_id: [b'b'; 40],
            epoch: 1,
        };
        let path = self.segment(seq);
        let mut writer = SegmentWriter::begin(&RealFs, &path, &start, begun).unwrap();
        for (unix_ms, bytes) in writes {
            self.offset = writer.write(bytes, *unix_ms).unwrap();
        }
        writer.finish(begun).unwrap();
        let names = Names::default();
        self.manifest = self.manifest.with_incr(&names, seq, None).unwrap();
        self.list();
    }

    /// Adds a base that the segments from `first` on continue.
    fn base(&mut self, first: i64, offset: u64) {
        let names = Names::default();
        let format = manifest::BaseFormat::Rdb;
        self.manifest = self.manifest.with_base(&names, format, first).unwrap();
        let name = self.manifest.base.as_ref().unwrap().name.clone();
        rdb(&self.directory().join(name), offset, 7);
        self.list();
    }

    fn list(&self) {
        let names = Names::default();
        manifest::store(&RealFs, &self.directory(), &names, &self.manifest).unwrap();
    }

    fn restore(&self, target: Target, into: &str) -> Result<Restored> {
        let request = Request {
            from: vec![self.data()],
            into: self.dir.path().join(into),
            target,
            copy: false,
            now_unix_ms: NOW,
        };
        restore(&request, &ActionProgress::new())
    }

    /// Restores and gives the commands of the new log.
    fn commands(&self, target: Target, into: &str) -> Vec<String> {
        self.restore(target, into).unwrap();
        commands(&self.dir.path().join(into).join("appendonlydir"))
    }

    fn at(&self, unix_ms: u64) -> Vec<String> {
        self.commands(Target::Time { unix_ms }, &format!("at-{unix_ms}"))
    }
}

fn rdb(path: &Path, offset: u64, made_s: u64) {
    rdb_of(path, None, offset, made_s);
}

fn rdb_of(path: &Path, replid: Option<[u8; 40]>, offset: u64, made_s: u64) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = RdbWriter::new(file, WriterOptions::default()).unwrap();
    writer.aux(b"ctime", made_s.to_string().as_bytes()).unwrap();
    if let Some(replid) = replid {
        writer.aux(b"repl-id", &replid).unwrap();
    }
    writer
        .aux(b"repl-offset", offset.to_string().as_bytes())
        .unwrap();
    writer.finish().unwrap();
}

fn commands(directory: &Path) -> Vec<String> {
    let manifest = manifest::load(&RealFs, directory, &Names::default());
    let mut found = Vec::new();
    for entry in manifest.unwrap().unwrap().incr {
        let file = RealFs
            .open(&directory.join(&entry.name), OpenMode::Read)
            .unwrap();
        let mut scanner = SegmentScanner::new(file.as_ref(), 0, ScanLimits::default()).unwrap();
        while let Step::Command(command) = scanner.next_step().unwrap() {
            let last = command.arguments().last().unwrap();
            if command.argument(0) != Some(b"SELECT") {
                found.push(String::from_utf8_lossy(last).into_owned());
            }
        }
    }
    found
}

fn tree(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn what_was_written_by_the_time_is_there_and_nothing_later() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1)), (2000, set(2)), (3000, set(3))]);
    source.log(2, 4000, &[(5000, set(4)), (6000, set(5))]);
    let before = tree(&source.data());
    for (at, expected) in [
        (500, &[][..]),
        (999, &[]),
        (1000, &["0001"]),
        (2999, &["0001", "0002"]),
        (3999, &["0001", "0002", "0003"]),
        (4999, &["0001", "0002", "0003"]),
        (5000, &["0001", "0002", "0003", "0004"]),
        (NOW, &["0001", "0002", "0003", "0004", "0005"]),
    ] {
        assert_eq!(source.at(at), expected, "{at}");
    }
    let early = Target::Time { unix_ms: 499 };
    let error = source.restore(early, "early").unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(
        error.message.contains("from 1970-01-01T00:00:00.500Z to"),
        "{error}"
    );
    assert_eq!(tree(&source.data()), before, "the source is untouched");
    let folders = std::fs::read_dir(source.dir.path()).unwrap();
    let names: Vec<_> = folders.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with("temp-"))
    );
}

#[test]
fn a_log_file_of_a_switch_that_did_not_happen_belongs_to_no_chain() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1)), (3000, set(2))]);
    let end = source.offset;
    // The first file went on beyond the place of the switch.
    source.offset = set(1).len() as u64;
    source.log(2, 2000, &[]);
    let chains = chain::find(&RealFs, &source.data(), NOW).unwrap();
    assert_eq!((chains.len(), chains[0].segments.len()), (1, 1));
    assert_eq!(chains[0].offsets(), Some((0, end)));
    assert_eq!(source.at(2500), ["0001"]);
    assert_eq!(source.at(NOW), ["0001", "0002"]);
}

#[test]
fn transactions_are_restored_as_a_whole_or_not_at_all() {
    let mut source = Source::new();
    let begun = [plain("MULTI"), set(2)].concat();
    source.log(
        1,
        500,
        &[(1000, set(1)), (2000, begun), (3000, plain("EXEC"))],
    );
    assert_eq!(source.at(2500), ["0001"]);
    assert_eq!(source.at(3000), ["0001", "MULTI", "0002", "EXEC"]);
}

#[test]
fn offsets_end_behind_whole_commands() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1)), (1000, set(2))]);
    let one = set(1).len() as u64;
    let to = |offset| Target::Offset(offset);
    assert_eq!(source.commands(to(one), "a"), ["0001"]);
    assert_eq!(source.commands(to(2 * one - 1), "b"), ["0001"]);
    assert_eq!(source.commands(to(2 * one), "c"), ["0001", "0002"]);
    assert!(source.restore(to(2 * one + 1), "d").is_err());
    assert_eq!(source.commands(Target::Latest, "e").len(), 2);
}

#[test]
fn the_base_of_the_time_is_taken_as_long_as_replaced_ones_are_kept() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1))]);
    source.base(1, 0);
    source.log(2, 2000, &[(3000, set(2))]);
    source.base(2, set(1).len() as u64);
    let older = source.restore(Target::Time { unix_ms: 1500 }, "a").unwrap();
    assert_eq!((older.chain.begins_ms, older.chain.covered_ms), (500, 2000));
    let names: Vec<String> = tree(&source.dir.path().join("a"))
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(
        names.contains(&"appendonly.aof.1.base.rdb".to_owned()),
        "{names:?}"
    );
    let newer = source.restore(Target::Time { unix_ms: 2500 }, "b").unwrap();
    assert_eq!(newer.chain.begins_ms, 2000);
    // Gone, its times are so too.
    std::fs::remove_file(source.directory().join("appendonly.aof.1.base.rdb")).unwrap();
    let error = source
        .restore(Target::Time { unix_ms: 1500 }, "c")
        .unwrap_err();
    assert!(
        error.message.contains("from 1970-01-01T00:00:02.000Z"),
        "{error}"
    );
}

#[test]
fn a_log_that_began_with_nothing_needs_no_base() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1))]);
    source.log(2, 2000, &[(3000, set(2))]);
    source.base(2, set(1).len() as u64);
    assert_eq!(source.at(1500), ["0001"]);
    // Behind another base than the first, a log without one is a rest.
    let mut bases = source.manifest.clone();
    bases.base.as_mut().unwrap().sequence = 2;
    source.manifest = bases;
    source.list();
    let unix_ms = 1500;
    assert!(source.restore(Target::Time { unix_ms }, "rest").is_err());
}

#[test]
fn only_files_that_nobody_changes_again_are_linked() {
    use std::os::unix::fs::MetadataExt as _;
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1))]);
    source.log(2, 2000, &[(3000, set(2))]);
    source.log(3, 4000, &[]);
    let built = source.restore(Target::Latest, "a").unwrap().built;
    assert_eq!((built.linked_files, built.copied_files), (1, 2));
    let links = |seq| std::fs::metadata(source.segment(seq)).unwrap().nlink();
    assert_eq!([links(1), links(2), links(3)], [2, 1, 1]);
    let request = Request {
        from: vec![source.data()],
        into: source.dir.path().join("b"),
        target: Target::Latest,
        copy: true,
        now_unix_ms: NOW,
    };
    let progress = ActionProgress::new();
    let restored = restore(&request, &progress).unwrap();
    assert_eq!(restored.built.linked_files, 0);
    // All of it was read again, and said to be.
    let told = progress.message();
    assert_eq!(told.bytes_done, restored.built.copied_bytes);
    assert_eq!(
        (told.bytes_total, told.percent),
        (told.bytes_done, Some(100.0))
    );
    let again = restore(&request, &progress).unwrap_err();
    assert_eq!(again.code, ErrorCode::Invalid, "{again}");
}

#[test]
fn damage_before_the_time_is_refused_and_leaves_nothing() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1)), (2000, set(2)), (3000, set(3))]);
    let path = source.segment(1);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - set(3).len() - 3;
    bytes[at] = b'X';
    std::fs::write(&path, bytes).unwrap();
    let error = source.restore(Target::Latest, "a").unwrap_err();
    assert_eq!(error.code, ErrorCode::Corrupt, "{error}");
    assert!(!source.dir.path().join("a").exists());
    assert_eq!(source.at(1500), ["0001"]);
}

#[test]
fn logs_of_redis_are_cut_at_their_annotations() {
    let source = Source::new();
    let text = [
        set(1),
        b"#TS:10\r\n".to_vec(),
        set(2),
        b"#TS:20\r\n".to_vec(),
        set(3),
    ]
    .concat();
    std::fs::write(source.segment(1), text).unwrap();
    let names = Names::default();
    let listed = source.manifest.with_incr(&names, 1, None).unwrap();
    manifest::store(&RealFs, &source.directory(), &names, &listed).unwrap();
    assert_eq!(source.at(10_000), ["0001", "0002"]);
    assert_eq!(source.at(19_999), ["0001", "0002"]);
    assert_eq!(source.at(20_000), ["0001", "0002", "0003"]);
    assert!(
        source
            .restore(Target::Time { unix_ms: 9_999 }, "b")
            .is_err()
    );
    std::fs::write(source.segment(1), set(1)).unwrap();
    assert!(
        source
            .restore(Target::Time { unix_ms: 10_000 }, "c")
            .is_err()
    );
    assert_eq!(source.at(NOW), ["0001"]);
}

#[test]
fn a_dump_is_one_moment() {
    let source = Source::new();
    rdb(&source.data().join("dump.rdb"), 0, 7);
    std::fs::remove_dir(source.directory()).unwrap();
    let restored = source.restore(Target::Time { unix_ms: 8000 }, "a").unwrap();
    assert!(!restored.chain.is_log());
    assert!(source.dir.path().join("a/dump.rdb").exists());
    assert!(source.restore(Target::Time { unix_ms: 6999 }, "b").is_err());
}

#[test]
fn a_dump_from_after_the_log_was_turned_off_ends_what_the_log_covers() {
    let mut source = Source::new();
    source.log(1, 500, &[(1000, set(1))]);
    rdb(&source.data().join("dump.rdb"), 1_000_000, 4_000_000_000);
    let latest = source.restore(Target::Latest, "a").unwrap();
    assert!(!latest.chain.is_log());
    let before = source.restore(Target::Time { unix_ms: 2000 }, "b").unwrap();
    assert!(before.chain.is_log());
}

#[test]
fn a_dump_of_another_history_ends_what_the_log_covers_if_it_is_the_newer_one() {
    const LATER_S: u64 = 4_000_000_000;
    let ours = Some([b'a'; 40]);
    let other = Some([b'b'; 40]);
    for (replid, made_s, log) in [
        (other, LATER_S, false),
        // Redis's own, whoever let it run here.
        (None, LATER_S, false),
        // Another server's log, or this one's before there was a log.
        (other, 7, true),
        // The log went on behind it, or nothing has been written since.
        (ours, LATER_S, true),
    ] {
        let mut source = Source::new();
        source.log(1, 500, &[(1000, set(1))]);
        let mut state = ReplicationState::new([b'a'; 40], 0, 0);
        state.origin = LogOrigin {
            sequence: 1,
            offset: 0,
        };
        let histories = Histories::new(state);
        histories
            .store(&RealFs, &source.data(), &|| Ok(()))
            .unwrap();
        // Nobody counts what is not logged: the offset is that of the log's end.
        rdb_of(
            &source.data().join("dump.rdb"),
            replid,
            source.offset,
            made_s,
        );
        let latest = source.restore(Target::Latest, "a").unwrap();
        assert_eq!(latest.chain.is_log(), log, "{replid:?} {made_s}");
    }
}
