//! A library's first line: `#!lua name=mylib`.

use crate::command::error::{CommandError, CommandResult};
use crate::script::flags::{FirstLine, error, first_line};

/// What the first line says, and where the code goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The library's name.
    pub name: Vec<u8>,
    /// Length of the line without its end: lines keep their numbers.
    pub first_line_bytes: usize,
}

const INVALID: CommandError = CommandError::fixed("ERR Invalid library metadata");

/// Names of libraries and functions.
pub fn check_name(name: &[u8]) -> CommandResult {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if !name.is_empty() && name.iter().all(good) {
        return Ok(());
    }
    Err(CommandError::fixed(
        "ERR Library names can only contain letters, numbers, or underscores(_) and must be at \
         least one character long",
    ))
}

/// Reads the first line.
pub fn parse(source: &[u8]) -> CommandResult<Metadata> {
    let (words, first_line_bytes) = match first_line(source) {
        FirstLine::None => return Err(CommandError::fixed("ERR Missing library metadata")),
        FirstLine::Endless => return Err(INVALID),
        FirstLine::Words(words, length) => (words.ok_or(INVALID)?, length),
    };
    let (first, options) = words.split_first().ok_or(INVALID)?;
    let mut name = None;
    for option in options {
        let given = option
            .split_at_checked(5)
            .filter(|(key, _)| key.eq_ignore_ascii_case(b"name="));
        let Some((_, given)) = given else {
            return Err(error("Invalid metadata value given: ", option));
        };
        if name.replace(given.to_vec()).is_some() {
            return Err(CommandError::fixed(
                "ERR Invalid metadata value, name argument was given multiple times",
            ));
        }
    }
    let name = name.ok_or(CommandError::fixed("ERR Library name was not given"))?;
    check_name(&name)?;
    let engine = first.get(2..).unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        let text = [b"ERR Engine '", engine, b"' not found"].concat();
        return Err(CommandError::Bytes(text));
    }
    Ok(Metadata {
        name,
        first_line_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_names_engine_and_library() {
        let parsed = parse(b"#!LUA NAME=lib_1\ncode").unwrap();
        assert_eq!(
            (parsed.name.as_slice(), parsed.first_line_bytes),
            (&b"lib_1"[..], 16)
        );
        for (source, text) in [
            ("code", "Missing library metadata"),
            ("#!lua name=x", "Invalid library metadata"),
            ("#!lua\n", "Library name was not given"),
            (
                "#!lua name=a name=b\n",
                "Invalid metadata value, name argument was given multiple times",
            ),
            (
                "#!lua foo=bar name=a\n",
                "Invalid metadata value given: foo=bar",
            ),
            ("#!bad name=a\n", "Engine 'bad' not found"),
        ] {
            let error = parse(source.as_bytes()).unwrap_err();
            assert_eq!(error.resp(), format!("ERR {text}").as_bytes(), "{source}");
        }
        assert!(parse(b"#!lua name=a-b\n").is_err());
    }
}
