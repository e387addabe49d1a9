//! Files that are torn, damaged or unknown, and folders that are in use.

use super::{AOF, policy, segment};
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::resp::encode;

#[test]
fn a_torn_tail_is_cut_with_a_copy_or_refused_as_configured() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    client.ok("SET a 1").unwrap();
    client.ok("SET b 2").unwrap();
    server.kill().unwrap();
    let path = segment(folder.path());
    let whole = std::fs::read(&path).unwrap();
    // More than a replay keeps in memory until EXEC.
    let mut large = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
    let value = vec![b'x'; 100_000];
    (0..30).for_each(|_| encode(&mut large, &[b"SET", &b"a"[..], &value]));
    for tail in [
        &b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1"[..],
        &large,
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n9\r\n",
        b"\0\0\0\0\0\0",
    ] {
        std::fs::write(&path, [&whole[..], tail].concat()).unwrap();
        let strict = [&AOF[..], &["--aof-load-truncated", "no"]].concat();
        let port = free_port().unwrap();
        let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &strict).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(
            text.contains("offset") && text.contains("aof-load-truncated"),
            "{text}"
        );
        assert!(
            text.contains(", command ") && text.contains("`redrock-persist check --repair`"),
            "{text}"
        );
        assert_eq!(
            std::fs::read(&path).unwrap().len(),
            whole.len() + tail.len()
        );

        let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
        let mut client = server.client().unwrap();
        assert_eq!(client.ok("GET a").unwrap().text(), "1");
        assert_eq!(client.ok("GET b").unwrap().text(), "2");
        server.kill().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        let copies: Vec<_> = std::fs::read_dir(folder.path().join("appendonlydir"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".cut-"))
            .collect();
        assert_eq!(copies.len(), 1, "{copies:?}");
        assert_eq!(std::fs::read(&copies[0]).unwrap(), tail);
        std::fs::remove_file(&copies[0]).unwrap();
    }
}

#[test]
fn damage_before_the_last_sync_refuses_the_start_and_names_place_and_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &policy("always")).unwrap();
    let mut client = server.client().unwrap();
    for n in 0..100 {
        client.ok(&format!("SET key:{n} value")).unwrap();
    }
    assert!(server.terminate().unwrap().success());
    let path = segment(folder.path());
    let good = std::fs::read(&path).unwrap();
    // A changed value parses; only the checksum tells. A cut is seen by the watermark.
    let mut flipped = good.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    for bad in [&flipped[..], &good[..good.len() / 2]] {
        std::fs::write(&path, bad).unwrap();
        let port = free_port().unwrap();
        let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        for word in [
            "is damaged: bytes",
            "Restore the file",
            "`redrock-persist check`",
            "with --repair",
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), bad, "nothing may be touched");
    }
    std::fs::write(&path, good).unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    assert_eq!(
        server.client().unwrap().ok("DBSIZE").unwrap().int(),
        Some(100)
    );
}

#[test]
fn an_unknown_command_in_the_log_refuses_the_start_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    server.kill().unwrap();
    let path = segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    encode(&mut bytes, &["FROBNICATE", "x"]);
    std::fs::write(&path, bytes).unwrap();
    let port = free_port().unwrap();
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("Unknown command 'FROBNICATE'") && text.contains("offset 23 (command "),
        "{text}"
    );
    assert!(text.contains("What to do: load the file with"), "{text}");
}

#[test]
fn a_second_server_on_the_folder_or_the_port_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let port = free_port().unwrap();
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains(&format!("pid {}", server.pid())), "{text}");
    let (status, text) = Server::refused(Kind::RedRock, other.path(), server.port, &AOF).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("Address already in use"), "{text}");
    assert!(
        !other.path().join("appendonlydir").exists(),
        "the port comes before the data"
    );
    server.client().unwrap().ok("SET still here").unwrap();
}
