//! Files that we save: in the version that the option says, with what Redis 7.0, 7.2, 7.4 and Valkey find
//! in them, and what eviction goes by.

use crate::replies::{SERVERS, assert_answers, folder_with, version_read};
use redrock_integration_tests::process::{Kind, Server, has_redis, other_servers};
use redrock_rdb::file::{Entry, Item, RdbReader, ReaderOptions};
use redrock_rdb::object::types;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

/// A folder with what we save of a fixture in a version, with `options`.
fn saved(name: &str, version: &str, options: &[&str]) -> tempfile::TempDir {
    let folder = folder_with(&format!("{name}.rdb"));
    let options = [&["--rdb-version", version], options].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("SAVE").unwrap().text(), "OK");
    assert!(server.terminate().unwrap().success());
    // Nothing else than the dump.
    let fresh = tempfile::tempdir().unwrap();
    std::fs::copy(dump(folder.path()), dump(fresh.path())).unwrap();
    fresh
}

fn dump(folder: &Path) -> PathBuf {
    folder.join("dump.rdb")
}

/// Version and entries of a folder's dump, as they are stored.
fn read(folder: &Path) -> (u16, Vec<Entry>) {
    let rdb = std::fs::read(dump(folder)).unwrap();
    let options = ReaderOptions {
        normalize: false,
        ..ReaderOptions::default()
    };
    let mut reader = RdbReader::new(&rdb[..], options).unwrap();
    let mut entries = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Entry(entry) = item {
            entries.push(entry);
        }
    }
    (reader.version(), entries)
}

/// What a file of version 10 does not keep: when a consumer was last active. A server that saved it had
/// loaded it before.
const NOT_IN_10: [&str; 1] = ["XINFO STREAM stream FULL"];

#[test]
fn a_save_has_the_version_of_the_option_and_is_read_again() {
    for (name, _) in SERVERS {
        for version in ["10", "11", "12"] {
            if name.contains("7.4") && version != "12" {
                continue;
            }
            let folder = saved(name, version, &[]);
            let (found, entries) = read(folder.path());
            assert_eq!(found.to_string(), version, "{name}");
            let used: BTreeSet<u8> = entries.iter().map(|entry| entry.object_type).collect();
            let expected: &[u8] = match version {
                "10" => &[0, 2, 4, 5, 11, 16, 17, 18, 19],
                _ if name.contains("7.4") => &[0, 2, 4, 5, 11, 16, 17, 18, 20, 21, 24, 25],
                _ => &[0, 2, 4, 5, 11, 16, 17, 18, 20, 21],
            };
            let expected: BTreeSet<u8> = expected.iter().copied().collect();
            assert!(
                used.is_subset(&expected),
                "{name} in version {version}: {used:?}"
            );
            assert!(used.contains(match version {
                "10" => &types::STREAM_LISTPACKS_2,
                _ => &types::STREAM_LISTPACKS_3,
            }));
            let options = [
                &DEBUG[..],
                &["--companions", "external", "--rdb-version", "12"],
            ]
            .concat();
            let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
            let except = if version == "10" { &NOT_IN_10[..] } else { &[] };
            assert_answers(&mut server.client().unwrap(), name, except);
        }
    }
}

#[test]
fn redis_7_0_loads_what_we_save_by_default() {
    if !has_redis() {
        return;
    }
    for (name, _) in SERVERS.iter().filter(|(name, _)| !name.contains("7.4")) {
        let folder = saved(name, "10", &[]);
        let redis = Server::start(Kind::Redis, folder.path(), &[]).unwrap();
        assert_answers(
            &mut redis.client().unwrap(),
            name,
            &encodings_of_later_versions(),
        );
    }
}

/// Redis 7.0 has small sets in hash tables and lists in quicklists only, and no times of activity.
fn encodings_of_later_versions() -> [&'static str; 3] {
    [
        "OBJECT ENCODING set:small",
        "OBJECT ENCODING l",
        NOT_IN_10[0],
    ]
}

/// Needs servers in `RR_SERVERS`.
#[test]
fn later_servers_load_what_we_save_in_their_versions() {
    for program in other_servers() {
        let empty = tempfile::tempdir().unwrap();
        let probe = Server::start_program(&program, empty.path(), &[]).unwrap();
        let (server_name, version_max) = version_read(&probe);
        drop(probe);
        let mut loads = 0;
        for version in 10..=version_max {
            for (name, _) in SERVERS
                .iter()
                .filter(|(name, _)| version == 12 || !name.contains("7.4"))
            {
                let folder = saved(name, &version.to_string(), &[]);
                let server = Server::start_program(&program, folder.path(), &DEBUG).unwrap();
                let except = match version {
                    10 => encodings_of_later_versions().to_vec(),
                    _ => vec![],
                };
                assert_answers(&mut server.client().unwrap(), name, &except);
                loads += 1;
            }
        }
        println!("{server_name}: {loads} files of ours loaded");
    }
}

#[test]
fn a_save_keeps_what_the_policy_goes_by_as_redis_does() {
    for (policy, has_frequency, has_idle) in [
        ("noeviction", false, false),
        ("allkeys-random", false, false),
        ("volatile-ttl", false, false),
        ("allkeys-lfu", true, false),
        ("volatile-lfu", true, false),
        ("allkeys-lru", false, true),
        ("volatile-lru", false, true),
    ] {
        let options = ["--maxmemory-policy", policy, "--rdbchecksum", "no"];
        let folder = saved("redis-7.2.6", "11", &options);
        let (_, entries) = read(folder.path());
        assert_eq!(entries.len(), 29);
        for entry in entries {
            assert_eq!(entry.frequency.is_some(), has_frequency, "{policy}");
            assert_eq!(entry.idle_secs.is_some(), has_idle, "{policy}");
        }
        let rdb = std::fs::read(dump(folder.path())).unwrap();
        assert_eq!(rdb[rdb.len() - 8..], [0; 8], "no checksum was asked for");
    }
}
