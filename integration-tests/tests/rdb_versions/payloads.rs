//! DUMP here and RESTORE there, and the other way round, in the version of the other server.

use crate::replies::{SERVERS, folder_with, version_read};
use redrock_integration_tests::process::{Kind, Server, has_redis, other_servers};
use redrock_integration_tests::resp::{Client, Reply};

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

fn bulk(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Every key of database 0.
fn keys(client: &mut Client) -> Vec<Vec<u8>> {
    let keys = client.ok("KEYS *").unwrap().elements();
    keys.into_iter().map(bulk).collect()
}

fn dump(client: &mut Client, key: &[u8]) -> Vec<u8> {
    client.run(&[b"PERSIST".as_slice(), key]).unwrap();
    bulk(client.run(&[b"DUMP".as_slice(), key]).unwrap())
}

/// Restores a payload beside a key and compares the two by the server's own digest; streams, of which we
/// have none, by what DUMP gives.
fn assert_restored(client: &mut Client, key: &[u8], payload: &[u8], what: &str) {
    let copy = b"copy of it".as_slice();
    let restored = client
        .run(&[b"RESTORE".as_slice(), copy, b"0", payload, b"REPLACE"])
        .unwrap();
    assert_eq!(restored.text(), "OK", "{what}: {restored:?}");
    if client.run(&[b"TYPE".as_slice(), key]).unwrap().text() == "stream" {
        assert_eq!(dump(client, copy), dump(client, key), "{what}");
    } else {
        let digests = client
            .run(&[b"DEBUG".as_slice(), b"DIGEST-VALUE", key, copy])
            .unwrap();
        let digests = digests.elements();
        assert_eq!((digests.len(), &digests[0]), (2, &digests[1]), "{what}");
    }
    client.run(&[b"DEL".as_slice(), copy]).unwrap();
}

fn exchange(other: &Server, name: &str, version: u16) {
    let folder = folder_with(&format!("{name}.rdb"));
    let version = version.to_string();
    let options = [
        &DEBUG[..],
        &["--companions", "external", "--rdb-version", &version],
    ]
    .concat();
    let ours = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let (mut ours, mut theirs) = (ours.client().unwrap(), other.client().unwrap());
    let mut passed = 0;
    // Redis takes an empty stream of Redis 6 to begin at the largest id, we at none.
    let is_comparable = |key: &Vec<u8>| !(name.starts_with("redis-6") && key == b"stream:empty");
    for key in keys(&mut ours).into_iter().filter(is_comparable) {
        let what = format!("{} in version {version}", key.escape_ascii());
        let payload = dump(&mut ours, &key);
        let footer = payload.len() - 10;
        assert_eq!(
            payload[footer..footer + 2],
            version.parse::<u16>().unwrap().to_le_bytes()
        );
        let back = dump(&mut theirs, &key);
        assert_restored(&mut theirs, &key, &payload, &what);
        assert_restored(&mut ours, &key, &back, &format!("{what}, back"));
        passed += 1;
    }
    assert!(passed >= 26, "{passed} of {name}");
}

#[test]
fn payloads_pass_between_us_and_redis_7_0() {
    if !has_redis() {
        return;
    }
    let name = "redis-6.2.16";
    let folder = folder_with(&format!("{name}.rdb"));
    let redis = Server::start(Kind::Redis, folder.path(), &[]).unwrap();
    exchange(&redis, name, 10);
}

/// Needs servers in `RR_SERVERS`.
#[test]
fn payloads_pass_between_us_and_later_servers() {
    for program in other_servers() {
        let empty = tempfile::tempdir().unwrap();
        let probe = Server::start_program(&program, empty.path(), &[]).unwrap();
        let (server_name, version_max) = version_read(&probe);
        drop(probe);
        for version in 11..=version_max {
            let name = match version {
                11 => "redis-7.2.6",
                _ => "redis-7.4.1",
            };
            assert!(SERVERS.iter().any(|(known, _)| *known == name));
            let folder = folder_with(&format!("{name}.rdb"));
            let server = Server::start_program(&program, folder.path(), &DEBUG).unwrap();
            exchange(&server, name, version);
            println!("{server_name}: payloads of version {version} passed");
        }
    }
}
