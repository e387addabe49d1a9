//! RDB and append-only files damaged in each of their parts.

use crate::starts::segment;
use crate::tree::{filled, refused, run};
use anyhow::Context as _;
use redrock_integration_tests::process::{Kind, Server, copy_folder, free_port, has_redis};

/// Replaces bytes from a position on.
fn patched(rdb: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut damaged = rdb.to_vec();
    if let Some(place) = damaged.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
    damaged
}

/// Each part of an RDB file damaged, and what must be said of it.
fn damages(rdb: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (end, half) = (rdb.len(), rdb.len() / 2);
    let flipped = |at: usize| patched(rdb, at, &[!rdb.get(at).copied().unwrap_or(0)]);
    let head = |count: usize| rdb.get(..count).unwrap_or(rdb).to_vec();
    let after_head = |bytes: &[u8]| [&head(9), bytes, rdb.get(9..).unwrap_or_default()].concat();
    let signature = "Wrong signature trying to load DB from file";
    let version = "Can't handle RDB format version";
    let early = "Unexpected EOF reading RDB file";
    vec![
        ("magic", patched(rdb, 0, b"RUDIS"), signature),
        ("text file", b"hello world\n".repeat(100), signature),
        ("empty file", Vec::new(), ""),
        ("part of the magic", head(5), ""),
        (
            "version that is no number",
            patched(rdb, 5, b"abcd"),
            version,
        ),
        ("version 0", patched(rdb, 5, b"0000"), version),
        ("version 13", patched(rdb, 5, b"0013"), version),
        ("version 99", patched(rdb, 5, b"0099"), version),
        (
            "unknown opcode",
            after_head(b"\xf0"),
            "unknown RDB opcode 240",
        ),
        (
            "unknown type",
            after_head(b"\x60\x01k"),
            "unknown RDB type 96: a newer version wrote it, or it is damaged (RDB offset 12, key 'k' in \
             database 0 at offset 9)",
        ),
        (
            "huge length",
            after_head(b"\xfe\0\0\x81\x7f\xff\xff\xff\xff\xff\xff\xff"),
            early,
        ),
        (
            "database too high",
            after_head(b"\xfe\x80\0\x0f\x42\x40"),
            "more than 16 databases",
        ),
        (
            "functions of a release candidate",
            after_head(b"\xf6\x01f"),
            "pre-release function format not supported",
        ),
        (
            "value of a module's release candidate",
            after_head(b"\x06\x01k"),
            "pre-release module format not supported",
        ),
        (
            "version of Valkey",
            patched(rdb, 0, b"VALKEY080"),
            "Can't handle Valkey's RDB format version 080",
        ),
        (
            "end in the middle",
            [head(9), b"\xff".to_vec()].concat(),
            early,
        ),
        ("cut in the middle", head(half), early),
        ("cut before the end mark", head(end - 9), early),
        ("cut in the checksum", head(end - 4), early),
        ("checksum", flipped(end - 1), "Wrong RDB checksum"),
        ("a byte in the middle", flipped(half), ""),
    ]
}

#[test]
fn a_dump_damaged_in_any_part_is_refused_as_by_redis() -> anyhow::Result<()> {
    let source = tempfile::tempdir()?;
    filled(Kind::RedRock, source.path(), false)?;
    let rdb = std::fs::read(source.path().join("dump.rdb"))?;
    for (what, content, reason) in damages(&rdb) {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("dump.rdb"), &content)?;
        if has_redis() {
            let path = folder.path().display().to_string();
            let port = free_port()?.to_string();
            let options = ["--port", &port, "--dir", &path, "--save", ""];
            let real = run(Kind::Redis, folder.path(), &options)?;
            assert_eq!(real.code, Some(1), "{what}: {real:?}");
        }
        let way_out = "What to do: `redrock-persist check";
        let fatal = "Fatal error loading the DB: RDB file";
        refused(folder.path(), &[], &[reason, fatal, way_out]).context(what)?;
    }
    // Sound again, the same directory serves.
    let server = Server::start(Kind::RedRock, source.path(), &["--companions", "external"])?;
    assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(204));
    Ok(())
}

#[test]
fn a_log_damaged_in_the_middle_is_refused_with_the_offset() -> anyhow::Result<()> {
    let source = tempfile::tempdir()?;
    filled(Kind::RedRock, source.path(), true)?;
    let options = ["--appendonly", "yes"];
    let log = std::fs::read(segment(&source.path().join("appendonlydir"))?)?;
    let half = log.len() / 2;
    let mut flipped = log.clone();
    flipped[half] ^= 0xff;
    let cut = log.get(..log.len() - 7).context("log")?.to_vec();
    let unknown = [&log[..], b"*1\r\n$6\r\nNOSUCH\r\n"].concat();
    for (what, content, more, reasons) in [
        (
            "a byte",
            flipped,
            &[][..],
            ["is damaged: bytes", "Restore the file"],
        ),
        (
            "cut below the sync",
            cut,
            &[],
            ["is damaged: bytes", "Restore the file"],
        ),
        (
            "unknown command",
            unknown,
            &[],
            ["Unknown command 'NOSUCH'", "at offset"],
        ),
    ] {
        let folder = tempfile::tempdir()?;
        copy_folder(source.path(), folder.path())?;
        std::fs::write(segment(&folder.path().join("appendonlydir"))?, content)?;
        refused(folder.path(), &[&options[..], more].concat(), &reasons).context(what)?;
    }
    Ok(())
}

/// The same without a sidecar, as Redis leaves a log: its rules, its fate.
#[test]
fn a_log_of_redis_cut_short_or_damaged_is_treated_as_redis_does() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let source = tempfile::tempdir()?;
    filled(Kind::Redis, source.path(), true)?;
    let log = std::fs::read(segment(&source.path().join("appendonlydir"))?)?;
    let cut = log.get(..log.len() - 7).context("log")?.to_vec();
    let half = log
        .windows(4)
        .skip(log.len() / 2)
        .position(|part| part == b"*3\r\n");
    let half = log.len() / 2 + half.context("a command")?;
    let mut broken = log.clone();
    broken[half] = b'X';
    let options = ["--appendonly", "yes"];
    let strict = [&options[..], &["--aof-load-truncated", "no"]].concat();
    for (content, options) in [(&cut, &strict[..]), (&broken, &options), (&broken, &strict)] {
        let folder = tempfile::tempdir()?;
        copy_folder(source.path(), folder.path())?;
        std::fs::write(segment(&folder.path().join("appendonlydir"))?, content)?;
        let named = [
            "offset",
            ", command ",
            "What to do: ",
            "`redrock-persist check --repair`",
        ];
        refused(folder.path(), options, &named)?;
        let path = folder.path().display().to_string();
        let port = free_port()?.to_string();
        let all = [&["--port", &port, "--dir", &path], options].concat();
        assert_eq!(run(Kind::Redis, folder.path(), &all)?.code, Some(1));
    }
    let folder = tempfile::tempdir()?;
    copy_folder(source.path(), folder.path())?;
    std::fs::write(segment(&folder.path().join("appendonlydir"))?, cut)?;
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    assert_eq!(server.client()?.ok("SCARD s")?.int(), Some(199));
    Ok(())
}
