//! Files that Redis 6.0 to 7.4 and Valkey 8 saved: what is in them, and that every version which we make of
//! them holds the same, to us and to the servers that read it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::redis::{Redis, programs};
use common::{Content, content_of, entries_of, read_items, rewrite, server_files};
use redrock_rdb::dump;
use redrock_rdb::file::{Entry, Item, ModuleTally, ReaderOptions};
use redrock_rdb::object::{ObjectError, Target, decode, transcode, types};

const AS_STORED: ReaderOptions = ReaderOptions {
    normalize: false,
    verify_checksum: true,
    allow_trailing: false,
    value_bytes_max: usize::MAX,
};

/// The version in a file's head.
fn version_of(rdb: &[u8]) -> u16 {
    String::from_utf8_lossy(&rdb[5..9]).parse().unwrap()
}

type Contents = BTreeMap<(u64, Vec<u8>), (Content, Option<i64>)>;

/// Everything in a file, whatever the encodings.
fn contents(rdb: &[u8], options: ReaderOptions) -> Contents {
    let entries = entries_of(read_items(rdb, options).unwrap());
    let count = entries.len();
    let contents: Contents = entries
        .into_iter()
        .map(|(database, entry)| {
            let object = decode(entry.object_type, &entry.payload).unwrap();
            let value = (content_of(object), entry.expire_at_ms);
            ((database, entry.key), value)
        })
        .collect();
    assert_eq!(contents.len(), count, "a key twice");
    contents
}

fn has_field_expiry(contents: &Contents) -> bool {
    contents.values().any(|(content, _)| match content {
        Content::Hash(fields) => fields.values().any(|(_, at)| at.is_some()),
        _ => false,
    })
}

/// What versions before 11 can't hold of a stream is left out: since when a consumer is idle.
fn without_active_times(mut contents: Contents) -> Contents {
    for (content, _) in contents.values_mut() {
        if let Content::Stream(stream) = content {
            for consumer in stream
                .groups
                .iter_mut()
                .flat_map(|group| &mut group.consumers)
            {
                consumer.active_time_ms = consumer.seen_time_ms;
            }
        }
    }
    contents
}

#[test]
fn every_server_s_file_has_its_types_and_attributes() {
    // Those of the time: quicklists of ziplists and ziplists, then listpacks, then small sets, then
    // fields that expire, in the form of a release candidate and in that of the release.
    let old: &[u8] = &[0, 2, 4, 5, 11, 12, 13, 14, 15];
    let cases: [(&str, u16, &[u8]); 7] = [
        ("modules", 10, &[0]),
        ("redis-6.0.20", 9, old),
        ("redis-6.2.16", 9, old),
        ("redis-7.2.6", 11, &[0, 2, 4, 5, 11, 16, 17, 18, 20, 21]),
        (
            "redis-7.4-rc1",
            12,
            &[0, 2, 4, 5, 11, 16, 17, 18, 20, 21, 22, 23],
        ),
        (
            "redis-7.4.1",
            12,
            &[0, 2, 4, 5, 11, 16, 17, 18, 20, 21, 24, 25],
        ),
        ("valkey-8.0.1", 11, &[0, 2, 4, 5, 11, 16, 17, 18, 20, 21]),
    ];
    for ((name, rdb), (expected_name, version, expected)) in server_files().iter().zip(cases) {
        assert_eq!((&name[..], version_of(rdb)), (expected_name, version));
        let entries = entries_of(read_items(rdb, AS_STORED).unwrap());
        let found: BTreeSet<u8> = entries.iter().map(|(_, entry)| entry.object_type).collect();
        assert_eq!(found, expected.iter().copied().collect(), "{name}");
        let all = |has: &dyn Fn(&Entry) -> bool| entries.iter().all(|(_, entry)| has(entry));
        let (lfu, lru) = match &name[..] {
            "redis-6.0.20" | "redis-7.2.6" => (true, false),
            "redis-6.2.16" => (false, true),
            _ => (false, false),
        };
        assert!(all(&|entry| entry.frequency.is_some() == lfu), "{name}");
        assert!(all(&|entry| entry.idle_secs.is_some() == lru), "{name}");
        if name.starts_with("valkey") {
            assert_eq!(rdb[rdb.len() - 8..], [0; 8], "a checksum");
        }
    }
}

