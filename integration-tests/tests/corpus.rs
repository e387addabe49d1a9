//! The server starts from RDB files of many Redis versions and holds what Redis finds in them.
//!
//! Our own files are in `fixtures/rdb`, with the digest that Redis 7.0.15 gave. More, with their
//! content as JSON, are read from `RR_RDB_CORPUS` or from beside the checkout.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use redrock_integration_tests::process::{Kind, Server, free_port, has_redis, missing};
use redrock_integration_tests::resp::{Client, Reply};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The newest version of files that Redis 7.0 reads.
const REDIS_VERSION_MAX: u32 = 10;

fn here() -> &'static Path {
    Path::new(".")
}

/// The files of a folder that end in `.rdb`, sorted.
fn dumps(folder: &Path) -> Option<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .map(|entry| entry.expect("list the corpus").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rdb"))
        .collect();
    found.sort();
    Some(found)
}

/// The files that are no part of the repository. Those that are named must be there; that none are
/// named is no reason to fail under `RR_NO_SKIP` either: the fixtures have files of each version.
fn corpus() -> Option<Vec<PathBuf>> {
    let named = std::env::var_os("RR_RDB_CORPUS").map(PathBuf::from);
    let is_named = named.is_some();
    let folder = named.unwrap_or_else(|| here().join("../../shared/rdb-corpus"));
    let found = dumps(&folder);
    let what = format!("no corpus at {}", folder.display());
    match &found {
        None if is_named => missing(&what),
        None => eprintln!("skipped: {what}, and RR_RDB_CORPUS names none"),
        Some(_) => {}
    }
    found
}

/// A folder with the file as its dump.
fn folder_with(dump: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(dump, folder.path().join("dump.rdb")).unwrap();
    folder
}

const OPTIONS: [&str; 4] = ["--companions", "external", "--enable-debug-command", "yes"];

fn digest(client: &mut Client) -> String {
    match client.ok("DEBUG DIGEST").unwrap() {
        Reply::Status(digest) => digest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_of_redis_7_0_are_loaded_and_give_its_digest() {
    let files = dumps(&here().join("fixtures/rdb")).expect("the fixtures");
    assert!(files.len() >= 5, "only {} files", files.len());
    for file in files {
        let name = file.display();
        let expected = std::fs::read_to_string(file.with_extension("digest")).unwrap();
        let folder = folder_with(&file);
        let server = Server::start(Kind::RedRock, folder.path(), &OPTIONS).unwrap();
        let mut client = server.client().unwrap();
        if !has_streams(&mut client) {
            assert_eq!(digest(&mut client), expected.trim(), "{name}");
        }
        if has_redis() {
            assert_same_as_redis(&mut client, &file);
        }
    }
}

/// All keys of the selected database that hold streams.
fn streams(client: &mut Client) -> Vec<Vec<u8>> {
    let keys = client.ok("KEYS *").unwrap().elements();
    let keys = keys.into_iter().map(|key| match key {
        Reply::Bulk(key) => key,
        other => panic!("{other:?}"),
    });
    keys.filter(|key| client.run(&[b"TYPE", &key[..]]).unwrap().text() == "stream")
        .collect()
}

fn has_streams(client: &mut Client) -> bool {
    !streams(client).is_empty()
}

/// The server holds what Redis holds that has loaded the same file. Streams, which the server
/// keeps encoded and has no digest of, are compared by what DUMP gives.
fn assert_same_as_redis(client: &mut Client, file: &Path) {
    let name = file.display();
    let folder = folder_with(file);
    let redis = Server::start(Kind::Redis, folder.path(), &[]).unwrap();
    let mut redis = redis.client().unwrap();
    assert_eq!(keys(client), keys(&mut redis), "{name}");
    for side in [&mut *client, &mut redis] {
        side.ok("CONFIG SET rdbcompression no").unwrap();
        side.ok("SELECT 0").unwrap();
    }
    for key in streams(&mut redis) {
        let ours = client.run(&[b"DUMP", &key[..]]).unwrap();
        let theirs = redis.run(&[b"DUMP", &key[..]]).unwrap();
        assert_eq!(ours, theirs, "{name} {}", key.escape_ascii());
        for side in [&mut *client, &mut redis] {
            side.run(&[b"DEL", &key[..]]).unwrap();
        }
    }
    assert_eq!(digest(client), digest(&mut redis), "{name}");
}

/// Whether a hash of the JSON has fields that expire, which Redis 7.2 has not.
fn has_field_expiry(value: &Value) -> bool {
    let times = value["expire"].as_object();
    times.is_some_and(|times| times.values().any(|at| at.as_u64() != Some(0)))
}

#[test]
fn files_of_all_redis_versions_are_loaded_as_redis_does_or_refused_by_name() {
    let Some(files) = corpus() else { return };
    let compares = has_redis();
    let (mut loaded, mut compared) = (0, 0);
    for file in files {
        let name = file.display();
        let json = std::fs::read_to_string(file.with_extension("json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let values = json.as_array().unwrap();
        let folder = folder_with(&file);
        let mut options = OPTIONS.to_vec();
        if values.iter().any(has_field_expiry) {
            let port = free_port().unwrap();
            let refused = Server::refused(Kind::RedRock, folder.path(), port, &options);
            let (status, text) = refused.unwrap();
            assert!(!status.success(), "{name}");
            assert!(text.contains("set rdb-version 12"), "{name}: {text}");
            options.extend(["--rdb-version", "12"]);
        }
        let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
        let mut client = server.client().unwrap();
        loaded += 1;
        let alive = values.iter().filter(|value| value["expiration"].is_null());
        assert!(keys(&mut client) >= alive.count(), "{name}");
        let bytes = std::fs::read(&file).unwrap();
        let version: u32 = String::from_utf8_lossy(&bytes[5..9]).parse().unwrap();
        if compares && version <= REDIS_VERSION_MAX {
            assert_same_as_redis(&mut client, &file);
            compared += 1;
        }
    }
    println!("{loaded} files loaded, {compared} compared with Redis");
    assert!(loaded >= 20 && (compared >= 20 || !compares));
}

/// Keys in all databases.
fn keys(client: &mut Client) -> usize {
    let keys = (0..16).map(|database| {
        client.ok(&format!("SELECT {database}")).unwrap();
        client.ok("DBSIZE").unwrap().int().unwrap() as usize
    });
    keys.sum()
}
