//! redis-cli (hiredis): what it prints of this server is what it prints of Redis.

use crate::{KINDS, PASSWORD, Target, has_redis};
use redrock_integration_tests::process::Kind;
use redrock_integration_tests::resp::encode;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs redis-cli with input; what it printed and whether it succeeded.
fn cli(target: &Target, arguments: &[&str], input: &[u8]) -> (String, bool) {
    let mut child = Command::new("timeout")
        .args(["60", "redis-cli", "-p", &target.server.port.to_string()])
        .args(["-a", PASSWORD, "--no-auth-warning"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (text, output.status.success())
}

/// As [`cli`], for what must succeed.
fn printed(target: &Target, arguments: &[&str], input: &[u8]) -> String {
    let (text, success) = cli(target, arguments, input);
    assert!(success, "{arguments:?}: {text}");
    text
}

/// Commands as RESP that fill a server: all types, one large value of each.
fn filling() -> Vec<u8> {
    let mut out = Vec::new();
    for i in 0..5000 {
        encode(
            &mut out,
            &["SET", &format!("string:{i}"), &"x".repeat(i % 50)],
        );
    }
    encode(&mut out, &["SET", "string:large", &"x".repeat(100_000)]);
    for i in 0..2000 {
        let i = i.to_string();
        encode(&mut out, &["RPUSH", "list:large", &i]);
        encode(&mut out, &["HSET", "hash:large", &i, &i]);
        encode(&mut out, &["SADD", "set:large", &i]);
        encode(&mut out, &["ZADD", "zset:large", &i, &i]);
        encode(&mut out, &["XADD", "stream:large", "*", "n", &i]);
    }
    out
}

/// Lines that tell of figures of the whole data set, in an order of their own.
fn summary(text: &str) -> Vec<String> {
    let after = text
        .split("-------- summary -------")
        .nth(1)
        .unwrap_or_default();
    let lines = after.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What redis-cli prints of a server, part by part, in a form that does not depend on its order.
fn tour(target: &Target) -> Vec<(&'static str, Vec<String>)> {
    let lines = |text: String| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let mut parts = Vec::new();
    let piped = printed(target, &["--pipe"], &filling());
    assert!(piped.ends_with("errors: 0, replies: 15001\n"), "{piped}");
    parts.push(("pipe", lines(piped)));
    let mut scanned = lines(printed(target, &["--scan", "--pattern", "s*:1?*"], b""));
    scanned.sort();
    assert!(scanned.len() > 1000, "{}", scanned.len());
    parts.push(("scan", scanned));
    let biggest = summary(&printed(target, &["--bigkeys"], b""));
    assert!(
        biggest
            .iter()
            .any(|line| line.ends_with("'\"hash:large\"' has 2000 fields")),
        "{biggest:#?}"
    );
    parts.push(("bigkeys", biggest));
    // Sizes in memory are each server's own; the keys that it finds are not.
    let memory = summary(&printed(target, &["--memkeys"], b""));
    assert!(
        memory.iter().any(|line| line.contains("\"string:large\"")),
        "{memory:#?}"
    );
    let session =
        b"SET a 1\nMULTI\nINCR a\nLPUSH a x\nGET a\nEXEC\nGET a\nLRANGE a 0 -1\nNOSUCH x\n\
        MULTI\nNOSUCH\nEXEC\nSELECT 3\nDBSIZE\nHGETALL none\nECHO \"a\\x00b\"\n";
    for (name, options) in [
        ("session", &[][..]),
        ("session without tty form", &["--no-raw"]),
        ("session with RESP3", &["-3", "--no-raw"]),
        ("session as csv", &["--csv"]),
    ] {
        parts.push((name, lines(cli(target, options, session).0)));
    }
    parts.push((
        "argument from input",
        lines(printed(target, &["-x", "SET", "input"], b"from\0input")),
    ));
    parts.push((
        "its length",
        lines(printed(target, &["STRLEN", "input"], b"")),
    ));
    parts.push((
        "json",
        lines(printed(target, &["--json", "HRANDFIELD", "none", "3"], b"")),
    ));
    parts.push((
        "repeated",
        lines(printed(target, &["-r", "3", "INCR", "counter"], b"")),
    ));
    let address = format!("127.0.0.1:{}", target.server.port);
    for (name, arguments) in [
        ("cluster mode", &["-c", "GET", "a"][..]),
        ("cluster command", &["CLUSTER", "INFO"]),
        ("cluster check", &["--cluster", "check", &address]),
        ("error as exit code", &["-e", "LPUSH", "a", "x"]),
    ] {
        let (text, success) = cli(target, arguments, b"");
        let text = text.replace(&address, "ADDRESS");
        parts.push((name, [lines(text), vec![success.to_string()]].concat()));
    }
    parts
}

#[test]
fn redis_cli_prints_what_it_prints_of_redis() {
    if !has_redis() {
        return;
    }
    let [theirs, ours] = KINDS.map(|kind| tour(&Target::start(kind)));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours, "Redis left, ours right");
    }
    assert_eq!(theirs.len(), ours.len());
}

#[test]
fn redis_cli_takes_a_dump_that_redis_loads() {
    if !has_redis() {
        return;
    }
    let target = Target::start_with(Kind::RedRock, &[]);
    printed(&target, &["--pipe"], &filling());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.rdb");
    printed(&target, &["--rdb", &file.to_string_lossy()], b"");
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&file) > 100, "{}", size(&file));
    let checked = Command::new("redis-check-rdb").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("RDB looks OK"), "{text}");
    assert!(text.contains("5006 keys read"), "{text}");
}
