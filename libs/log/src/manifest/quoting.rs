//! Quoting of arguments as Redis's config files and manifests do it.
//!
//! A quoted argument stands in double quotes with backslash escapes and `\xHH`, or in
//! single quotes where only `\'` is an escape.

/// The argument as it is, or quoted if it has a byte that would not read back bare.
pub(super) fn quote_if_needed(argument: &[u8]) -> String {
    let needed = argument.is_empty()
        || argument
            .iter()
            .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'"' | b'\''));
    if needed {
        quote(argument)
    } else {
        argument.iter().map(|byte| char::from(*byte)).collect()
    }
}

fn quote(argument: &[u8]) -> String {
    let mut quoted = String::with_capacity(argument.len() + 2);
    quoted.push('"');
    for byte in argument {
        match byte {
            b'\\' => quoted.push_str("\\\\"),
            b'"' => quoted.push_str("\\\""),
            b'\n' => quoted.push_str("\\n"),
            b'\r' => quoted.push_str("\\r"),
            b'\t' => quoted.push_str("\\t"),
            0x07 => quoted.push_str("\\a"),
            0x08 => quoted.push_str("\\b"),
            b' ' => quoted.push(' '),
            byte if byte.is_ascii_graphic() => quoted.push(char::from(*byte)),
            byte => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn hex_digit(byte: Option<&u8>) -> Option<u8> {
    let digit = char::from(*byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Splits a line into arguments; `None` if quotes are unbalanced or a closing quote is
/// followed by something else than a blank.
pub(super) fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut arguments = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if at >= line.len() {
            return Some(arguments);
        }
        let (argument, next) = split_one(line, at)?;
        arguments.push(argument);
        at = next;
    }
}

fn split_one(line: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut argument = Vec::new();
    loop {
        match line.get(at) {
            None | Some(b' ' | b'\n' | b'\r' | b'\t') => return Some((argument, at)),
            Some(b'"') => return double_quoted(line, at + 1, argument),
            Some(b'\'') => return single_quoted(line, at + 1, argument),
            Some(byte) => argument.push(*byte),
        }
        at += 1;
    }
}

fn closed(line: &[u8], next: usize, argument: Vec<u8>) -> Option<(Vec<u8>, usize)> {
    match line.get(next) {
        Some(byte) if !is_space(*byte) => None,
        _ => Some((argument, next)),
    }
}

fn double_quoted(line: &[u8], mut at: usize, mut argument: Vec<u8>) -> Option<(Vec<u8>, usize)> {
    loop {
        match (line.get(at)?, line.get(at + 1)) {
            (b'\\', Some(b'x')) if hex_digit(line.get(at + 2)).is_some() => {
                let high = hex_digit(line.get(at + 2)).unwrap_or(0);
                match hex_digit(line.get(at + 3)) {
                    Some(low) => {
                        argument.push(high * 16 + low);
                        at += 4;
                    }
                    None => {
                        argument.push(b'x');
                        at += 2;
                    }
                }
            }
            (b'\\', Some(escaped)) => {
                argument.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                at += 2;
            }
            (b'"', _) => return closed(line, at + 1, argument),
            (byte, _) => {
                argument.push(*byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, mut argument: Vec<u8>) -> Option<(Vec<u8>, usize)> {
    loop {
        match (line.get(at)?, line.get(at + 1)) {
            (b'\\', Some(b'\'')) => {
                argument.push(b'\'');
                at += 2;
            }
            (b'\'', _) => return closed(line, at + 1, argument),
            (byte, _) => {
                argument.push(*byte);
                at += 1;
            }
        }
    }
}
