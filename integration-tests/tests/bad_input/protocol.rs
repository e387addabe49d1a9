//! Requests that are malformed: the same error and the same fate of the connection as in Redis.

use crate::wire::{Pair, line, none, resp};

/// RESP that is wrong in its header lines.
const HEADERS: &[&[u8]] = &[
    b"*abc\r\n",
    b"*\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*-5\r\n",
    b"*1.5\r\n",
    b"* 1\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*1 \r\n",
    b"*2147483647\r\n$4\r\nPING\r\n",
    b"*2147483648\r\n",
    b"*99999999999999999999\r\n",
    b"*1000000000\r\n",
    b"*9223372036854775807\r\n",
    b"*9223372036854775808\r\n",
    b"*-9223372036854775808\r\n",
    b"*1\n$4\r\nPING\r\n",
    b"*1\r$4\r\nPING\r\n",
    b"*1\rX$4\r\nPING\r\n",
    b"*1\r\n4\r\nPING\r\n",
    b"*1\r\n:4\r\nPING\r\n",
    b"*1\r\n\r\nPING\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n*1\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n\n\r\n",
    b"*2\r\n$4\r\nPING\r\nx\r\n",
    b"*1\r\n$abc\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$-2\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$536870912\r\n",
    b"*1\r\n$9999999999999999999\r\n",
    b"*1\r\n$ 4\r\nPING\r\n",
    b"*1\r\n$4 \r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$+4\r\nPING\r\n",
    b"*1\r\n$4.0\r\nPING\r\n",
    b"*1\r\n$4\r\nPINGxx",
    b"*1\r\n$4\r\nPINGPING\r\n",
    b"*1\r\n$3\r\nPING\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*0\r\n*0\r\n",
    b"*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\na\r\n",
    b"~1\r\n",
    b"$4\r\nPING\r\n",
    b"+OK\r\n",
    b"-ERR x\r\n",
    b":1\r\n",
    b"%1\r\n",
    b"_\r\n",
];

/// Inline requests: quotes, blanks, NUL bytes, strange bytes.
const INLINE: &[&[u8]] = &[
    b"set a \"b\r\n",
    b"set a 'b\r\n",
    b"set a \"b\"c\r\n",
    b"set a 'b'c\r\n",
    b"set a \"\\x41\\n\"\r\nget a\r\n",
    b"\"PING\"\r\n",
    b"'PING'\r\n",
    b"\"\"\r\n",
    b"''\r\n",
    b"set a b\"c d\"\r\nget a\r\n",
    b"PING\n",
    b"PING\rPING\r\n",
    b"\n",
    b"\r\n",
    b" \r\n",
    b"   PING   \r\n",
    b"\tPING\r\n",
    b"\x0bPING\r\n",
    b"\x0cPING\r\n",
    b"PI\x00NG\r\n",
    b"\x00\r\n",
    b"\x00PING\r\n",
    b"PING\x00\r\n",
    b"PING \x00abc\r\n",
    b"set a \"x\x00y\"\r\n",
    b"\x00\x00\x00",
    b"PING \"a\x00b\"\n",
    b"*1\x00\r\n$4\r\nPING\r\n",
    b"*1\r\n\x00\r\n",
    b"*1\r\n$\x004\r\nPING\r\n",
    b"\xff\xfe\r\n",
    b"SET a \x80\r\n",
    b"get a b c d\r\n",
];

/// What a client that goes away leaves behind.
const HALVES: &[&[u8]] = &[
    b"",
    b"PI",
    b"*1",
    b"*1\r",
    b"*1\r\n",
    b"*1\r\n$4",
    b"*1\r\n$4\r\n",
    b"*1\r\n$4\r\nPI",
    b"*1\r\n$4\r\nPING",
    b"*1\r\n$4\r\nPING\r",
];

#[test]
fn malformed_requests_get_the_error_of_redis_and_the_same_end() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&[])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let mut cases: Vec<Vec<u8>> = [HEADERS, INLINE, HALVES]
        .concat()
        .iter()
        .map(|input| input.to_vec())
        .collect();
    let long = |head: &[u8], byte: u8, count: usize, tail: &[u8]| {
        [head, &vec![byte; count][..], tail].concat()
    };
    cases.extend([
        long(b"", b'x', 65_536, b""),
        long(b"", b'x', 65_537, b""),
        long(b"", b'x', 200_000, b"\r\n"),
        long(b"PING ", b'y', 60_000, b"\r\n"),
        long(b"PING\x00", b'z', 70_000, b"\r\n"),
    ]);
    // What came before the garbage was answered, and what follows is not run.
    cases.extend([
        [&b"PING\r\n"[..], b"*x\r\n", b"SET garbage 1\r\n"].concat(),
        [&b"PING\r\n"[..], b"PING\r\n", b"*1\r\n@\r\n", b"PING\r\n"].concat(),
        [
            line("SET k v"),
            line("GET k"),
            b"garbage garbage\r\n".to_vec(),
            line("GET k"),
            b"*1\r\n$-9\r\n".to_vec(),
            line("SET k other"),
        ]
        .concat(),
        line("GET k"),
        [
            line("SET k w"),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$bad\r\n".to_vec(),
            line("SET k x"),
        ]
        .concat(),
        [line("GET k"), line("EXISTS garbage")].concat(),
        line("DEL k a"),
    ]);
    let mut failures = Vec::new();
    for case in &cases {
        pair.compare(case, &mut failures)?;
    }
    // Without a PING behind: whether the end of an overlong line is seen before its length
    // depends on how the bytes arrive, in Redis too.
    for case in [
        long(b"*", b'1', 70_000, b""),
        long(b"*", b'1', 65_534, b""),
        long(b"*1\r\n$", b'1', 70_000, b""),
        long(b"*1\r\n$", b'4', 65_535, b""),
    ] {
        pair.compare_once(&case, &mut failures)?;
    }
    none(failures, cases.len());
    Ok(())
}

#[test]
fn lines_of_http_close_the_connection_before_the_body_runs() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&[])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let cases = [
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET http 1\r\n".to_vec(),
        b"post / http\r\nSET http 1\r\n".to_vec(),
        b"Host: abc\r\nSET http 1\r\n".to_vec(),
        b"host:\r\nSET http 1\r\n".to_vec(),
        resp(&[b"POST", b"x"]),
        resp(&[b"HOST:", b"x"]),
        b"EXISTS http\r\n".to_vec(),
    ];
    let mut failures = Vec::new();
    for case in &cases {
        pair.compare(case, &mut failures)?;
    }
    none(failures, cases.len());
    let log = pair.ours.log_text();
    assert_eq!(log.matches("Possible SECURITY ATTACK").count(), 1, "{log}");
    Ok(())
}
