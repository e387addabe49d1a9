//! Deaths and full disks while the next log file is begun: it is listed, and the one before goes on.

use super::{AOF, policy, segment};
use redrock_integration_tests::process::{Kind, Server, free_port};
use std::path::Path;

/// Length of a sidecar's header; `docs/formats/log-sidecar.md`.
const HEADER_BYTES: usize = 128;

/// Lists a second log file with this content and this sidecar.
fn list_next(folder: &Path, sequence: u64, bytes: &[u8], sidecar: &[u8]) -> anyhow::Result<()> {
    let folder = folder.join("appendonlydir");
    let name = format!("appendonly.aof.{sequence}.incr.aof");
    std::fs::write(folder.join(&name), bytes)?;
    std::fs::write(folder.join(format!("{name}.meta")), sidecar)?;
    let manifest = folder.join("appendonly.aof.manifest");
    let mut text = std::fs::read_to_string(&manifest)?;
    text.push_str(&format!("file {name} seq {sequence} type i\n"));
    std::fs::write(&manifest, text)?;
    Ok(())
}

fn meta(folder: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(std::fs::read(format!(
        "{}.meta",
        segment(folder).display()
    ))?)
}

/// A log of a hundred keys, synced, and of a server that was killed.
fn log_of_100_keys(folder: &Path) -> anyhow::Result<()> {
    let server = Server::start(Kind::RedRock, folder, &policy("always"))?;
    let mut client = server.client()?;
    for n in 0..100 {
        client.ok(&format!("SET key:{n} value"))?;
    }
    server.kill_family()?;
    Ok(())
}

#[test]
fn a_log_file_that_was_not_begun_is_begun_anew() {
    const PREFIX: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
    // The header copied from the first file says the place of a switch that the first one went
    // on beyond.
    for (bytes, header_bytes) in [
        (&b""[..], 0),
        (b"", 50),
        (b"", HEADER_BYTES),
        (&PREFIX[..10], HEADER_BYTES),
        (PREFIX, HEADER_BYTES),
    ] {
        let folder = tempfile::tempdir().unwrap();
        log_of_100_keys(folder.path()).unwrap();
        let header = meta(folder.path()).unwrap();
        list_next(folder.path(), 2, bytes, &header[..header_bytes]).unwrap();
        for keys in 100..103 {
            let strict = [&AOF[..], &["--aof-load-truncated", "no"]].concat();
            let server = Server::start(Kind::RedRock, folder.path(), &strict).unwrap();
            let mut client = server.client().unwrap();
            let case = (bytes.len(), header_bytes);
            let found = client.ok("DBSIZE").unwrap().int();
            assert_eq!(found, Some(keys), "{case:?}");
            client.ok(&format!("SET key:{keys} value")).unwrap();
            server.kill_family().unwrap();
        }
        let second = folder
            .path()
            .join("appendonlydir/appendonly.aof.2.incr.aof");
        assert!(std::fs::metadata(second).unwrap().len() > PREFIX.len() as u64);
    }
}

#[test]
fn a_log_file_that_lost_what_was_durable_or_lacks_another_before_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    log_of_100_keys(folder.path()).unwrap();
    // All records of the first file: bytes that were durable are missing.
    list_next(folder.path(), 2, b"", &meta(folder.path()).unwrap()).unwrap();
    let refused = |word: &str| {
        let port = free_port().unwrap();
        let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains(word), "{text}");
    };
    refused("there is a gap in the log");
    // A third file that goes on behind the second, without the second.
    let manifest = folder.path().join("appendonlydir/appendonly.aof.manifest");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let first: String = text.split_inclusive('\n').take(1).collect();
    std::fs::write(&manifest, &first).unwrap();
    list_next(folder.path(), 2, b"", b"").unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    server.client().unwrap().ok("SET a 1").unwrap();
    server.kill_family().unwrap();
    std::fs::write(&manifest, &first).unwrap();
    let second = folder
        .path()
        .join("appendonlydir/appendonly.aof.2.incr.aof");
    let end = std::fs::metadata(&second).unwrap().len();
    assert!(end > 23);
    let mut later = std::fs::read(format!("{}.meta", second.display())).unwrap();
    later.truncate(HEADER_BYTES);
    let crc = restarted_at(&mut later, 1 << 20);
    assert_ne!(crc, 0);
    list_next(folder.path(), 3, b"", &later).unwrap();
    refused("there is a gap in the log");
}

/// Makes a header say another start offset; its checksum.
fn restarted_at(header: &mut [u8], offset: u64) -> u32 {
    header[16..24].copy_from_slice(&offset.to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    crc
}
