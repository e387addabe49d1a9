//! Random Lua: values, texts and calls, as source text.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// One of a list.
pub(crate) fn pick<'a, T: ?Sized>(random: &mut StdRng, list: &[&'a T]) -> &'a T {
    list[random.random_range(0..list.len())]
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "5",
    "31",
    "32",
    "33",
    "-31",
    "-32",
    "-33",
    "63",
    "64",
    "100",
    "127",
    "128",
    "-127",
    "-128",
    "-129",
    "255",
    "256",
    "32767",
    "32768",
    "-32768",
    "-32769",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854777856",
    "18446744073709551615",
    "18446744073709551616",
    "1e15",
    "1e14",
    "123456789012345",
    "0.1",
    "-0.5",
    "1.5",
    "2.5",
    "3.4028234663852886e38",
    "3.5e38",
    "1e-45",
    "1e300",
    "-1e300",
    "5e-324",
    "math.huge",
    "-math.huge",
    "math.huge-math.huge",
    "1/3",
    "3.14159265358979",
    "0.30000000000000004",
    "1e100",
    "16777217",
    "6755399441055744",
    "4503599627370497.5",
    "-4503599627370497.5",
    "1e10",
];

/// A number's source.
pub(crate) fn number(random: &mut StdRng) -> String {
    match random.random_range(0..10) {
        0..=3 => pick(random, NUMBERS).into(),
        4..=6 => random.random_range(-300..70_000i64).to_string(),
        7 => (random.random::<i64>() >> random.random_range(0..63)).to_string(),
        8 => format!("{:e}", f64::from_bits(random.random::<u64>() & !(1 << 62))),
        _ => format!("{:e}", random.random::<f32>()),
    }
    .replace("NaN", "math.huge-math.huge")
    .replace("inf", "math.huge")
}

/// Bytes as a source of a string.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("'");
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("\\{byte:03}"));
        }
    }
    text.push('\'');
    text
}

/// Some bytes, of which many are of a few kinds.
pub(crate) fn bytes(random: &mut StdRng, longest: usize) -> Vec<u8> {
    let plain = random.random_bool(0.5);
    (0..random.random_range(0..=longest))
        .map(|_| match random.random_range(0..4) {
            _ if plain => random.random_range(b'a'..=b'z'),
            0 => random.random_range(0..32),
            1 => *pick(random, &[&b'"', &b'\\', &b'/', &0x7f, &b'0', &0]),
            _ => random.random(),
        })
        .collect()
}

/// A string's source. Longer ones than 31 bytes are hashed in another way by Redis's Lua, so that
/// tables with such keys have another order: keys are kept below.
fn string(random: &mut StdRng) -> String {
    let longest = pick(random, &[&5, &5, &40, &40, &300, &70_000]);
    if *longest == 70_000 && random.random_bool(0.9) {
        return "''".into();
    }
    quoted(&bytes(random, *longest))
}

