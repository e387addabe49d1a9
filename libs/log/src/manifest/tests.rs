use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::fs::{Fs, OpenMode, RealFs};
use crate::testing::{CrashMode, PowerLossFs};

fn message(text: &[u8]) -> &'static str {
    parse(text).unwrap_err().message
}

#[test]
fn redis_s_example_parses_and_formats_back() {
    let text = "file appendonly.aof.2.base.rdb seq 2 type b\n\
                file appendonly.aof.1.incr.aof seq 1 type h\n\
                file appendonly.aof.4.incr.aof seq 4 type i\n\
                file appendonly.aof.5.incr.aof seq 5 type i startoffset 77\n";
    let manifest = parse(text.as_bytes()).unwrap();
    assert_eq!(manifest.base.as_ref().unwrap().sequence, 2);
    assert_eq!(manifest.incr[1].start_offset, Some(77));
    assert_eq!(format(&manifest), text);
}

#[test]
fn errors_are_redis_s_texts() {
    assert_eq!(message(b""), "Found an empty AOF manifest");
    assert_eq!(message(b"\n"), INVALID_FORMAT);
    assert_eq!(message(b"file a seq 1 type\n"), INVALID_FORMAT);
    assert_eq!(message(b"file a seq 0 type i\n"), INVALID_FORMAT);
    assert_eq!(message(b"file a seq 1 kind i\n"), INVALID_FORMAT);
    assert_eq!(message(b"file \"a seq 1 type i\n"), INVALID_FORMAT);
    assert_eq!(message(b"file a seq 1 type x\n"), "Unknown AOF file type");
    assert_eq!(
        message(b"file a/b seq 1 type i\n"),
        "File can't be a path, just a filename"
    );
    assert_eq!(
        message(b"file .. seq 1 type h\n"),
        "File can't be a path, just a filename"
    );
    assert_eq!(
        message(b"file a seq 1 type b\nfile b seq 2 type b\n"),
        "Found duplicate base file information"
    );
    assert_eq!(
        message(b"file a seq 2 type i\nfile b seq 2 type i\n"),
        "Found a non-monotonic sequence number"
    );
    let too_long = "The AOF manifest file contains too long line";
    assert_eq!(message(b"file a seq 1 type i"), too_long);
    assert_eq!(message(b"file a\0 seq 1 type i\n"), too_long);
    let mut long = b"file ".to_vec();
    long.extend(std::iter::repeat_n(b'a', 1010));
    long.extend(b" seq 1 type i\n");
    assert_eq!(message(&long), too_long);
    let report = parse(b"#c\nfile a seq 1 type x\n").unwrap_err();
    assert!(
        report
            .redis_report()
            .contains("at line 2\n>>> 'file a seq 1 type x'\nUnknown AOF file type")
    );
}

#[test]
fn comments_unknown_keys_and_any_order_of_keys_are_accepted() {
    let text = b"# comment\nTYPE i colour blue SEQ 3abc file \"a b\"\n#end";
    let manifest = parse(text).unwrap();
    assert_eq!(manifest.incr[0].name, "a b");
    assert_eq!(manifest.incr[0].sequence, 3);
}

#[test]
fn a_rewrite_moves_base_and_older_segments_to_history_in_redis_s_order() {
    let names = Names::default();
    let text = b"file appendonly.aof.1.base.rdb seq 1 type b\n\
        file old seq 9 type h\n\
        file appendonly.aof.1.incr.aof seq 1 type i\n\
        file appendonly.aof.2.incr.aof seq 2 type i\n";
    let manifest = parse(text)
        .unwrap()
        .with_incr(&names, 3, Some(500))
        .unwrap();
    let rewritten = manifest.with_base(&names, BaseFormat::Rdb, 3).unwrap();
    assert_eq!(
        format(&rewritten),
        "file appendonly.aof.2.base.rdb seq 2 type b\n\
         file appendonly.aof.1.incr.aof seq 1 type h\n\
         file appendonly.aof.2.incr.aof seq 2 type h\n\
         file appendonly.aof.1.base.rdb seq 1 type h\n\
         file old seq 9 type h\n\
         file appendonly.aof.3.incr.aof seq 3 type i startoffset 500\n"
    );
    assert_eq!(rewritten.next_incr_sequence(&names), 4);
    assert_eq!(rewritten.next_base_sequence(), 3);
    let removed: Vec<_> = rewritten.history.iter().map(|e| e.name.clone()).collect();
    assert!(rewritten.without_history(&removed).history.is_empty());
}

#[test]
fn edits_that_would_break_the_order_are_refused() {
    let names = Names::default();
    let manifest = Manifest::default().with_incr(&names, 4, None).unwrap();
    assert!(manifest.with_incr(&names, 4, None).is_err());
    assert!(manifest.with_base(&names, BaseFormat::Aof, 9).is_err());
    assert!(manifest.without_last_incr(3).is_err());
    assert_eq!(manifest.without_last_incr(4).unwrap(), Manifest::default());
    assert!(manifest.with_start_offset(5, 1).is_err());
    let known = manifest.with_start_offset(4, 12).unwrap();
    assert_eq!(known.incr[0].start_offset, Some(12));
}

#[test]
fn an_empty_manifest_is_never_stored() {
    let dir = tempfile::tempdir().unwrap();
    let names = Names::default();
    assert!(store(&RealFs, dir.path(), &names, &Manifest::default()).is_err());
    assert!(load(&RealFs, dir.path(), &names).unwrap().is_none());
}

