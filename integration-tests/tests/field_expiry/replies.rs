//! Replies of the family, byte for byte, in both protocols, with values in memory and on disk.

use crate::{FAR, TIERED, evict, start};
use redrock_integration_tests::resp::encode;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Commands and replies; line ends are shown as blanks, and `FAR` is that time.
const ROWS: &[(&str, &str)] = &[
    ("DEL h s", ":N"),
    ("SET s x", "+OK"),
    ("HSET h a 1 b 2 c 3", ":3"),
    ("OBJECT ENCODING h", "$8 listpack"),
    ("HTTL h FIELDS 2 a none", "*2 :-1 :-2"),
    ("OBJECT ENCODING h", "$8 listpack"),
    ("HPEXPIREAT h FAR FIELDS 2 a none", "*2 :1 :-2"),
    ("OBJECT ENCODING h", "$10 listpackex"),
    ("TYPE h", "+hash"),
    ("HPEXPIRETIME h FIELDS 3 a b none", "*3 :FAR :-1 :-2"),
    ("HEXPIRETIME h FIELDS 1 a", "*1 :4102444800"),
    ("HEXPIREAT h 4102444801 NX FIELDS 2 a b", "*2 :0 :1"),
    ("HEXPIREAT h 4102444802 XX FIELDS 2 b c", "*2 :1 :0"),
    ("HEXPIREAT h 4102444801 GT FIELDS 3 a b c", "*3 :1 :0 :0"),
    ("HEXPIREAT h 4102444800 LT FIELDS 3 a b c", "*3 :1 :1 :1"),
    (
        "HEXPIRETIME h FIELDS 3 a b c",
        "*3 :4102444800 :4102444800 :4102444800",
    ),
    ("HINCRBY h a 5", ":6"),
    ("HINCRBYFLOAT h b 0.5", "$3 2.5"),
    ("HEXPIRETIME h FIELDS 2 a b", "*2 :4102444800 :4102444800"),
    ("HSET h a 7", ":0"),
    ("HPERSIST h FIELDS 3 a b none", "*3 :-1 :1 :-2"),
    ("HEXPIRETIME h FIELDS 3 a b c", "*3 :-1 :-1 :4102444800"),
    ("HGETEX h PXAT FAR FIELDS 2 a none", "*2 $1 7 NIL"),
    ("HGETEX h PERSIST FIELDS 1 a", "*1 $1 7"),
    ("HGETEX h FIELDS 2 a c", "*2 $1 7 $1 3"),
    ("HEXPIREAT h 1 FIELDS 2 b b", "*2 :2 :-2"),
    ("HSETEX h FNX FIELDS 2 a 1 d 1", ":0"),
    ("HSETEX h FXX PXAT FAR FIELDS 2 a 1 c 4", ":1"),
    ("HSETEX h KEEPTTL FIELDS 2 a 8 e 9", ":1"),
    ("HPEXPIRETIME h FIELDS 3 a c e", "*3 :FAR :FAR :-1"),
    ("HGETDEL h FIELDS 3 e e a", "*3 $1 9 NIL $1 8"),
    ("HGETALL h", "MAP1 $1 c $1 4"),
    ("HLEN h", ":1"),
    ("COPY h copy REPLACE", ":1"),
    ("HPEXPIRETIME copy FIELDS 1 c", "*1 :FAR"),
    ("RENAME copy moved", "+OK"),
    ("HPEXPIRETIME moved FIELDS 1 c", "*1 :FAR"),
    ("HGETDEL moved FIELDS 1 c", "*1 $1 4"),
    ("EXISTS moved", ":0"),
    ("HPEXPIREAT h 1 FIELDS 1 c", "*1 :2"),
    ("EXISTS h", ":0"),
    ("HEXPIRE h 10 FIELDS 1 a", "*1 :-2"),
    ("HGETEX h EX 10 FIELDS 1 a", "*1 NIL"),
    ("HGETDEL h FIELDS 1 a", "*1 NIL"),
    ("HSETEX h EX 10 FXX FIELDS 1 a 1", ":0"),
    (
        "HEXPIRE s 10 FIELDS 1 a",
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "HEXPIRE h -1 FIELDS 1 a",
        "-ERR invalid expire time, must be >= 0",
    ),
    (
        "HEXPIRE h 10 FIELD 1 a",
        "-ERR Mandatory argument FIELDS is missing or not at the right position",
    ),
    (
        "HTTL h FIELDS 2 a",
        "-ERR The `numfields` parameter must match the number of arguments",
    ),
    (
        "HTTL h FIELDS 1",
        "-ERR wrong number of arguments for 'httl' command",
    ),
    (
        "HEXPIRE h 10 NX a",
        "-ERR wrong number of arguments for 'hexpire' command",
    ),
];

/// The bytes of a reply as it is shown; errors and simple strings keep their blanks.
fn bytes(shown: &str, resp3: bool) -> Vec<u8> {
    let shown = shown
        .replace("FAR", &FAR.to_string())
        .replace("NIL", if resp3 { "_" } else { "$-1" })
        .replace("MAP1", if resp3 { "%1" } else { "*2" });
    let text = match shown.starts_with(['-', '+']) {
        true => shown,
        false => shown.replace(' ', "\r\n"),
    };
    format!("{text}\r\n").into_bytes()
}

fn run(stream: &mut TcpStream, command: &str, length: usize) -> anyhow::Result<Vec<u8>> {
    let words: Vec<&str> = command.split(' ').collect();
    let mut request = Vec::new();
    encode(&mut request, &words);
    stream.write_all(&request)?;
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

#[test]
fn replies_are_those_of_redis_in_both_protocols_in_memory_and_on_disk() -> anyhow::Result<()> {
    for (options, cold, large) in [
        (&[][..], false, false),
        (&[], false, true),
        (&TIERED, false, false),
        (&TIERED, true, false),
        (&TIERED, true, true),
    ] {
        let folder = tempfile::tempdir()?;
        let server = start(folder.path(), options)?;
        let mut client = server.client()?;
        if large {
            client.ok("CONFIG SET hash-max-listpack-entries 0")?;
        }
        for resp3 in [false, true] {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(crate::WAIT))?;
            if resp3 {
                client.ok("DEL h s")?;
                stream.write_all(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n")?;
                let mut seen = Vec::new();
                while !seen.ends_with(b"+PONG\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    seen.push(byte[0]);
                }
            }
            for (command, shown) in ROWS {
                let of_small = command.starts_with("OBJECT");
                if of_small && large {
                    continue;
                }
                if cold {
                    let keys = ["h", "copy", "moved", "s"].map(str::to_owned);
                    evict(&mut client, &keys)?;
                }
                if shown.ends_with(":N") {
                    client.ok(command)?;
                    continue;
                }
                let command = command.replace("FAR", &FAR.to_string());
                let expected = bytes(shown, resp3);
                let reply = run(&mut stream, &command, expected.len())?;
                assert_eq!(
                    String::from_utf8_lossy(&reply),
                    String::from_utf8_lossy(&expected),
                    "{command}, RESP3 {resp3}, options {options:?}, cold {cold}, large {large}"
                );
            }
        }
        if cold {
            let loaded = crate::number(&mut client, "tiering", "tiering_loaded_values")?;
            assert!(loaded > 40, "only {loaded} values came from disk");
        }
    }
    Ok(())
}