#[test]
fn all_servers_files_hold_what_was_written_there() {
    let files = server_files();
    let all: BTreeMap<&str, Contents> = files
        .iter()
        .filter(|(name, _)| name != "modules")
        .map(|(name, rdb)| {
            let normal = contents(rdb, ReaderOptions::default());
            assert_eq!(normal, contents(rdb, AS_STORED), "{name}");
            (&name[..], normal)
        })
        .collect();
    let newest = &all["redis-7.4.1"];
    assert_eq!(newest.len(), 33);
    let expiry = |database, key: &str| newest[&(database, key.into())].1;
    assert_eq!(expiry(0, "expires:ms"), Some(4_102_444_800_123));
    assert_eq!(expiry(0, "expires:s"), Some(4_102_444_801_000));
    assert_eq!(expiry(3, "other:database"), Some(4_102_444_800_999));
    let Content::Hash(fields) = &newest[&(0, b"fields:large".to_vec())].0 else {
        panic!("no hash")
    };
    let times: BTreeSet<_> = fields.values().filter_map(|(_, at)| *at).collect();
    assert_eq!(times, [4_102_444_800_456, 4_102_444_900_000].into());
    for (name, contents) in &all {
        let mut found = 0;
        for (key, (content, expire_at_ms)) in contents {
            let what = format!("{name} {}", key.1.escape_ascii());
            let (theirs, at) = &newest[key];
            assert_eq!(expire_at_ms, at, "{what}");
            match (content, theirs) {
                // When things were delivered differs, and what a version counts.
                (Content::Stream(ours), Content::Stream(theirs)) => {
                    assert_eq!(ours.nodes, theirs.nodes, "{what}");
                    assert_eq!(ours.meta.last_id, theirs.meta.last_id, "{what}");
                    let ids = |stream: &redrock_rdb::object::StreamObject| -> Vec<_> {
                        let groups = stream.groups.iter();
                        let pending = groups.flat_map(|group| &group.pending);
                        pending
                            .map(|entry| (entry.id, entry.delivery_count))
                            .collect()
                    };
                    assert_eq!(ids(ours), ids(theirs), "{what}");
                }
                _ => assert_eq!(content, theirs, "{what}"),
            }
            found += 1;
        }
        let fields = if name.contains("7.4") { 4 } else { 0 };
        assert_eq!(found, 29 + fields, "{name}");
    }
}

#[test]
fn what_belongs_to_modules_is_skipped_and_named() {
    let (_, rdb) = server_files().swap_remove(0);
    let items = read_items(&rdb, ReaderOptions::default()).unwrap();
    let mut tally = ModuleTally::default();
    let mut database = 0;
    for item in &items {
        match item {
            Item::SelectDb(number) => database = *number,
            Item::ModuleKey(skipped) => tally.add_key(database, skipped),
            Item::ModuleAux(module) => tally.add_piece(module),
            _ => {}
        }
    }
    assert_eq!(
        tally.to_string(),
        "test__rdb version 1: 1 keys of 42 bytes, the first 'module:d' in database 2, 2 pieces of data \
         apart from keys; test___dt version 1: 3 keys of 81 bytes, the first 'module:a' in database 0"
    );
    let keys: Vec<Vec<u8>> = entries_of(items)
        .into_iter()
        .map(|(_, entry)| {
            assert_eq!(entry.expire_at_ms, None);
            entry.key
        })
        .collect();
    assert_eq!(keys, [&b"before"[..], b"after"]);
}

#[test]
fn every_version_that_we_write_holds_the_same_to_us() {
    for (name, rdb) in server_files() {
        let items = read_items(&rdb, ReaderOptions::default()).unwrap();
        let expected = contents(&rdb, ReaderOptions::default());
        for version in [10, 11, 12] {
            if version < 12 && has_field_expiry(&expected) {
                refuse_field_expiry(&items, version);
                continue;
            }
            for (compress, checksum) in [(true, true), (false, true), (true, false)] {
                let ours = rewrite(&items, version, compress, checksum);
                assert_eq!(version_of(&ours), version);
                assert_eq!(ours[ours.len() - 8..] == [0; 8], !checksum);
                for (_, entry) in entries_of(read_items(&ours, AS_STORED).unwrap()) {
                    let needed = types::version_of(entry.object_type);
                    assert!(needed <= version, "{name}: type {}", entry.object_type);
                }
                let what = format!("{name} in version {version}, compress {compress}");
                let found = contents(&ours, ReaderOptions::default());
                match version {
                    10 => assert_eq!(
                        without_active_times(found),
                        without_active_times(expected.clone()),
                        "{what}"
                    ),
                    _ => assert_eq!(found, expected, "{what}"),
                }
            }
        }
    }
}