#[test]
fn the_upgrade_survives_a_power_loss_at_every_step() {
    let names = Names::default();
    let (data, aof) = (Path::new("/d"), Path::new("/d/appendonlydir"));
    for point in 0..16 {
        for seed in 0..40 {
            let fs = PowerLossFs::new(data);
            let single = data.join(&names.file_name);
            let file = fs.open(&single, OpenMode::CreateNew).unwrap();
            file.write_all_at(b"content", 0).unwrap();
            file.sync_all().unwrap();
            fs.sync_dir(data).unwrap();
            fs.lose_power_after(point);
            let _ = upgrade_single_file(&fs, data, aof, &names, None);
            fs.crash(CrashMode::Scattered { seed });
            let manifest = load(&fs, aof, &names).unwrap();
            let upgraded = upgrade_single_file(&fs, data, aof, &names, manifest.as_ref()).unwrap();
            let manifest = upgraded.or(manifest).unwrap();
            let base = manifest.base.unwrap();
            assert_eq!(
                fs.content(&aof.join(&base.name)).as_deref(),
                Some(&b"content"[..]),
                "point {point} seed {seed}"
            );
        }
    }
}

fn entry(kind: FileKind) -> impl Strategy<Value = FileEntry> {
    (
        "[^/\\\\\u{0}]{1,40}".prop_filter("a file name", |name| name != "." && name != ".."),
        1..i64::MAX / 2,
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<u64>()),
    )
        .prop_map(
            move |(name, sequence, start_offset, end_offset)| FileEntry {
                name,
                sequence,
                kind,
                start_offset,
                end_offset,
            },
        )
}

proptest! {
    #[test]
    fn every_manifest_reads_back(
        base in proptest::option::of(entry(FileKind::Base)),
        history in proptest::collection::vec(entry(FileKind::History), 0..4),
        mut incr in proptest::collection::vec(entry(FileKind::Incr), 1..5),
    ) {
        for (index, entry) in incr.iter_mut().enumerate() {
            entry.sequence = index as i64 + 1;
        }
        let manifest = Manifest { base, history, incr };
        prop_assert_eq!(parse(format(&manifest).as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn mutated_manifests_never_panic(at in 0usize..90, byte in any::<u8>()) {
        let mut text = b"file \"a \\x41\" seq 1 type b\nfile b.incr seq 2 type i startoffset 9\n".to_vec();
        let at = at % text.len();
        text[at] = byte;
        let _ = parse(&text);
    }
}

#[test]
fn a_finished_upgrade_is_durable_before_segments_are_listed() {
    let names = Names::default();
    let (data, aof) = (Path::new("/d"), Path::new("/d/appendonlydir"));
    let fs = PowerLossFs::new(data);
    crate::fs::write_durably(&fs, &data.join(&names.file_name), b"content").unwrap();
    upgrade_single_file(&fs, data, aof, &names, None)
        .unwrap()
        .unwrap();
    fs.crash(CrashMode::DropAll);
    assert!(fs.exists(&aof.join(&names.file_name)).unwrap());
    assert!(!fs.exists(&data.join(&names.file_name)).unwrap());
}

fn listing(segments: i64) -> Manifest {
    let names = Names::default();
    let listed = (1..=segments).try_fold(Manifest::default(), |manifest, seq| {
        manifest.with_incr(&names, seq, Some(0))
    });
    listed.unwrap()
}

#[test]
fn a_manifest_is_written_on_a_full_disk_into_the_reserve() {
    let names = Names::default();
    let (directory, names) = (Path::new("/d"), &names);
    let fs = PowerLossFs::new(directory);
    // Without an append-only directory nobody needs one.
    assert!(!keep_reserve(&fs, Path::new("/d/none")).unwrap());
    store(&fs, directory, names, &listing(1)).unwrap();
    fs.set_capacity_bytes(Some(1000));
    assert!(keep_reserve(&fs, directory).is_err());
    assert!(store(&fs, directory, names, &listing(100)).is_err());
    fs.set_capacity_bytes(None);
    assert!(keep_reserve(&fs, directory).unwrap());
    assert!(!keep_reserve(&fs, directory).unwrap());

    fs.set_capacity_bytes(Some(0));
    let refused = store_checked(&fs, directory, names, &listing(100), &|| {
        Err(std::io::ErrorKind::PermissionDenied.into())
    });
    assert!(refused.is_err());
    assert_eq!(load(&fs, directory, names).unwrap(), Some(listing(1)));
    fs.set_capacity_bytes(None);
    assert!(keep_reserve(&fs, directory).unwrap());

    fs.set_capacity_bytes(Some(0));
    store(&fs, directory, names, &listing(100)).unwrap();
    fs.crash(CrashMode::DropAll);
    assert_eq!(load(&fs, directory, names).unwrap(), Some(listing(100)));
    let left = fs.list(directory).unwrap();
    assert_eq!(left, [names.manifest().as_str()], "no temporary file");
}

/// A fault at any step leaves the manifest of before or the new one.
#[test]
fn a_fault_while_the_reserve_is_used_leaves_one_manifest_or_the_other() {
    let (directory, names) = (Path::new("/d"), Names::default());
    for point in 0..12 {
        for seed in 0..8 {
            let fs = PowerLossFs::new(directory);
            store(&fs, directory, &names, &listing(1)).unwrap();
            keep_reserve(&fs, directory).unwrap();
            fs.set_capacity_bytes(Some(0));
            fs.lose_power_after(point);
            let stored = store(&fs, directory, &names, &listing(2)).is_ok();
            fs.crash(CrashMode::Scattered { seed });
            let found = load(&fs, directory, &names).unwrap();
            let (old, new) = (Some(listing(1)), Some(listing(2)));
            assert!(found == new || !stored && found == old, "{point}, {seed}");
        }
    }
}
