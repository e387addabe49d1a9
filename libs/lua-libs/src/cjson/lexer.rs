//! JSON's tokens. Knows nothing of Lua: a text in, tokens out.
//!
//! The text ends at its first zero byte, as it does for Redis.

use crate::number;
use std::ffi::CStr;
use std::ops::Range;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// What is between the quotes, checked but with its escapes; the flag tells of any.
    String(Range<usize>, bool),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    /// What is wrong.
    Error(&'static str),
}

impl Token {
    /// How error messages call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String(..) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(reason) => reason,
        }
    }
}

/// Reads tokens from a text.
pub(super) struct Lexer<'a> {
    text: &'a CStr,
    /// Where reading goes on.
    pub(super) position: usize,
    /// Where the token that was read last begins, or its error is.
    pub(super) token_start: usize,
    invalid_numbers: bool,
}

impl<'a> Lexer<'a> {
    /// `invalid_numbers`: whether numbers that JSON does not know are read.
    pub(super) fn new(text: &'a CStr, invalid_numbers: bool) -> Self {
        Self {
            text,
            position: 0,
            token_start: 0,
            invalid_numbers,
        }
    }

    /// What is left of the text.
    fn rest(&self) -> &'a [u8] {
        self.text
            .to_bytes()
            .get(self.position..)
            .unwrap_or_default()
    }

    /// The byte so far ahead; zero is the end.
    fn ahead(&self, distance: usize) -> u8 {
        self.text
            .to_bytes()
            .get(self.position + distance)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn next(&mut self) -> Token {
        while matches!(self.ahead(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.position += 1;
        }
        self.token_start = self.position;
        let single = match self.ahead(0) {
            0 => return Token::End,
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' if self.invalid_numbers || !self.is_invalid_number() => {
                return self.number();
            }
            b'-' | b'0'..=b'9' => return self.error("invalid number"),
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => return self.word(),
            _ => return self.error("invalid token"),
        };
        self.position += 1;
        single
    }

    fn error(&mut self, reason: &'static str) -> Token {
        self.token_start = self.position;
        Token::Error(reason)
    }

    fn word(&mut self) -> Token {
        for (word, token) in [
            (b"true".as_slice(), Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if self.rest().starts_with(word) {
                self.position += word.len();
                return token;
            }
        }
        if self.invalid_numbers && self.is_invalid_number() {
            return self.number();
        }
        self.error("invalid token")
    }

    fn number(&mut self) -> Token {
        let rest = self.text.to_bytes_with_nul().get(self.position..);
        // SAFETY: the end of a text is a text. Looking for its zero would take as long as what is
        // left, for every number.
        let rest = unsafe { CStr::from_bytes_with_nul_unchecked(rest.unwrap_or(b"\0")) };
        match number::parse(rest) {
            (_, 0) => self.error("invalid number"),
            (value, length) => {
                self.position += length;
                Token::Number(value)
            }
        }
    }

    /// Whether C would read a number here that JSON does not know; not all such are found.
    fn is_invalid_number(&self) -> bool {
        let sign = match self.ahead(0) {
            b'+' => return true,
            b'-' => 1,
            _ => 0,
        };
        let after = self.ahead(sign + 1);
        match self.ahead(sign) {
            b'0' => after | 0x20 == b'x' || after.is_ascii_digit(),
            byte if byte <= b'9' => false,
            _ => {
                let rest = self.rest().get(sign..sign + 3).unwrap_or_default();
                rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    fn string(&mut self) -> Token {
        self.position += 1;
        let start = self.position;
        let mut escaped = false;
        loop {
            let plain = self.rest().iter().position(|b| matches!(b, b'"' | b'\\'));
            let Some(plain) = plain else {
                self.position = self.text.to_bytes().len();
                return self.error("unexpected end of string");
            };
            self.position += plain;
            if self.ahead(0) == b'"' {
                let end = self.position;
                self.position += 1;
                return Token::String(start..end, escaped);
            }
            escaped = true;
            let Some(escape) = Escape::read(self.rest()) else {
                let unicode = self.ahead(1) == b'u';
                return self.error(if unicode {
                    "invalid unicode escape code"
                } else {
                    "invalid escape code"
                });
            };
            self.position += escape.length;
        }
    }

    /// Hands out the parts of a string token with its escapes replaced.
    pub(super) fn unescape(&self, string: Range<usize>, mut part: impl FnMut(&[u8])) {
        let mut rest = self.text.to_bytes().get(string).unwrap_or_default();
        while let Some(plain) = rest.iter().position(|byte| *byte == b'\\') {
            let (before, after) = rest.split_at(plain);
            part(before);
            // It was checked when the token was read.
            let Some(escape) = Escape::read(after) else {
                return;
            };
            let mut utf8 = [0; 4];
            part(escape.character.encode_utf8(&mut utf8).as_bytes());
            rest = after.get(escape.length..).unwrap_or_default();
        }
        part(rest);
    }
}

/// An escape: what it stands for, and how many bytes it takes.
struct Escape {
    character: char,
    length: usize,
}

impl Escape {
    /// Reads an escape at the start of a text; none if it is wrong.
    fn read(text: &[u8]) -> Option<Self> {
        let character = match text.get(1)? {
            b'b' => '\u{8}',
            b't' => '\t',
            b'n' => '\n',
            b'f' => '\u{c}',
            b'r' => '\r',
            byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
            b'u' => return Self::unicode(text),
            _ => return None,
        };
        Some(Self {
            character,
            length: 2,
        })
    }

    fn unicode(text: &[u8]) -> Option<Self> {
        let high = hexadecimal(text.get(2..6)?)?;
        if let Some(character) = char::from_u32(high) {
            return Some(Self {
                character,
                length: 6,
            });
        }
        // Half of a pair: the upper half comes first.
        if !(0xd800..0xdc00).contains(&high) || text.get(6..8)? != b"\\u" {
            return None;
        }
        let low = hexadecimal(text.get(8..12)?)?;
        if !(0xdc00..0xe000).contains(&low) {
            return None;
        }
        let character = char::from_u32(0x1_0000 + ((high & 0x3ff) << 10) + (low & 0x3ff))?;
        Some(Self {
            character,
            length: 12,
        })
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| {
        Some(value << 4 | char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::{Lexer, Token};

    #[test]
    fn tokens_are_read_with_their_places() {
        let mut lexer = Lexer::new(c" [true,\"a\\n\", -1.5e1", true);
        let mut read = || (lexer.next(), lexer.token_start);
        assert_eq!(read(), (Token::ArrayBegin, 1));
        assert_eq!(read(), (Token::Boolean(true), 2));
        assert_eq!(read(), (Token::Comma, 6));
        assert_eq!(read(), (Token::String(8..11, true), 7));
        assert_eq!(read(), (Token::Comma, 12));
        assert_eq!(read(), (Token::Number(-15.0), 14));
        assert_eq!(read(), (Token::End, 20));
    }

    #[test]
    fn errors_stand_where_reading_stopped() {
        for (text, reason, place) in [
            (c"  x", "invalid token", 2),
            (c"\"abc", "unexpected end of string", 4),
            (c"\"a\\x\"", "invalid escape code", 2),
            (c"\"\\u12", "invalid unicode escape code", 1),
            (c"\"\\ud800\\u0041\"", "invalid unicode escape code", 1),
            (c"\"\\udc00\"", "invalid unicode escape code", 1),
            (c"-", "invalid number", 0),
            (c"nul", "invalid token", 0),
        ] {
            let mut lexer = Lexer::new(text, true);
            assert_eq!(lexer.next(), Token::Error(reason), "{text:?}");
            assert_eq!(lexer.token_start, place, "{text:?}");
        }
    }

    #[test]
    fn escapes_become_utf_8() {
        let text = c"\"a\\u00e9\\ud83d\\ude00\\/\\u0000\"";
        let mut lexer = Lexer::new(text, true);
        let Token::String(range, true) = lexer.next() else {
            panic!("no string");
        };
        let mut bytes = Vec::new();
        lexer.unescape(range, |part| bytes.extend_from_slice(part));
        assert_eq!(bytes, "aé😀/\0".as_bytes());
    }
}