/// A hash with fields that expire can't be written before version 12, and nothing is left of the try.
fn refuse_field_expiry(items: &[Item], version: u16) {
    let target = Target {
        version,
        compress: true,
    };
    let mut refused = 0;
    for (_, entry) in entries_of(items.to_vec()) {
        let mut out = Vec::new();
        if let Err(error) = transcode(entry.object_type, &entry.payload, target, &mut out) {
            assert!(matches!(error, ObjectError::NotInVersion { .. }), "{error}");
            assert!(out.is_empty());
            refused += 1;
        }
    }
    // One lost its last time by HPERSIST: that is an ordinary hash.
    assert_eq!(refused, 3);
}

/// The machine's Redis 7.0 reads version 10; newer ones are in `RR_SERVERS`.
#[test]
fn servers_find_the_same_in_every_version_that_we_write() {
    for program in programs() {
        let Some(mut server) = Redis::start_program(&program, "versions") else {
            continue;
        };
        let (name, version_max) = server.rdb_version_max();
        let mut loads = 0;
        for (file, rdb) in server_files() {
            if version_of(&rdb) > version_max || file == "modules" {
                continue;
            }
            let items = read_items(&rdb, ReaderOptions::default()).unwrap();
            let is_timed = has_field_expiry(&contents(&rdb, ReaderOptions::default()));
            server.line("FLUSHALL");
            flush_functions(&mut server, version_max);
            server.load(&rdb);
            let digest = server.digest();
            assert!(digest.chars().any(|digit| digit != '0'), "{name} {file}");
            for version in (10..=version_max).filter(|version| *version == 12 || !is_timed) {
                for compress in [true, false] {
                    server.line("FLUSHALL");
                    flush_functions(&mut server, version_max);
                    server.load(&rewrite(&items, version, compress, compress));
                    let what = format!("{name}: {file} in version {version}, compress {compress}");
                    assert_eq!(server.digest(), digest, "{what}");
                    loads += 1;
                }
            }
        }
        println!("{name}: {loads} files of ours loaded");
        assert!(loads >= 4 || version_max < 10);
    }
}

/// Files that bring a library that is there already are refused.
fn flush_functions(server: &mut Redis, version_max: u16) {
    if version_max >= 10 {
        server.line("FUNCTION FLUSH");
    }
}

/// An empty stream from before Redis 7.0 begins, to Redis, at the largest id.
fn of_no_first(mut content: Content) -> Content {
    if let Content::Stream(stream) = &mut content
        && stream.meta.length == 0
    {
        stream.meta.first_id = Default::default();
    }
    content
}

#[test]
fn dump_payloads_of_every_version_pass_both_ways() {
    for program in programs() {
        let Some(mut server) = Redis::start_program(&program, "payloads") else {
            continue;
        };
        let (name, version_max) = server.rdb_version_max();
        let files = server_files().into_iter();
        let newest = files
            .filter(|(file, rdb)| version_of(rdb) <= version_max && file != "modules")
            .max_by_key(|(_, rdb)| version_of(rdb));
        let (file, rdb) = newest.expect("a file for every server");
        server.load(&rdb);
        let items = read_items(&rdb, ReaderOptions::default()).unwrap();
        for (_, entry) in entries_of(items)
            .into_iter()
            .filter(|(database, _)| *database == 0)
        {
            let what = format!("{name}: {} of {file}", entry.key.escape_ascii());
            let payload = server.call(&[b"DUMP".as_slice(), &entry.key]).bulk();
            let (object_type, body) = dump::verify(&payload).unwrap();
            let theirs = content_of(decode(object_type, body).unwrap());
            let object = decode(entry.object_type, &entry.payload).unwrap();
            assert_eq!(of_no_first(theirs), content_of(object), "{what}");
            server.call(&[b"PERSIST".as_slice(), &entry.key]);
            for version in 10..=version_max {
                let mut ours = Vec::new();
                let (target, mut body) = (
                    Target {
                        version,
                        compress: true,
                    },
                    Vec::new(),
                );
                match transcode(entry.object_type, &entry.payload, target, &mut body) {
                    Err(ObjectError::NotInVersion { .. }) => continue,
                    Err(error) => panic!("{what}: {error}"),
                    Ok(written) => dump::write(&mut ours, written.object_type, &body, version),
                }
                server.call(&[b"RESTORE".as_slice(), b"copy", b"0", &ours, b"REPLACE"]);
                let same =
                    server.call(&[b"DEBUG".as_slice(), b"DIGEST-VALUE", &entry.key, b"copy"]);
                let common::redis::Reply::Array(digests) = same else {
                    panic!("no digests")
                };
                assert_eq!(digests[0], digests[1], "{what} in version {version}");
            }
        }
    }
}