/// A value's source.
pub(crate) fn value(random: &mut StdRng, depth: u32) -> String {
    match random.random_range(0..if depth > 5 { 9 } else { 14 }) {
        0..=2 => number(random),
        3..=5 => string(random),
        6 => pick(random, &["true", "false"]).into(),
        7 => pick(random, &["nil", "cjson.null", "cjson.null"]).into(),
        8 if random.random_bool(0.1) => {
            pick(random, &["pairs", "function() end", "circle", "tostring"]).into()
        }
        8 => "{}".into(),
        9 | 10 => {
            let elements: Vec<String> = (0..random.random_range(0..2 + (18 >> depth)))
                .map(|_| value(random, depth + 1))
                .collect();
            format!("{{{}}}", elements.join(","))
        }
        11 => {
            let elements: Vec<String> = (0..random.random_range(1..6))
                .map(|_| {
                    let index = pick(random, &["1", "2", "3", "4", "5", "7", "11", "30"]);
                    format!("[{index}]={}", value(random, depth + 1))
                })
                .collect();
            format!("{{{}}}", elements.join(","))
        }
        _ => {
            let entries: Vec<String> = (0..random.random_range(1..2 + (18 >> depth)))
                .map(|_| {
                    let key = match random.random_range(0..20) {
                        0..=14 => quoted(&bytes(random, 31)),
                        15 if depth < 2 => "true".into(),
                        // Neither may be a key.
                        _ => number(random).replace("math.huge-math.huge", "1"),
                    };
                    format!("[{key}]={}", value(random, depth + 1))
                })
                .collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

/// A JSON text, more or less.
pub(crate) fn json(random: &mut StdRng, depth: u32) -> Vec<u8> {
    let mut text = Vec::new();
    json_value(random, depth, &mut text);
    // Most texts are damaged: a byte is changed, put in or taken out.
    for _ in 0..random.random_range(0..3) {
        let place = random.random_range(0..=text.len());
        let byte = match random.random_range(0..4) {
            0 => random.random(),
            _ => *pick(
                random,
                &[
                    &b'"', &b'\\', &b'{', &b'}', &b']', &b',', &b':', &b'0', &b'n',
                ],
            ),
        };
        match random.random_range(0..3) {
            0 => text.insert(place, byte),
            1 if place < text.len() => text[place] = byte,
            _ if place < text.len() => drop(text.remove(place)),
            _ => {}
        }
    }
    text
}

const JSON_WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "nul",
    "True",
    "nan",
    "NaN",
    "-nan",
    "nan(1)",
    "inf",
    "-inf",
    "Infinity",
    "-Infinity",
    "infx",
    "+1",
    "+",
    "-",
    "- 1",
    "01",
    "-01",
    "0x10",
    "-0X1p4",
    "0x",
    "1.",
    ".5",
    "1.5e",
    "1e400",
    "1e-400",
    "-0",
    "0.1",
    "1E5",
    "123456789012345678901234567890",
    "\"\\u0041\"",
    "\"\\u00e9\"",
    "\"\\uD83D\\uDE00\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"\\ud83dx\"",
    "\"\\ud83d\\u0041\"",
    "\"\\u12\"",
    "\"\\uzzzz\"",
    "\"\\u0000\"",
    "\"\\q\"",
    "\"\\b\\t\\n\\f\\r\\/\\\\\\\"\"",
    "\"tab\tand\nline\"",
    "\"open",
    "\"open\\",
    "'a'",
    "[1,]",
    "[,1]",
    "{,}",
    "{1:2}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{\"a\":1,\"a\":2}",
    "[1 2]",
    "[}",
    "{]",
    "1 2",
    "",
    " ",
    "\t[\r\n1 ] ",
];

fn json_value(random: &mut StdRng, depth: u32, text: &mut Vec<u8>) {
    if random.random_bool(0.1) {
        text.push(b' ');
    }
    match random.random_range(0..if depth > 4 { 4 } else { 7 }) {
        0 => text.extend_from_slice(pick(random, JSON_WORDS).as_bytes()),
        1 => text.extend_from_slice(number(random).as_bytes()),
        2 => {
            text.push(b'"');
            text.extend(bytes(random, 20));
            text.push(b'"');
        }
        3 => text.extend_from_slice(pick(random, &["true", "null", "12", "\"x\""]).as_bytes()),
        4 | 5 => {
            text.push(b'[');
            for index in 0..random.random_range(0..6) {
                if index > 0 {
                    text.push(b',');
                }
                json_value(random, depth + 1, text);
            }
            text.push(b']');
        }
        _ => {
            text.push(b'{');
            for index in 0..random.random_range(0..6) {
                if index > 0 {
                    text.push(b',');
                }
                text.push(b'"');
                text.extend(
                    bytes(random, 8)
                        .iter()
                        .filter(|byte| byte.is_ascii_alphanumeric()),
                );
                text.extend_from_slice(b"\":");
                json_value(random, depth + 1, text);
            }
            text.push(b'}');
        }
    }
}

/// MessagePack, more or less.
pub(crate) fn message(random: &mut StdRng, depth: u32, out: &mut Vec<u8>) {
    let length = random.random_range(0..5u8);
    match random.random_range(0..12) {
        0 => out.push(random.random()),
        1 => out.push(*pick(
            random,
            &[&0xc0, &0xc2, &0xc3, &0x00, &0x7f, &0xe0, &0xff],
        )),
        2 | 3 => {
            let code = random.random_range(0xcau8..=0xd3);
            let size = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8][usize::from(code - 0xca)];
            out.push(code);
            out.extend((0..size).map(|_| random.random::<u8>()));
        }
        4 => {
            out.push(0xa0 | length);
            out.extend((0..length).map(|_| random.random::<u8>()));
        }
        5 => {
            out.extend([0xd9, length]);
            out.extend((0..length).map(|_| random.random::<u8>()));
        }
        6 => {
            out.extend([0xdb, 0, 0, 0, length]);
            out.extend((0..length).map(|_| random.random::<u8>()));
        }
        // Lengths that are not there.
        7 => out.extend([
            *pick(random, &[&0xdb, &0xdd, &0xdf]),
            0xff,
            0xff,
            0xff,
            0xff,
        ]),
        8 | 9 if depth < 6 => {
            match random.random_range(0..3) {
                0 => out.push(0x90 | length),
                1 => out.extend([0xdc, 0, length]),
                _ => out.extend([0xdd, 0, 0, 0, length]),
            }
            for _ in 0..length {
                message(random, depth + 1, out);
            }
        }
        10 if depth < 6 => {
            match random.random_range(0..3) {
                0 => out.push(0x80 | length),
                1 => out.extend([0xde, 0, length]),
                _ => out.extend([0xdf, 0, 0, 0, length]),
            }
            for _ in 0..length {
                // Keys that are tables have no order that could be compared.
                out.extend([0xa1, random.random_range(b'a'..=b'f')]);
                message(random, depth + 1, out);
            }
        }
        _ => out.push(random.random_range(0..128)),
    }
}

/// A format of `struct`.
pub(crate) fn format(random: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(0..8) {
        text.push_str(pick(
            random,
            &[
                "b",
                "B",
                "h",
                "H",
                "l",
                "L",
                "T",
                "i",
                "I",
                "i1",
                "i3",
                "I5",
                "i7",
                "i8",
                "I8",
                "i9",
                "I12",
                "i16",
                "I32",
                "i32",
                "i33",
                "i0",
                "f",
                "d",
                "s",
                "s",
                "c",
                "c0",
                "c1",
                "c3",
                "x",
                "x",
                "<",
                ">",
                "!",
                "!1",
                "!2",
                "!4",
                "!8",
                "!16",
                "!3",
                "!0",
                " ",
                "z",
                "9",
                "a",
                "\\200",
                "(",
                "c99999999999",
                "i1000000000",
                "c2147483647",
                "Bc0",
                "bc0",
            ],
        ));
    }
    text
}
