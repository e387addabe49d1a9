//! Limits on what one client may send.

use crate::wire::{Pair, ask, line, none, resp, shown};
use redrock_integration_tests::process::{Kind, Server};

/// The head of a bulk of this many bytes, `sent` of which follow.
fn bulk(words: &[&[u8]], length: usize, sent: usize) -> Vec<u8> {
    let mut input = format!("*{}\r\n", words.len() + 1).into_bytes();
    for word in words {
        input.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        input.extend_from_slice(word);
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(format!("${length}\r\n").as_bytes());
    input.resize(input.len() + sent, b'x');
    if sent == length {
        input.extend_from_slice(b"\r\n");
    }
    input
}

#[test]
fn who_has_not_authenticated_may_send_little() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&["--requirepass", "secret"])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let cases = [
        b"*11\r\n".to_vec(),
        b"*10\r\n".to_vec(),
        b"*1\r\n$16385\r\n".to_vec(),
        b"*1\r\n$16384\r\n".to_vec(),
        b"*2147483647\r\n".to_vec(),
        bulk(&[b"ECHO"], 16_384, 16_384),
        line("GET a"),
        line("nosuch"),
        line("GET"),
        line("AUTH wrong"),
        line("AUTH"),
        line("AUTH a b"),
        line("MULTI"),
        line("SUBSCRIBE a"),
        line("PSYNC ? -1"),
        line("RESET"),
        line("QUIT"),
        [line("AUTH secret"), bulk(&[b"ECHO"], 20_000, 20_000)].concat(),
        [line("SET a b"), line("SET a b"), b"*x\r\n".to_vec()].concat(),
        vec![b'x'; 65_537],
    ];
    let mut failures = Vec::new();
    for case in &cases {
        pair.compare(case, &mut failures)?;
    }
    none(failures, cases.len());
    Ok(())
}

#[test]
fn no_value_passes_proto_max_bulk_len_whichever_way_it_grows() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&["--proto-max-bulk-len", "1mb"])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let megabyte = 1 << 20;
    let cases = [
        b"*1\r\n$1048577\r\n".to_vec(),
        bulk(&[b"SET", b"a"], megabyte, megabyte),
        bulk(&[b"SET", b"b"], megabyte + 1, 100),
        line("STRLEN a"),
        line("APPEND a x"),
        line("SETRANGE z 1048576 x"),
        line("SETRANGE z 1048575 x"),
        line("SETBIT z 8388608 1"),
        line("SETBIT z 8388607 1"),
        line("STRLEN z"),
        line("EXISTS b"),
    ];
    let mut failures = Vec::new();
    for case in &cases {
        pair.compare(case, &mut failures)?;
    }
    none(failures, cases.len());
    Ok(())
}

#[test]
fn a_client_beyond_the_query_buffer_limit_is_closed_and_others_are_served() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&["--client-query-buffer-limit", "1mb"])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let cases = [
        bulk(&[b"SET", b"a"], 900_000, 900_000),
        bulk(&[b"SET", b"b"], 3_000_000, 2_900_000),
        bulk(&[b"SET", b"c"], 3_000_000, 3_000_000),
        line("EXISTS a b c"),
    ];
    let mut failures = Vec::new();
    for case in &cases {
        pair.compare(case, &mut failures)?;
    }
    none(failures, cases.len());
    let log = pair.ours.log_text();
    assert!(log.contains("reached max query buffer length"), "{log}");
    Ok(())
}

#[test]
fn a_claimed_length_takes_no_memory() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &["--companions", "external"])?;
    let before = server.peak_bytes()?;
    for input in [
        &b"*2147483647\r\n$4\r\nPING\r\n"[..],
        b"*1\r\n$536870912\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nabc",
    ] {
        for _ in 0..20 {
            let answer = ask(server.port, input)?;
            assert!(answer.is_empty(), "{}", shown(&answer));
        }
    }
    for command in [
        "SETRANGE a 600000000 x",
        "SRANDMEMBER s -9223372036854775808",
        "LPOP l 1000000000",
    ] {
        ask(server.port, &line(command))?;
    }
    ask(
        server.port,
        &resp(&[
            b"RESTORE",
            b"k",
            b"0",
            b"\x00\x80\xff\xff\xff\xff\x0a\x00\0\0\0\0\0\0\0\0",
        ]),
    )?;
    let grown = server.peak_bytes()?.saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    Ok(())
}
