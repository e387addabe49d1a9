//! JSON to values. Null is a light userdata of address 0, since a table can't hold nil.

use super::config::{self, Config};
use super::lexer::{Lexer, Token};
use crate::buffer::Buffer;
use crate::frames::Frames;
use crate::stack::Stack;
use std::ffi::{CStr, c_int};

/// The buffer's slot.
const HIDDEN: c_int = 1;

/// A table that is being filled; it is on the stack, an object with the key at hand.
#[derive(Clone, Copy)]
enum Open {
    Object,
    /// The index that comes next.
    Array(c_int),
}

struct Decoder<'a> {
    stack: Stack,
    config: Config,
    lexer: Lexer<'a>,
    text: &'a CStr,
    /// For strings with escapes.
    scratch: Buffer,
    tables: Frames<Open>,
}

/// `decode(text)`.
pub(super) fn decode(stack: Stack) -> c_int {
    if stack.top() != 1 {
        stack.raise_argument(1, format_args!("expected 1 argument"));
    }
    // SAFETY: the argument stays in its slot.
    let (bytes, text) = unsafe { (stack.check_bytes(1), stack.check_text(1)) };
    if let [first, second, ..] = bytes
        && (*first == 0 || *second == 0)
    {
        stack.raise(format_args!(
            "JSON parser does not support UTF-16 or UTF-32"
        ));
    }
    let config = config::of(stack);
    let mut decoder = Decoder {
        stack,
        config,
        lexer: Lexer::new(text, config.decode_invalid_numbers != 0),
        text,
        scratch: Buffer::new(stack),
        tables: Frames::new(),
    };
    let mut token = decoder.lexer.next();
    while let Some(next) = decoder.value(token) {
        token = next;
    }
    match decoder.lexer.next() {
        Token::End => 1,
        other => decoder.refuse("the end", &other),
    }
}

impl Decoder<'_> {
    /// Raises for the token read last.
    fn refuse(&self, expected: &str, found: &Token) -> ! {
        // Places are counted from 1 and shown with the low 32 bits.
        let place = (self.lexer.token_start + 1) as i32;
        self.stack.raise(format_args!(
            "Expected {expected} but found {} at character {place}",
            found.name()
        ));
    }

    /// Pushes the value that begins with a token, or opens it; then the token that the next value
    /// begins with, or none after the outermost.
    fn value(&mut self, token: Token) -> Option<Token> {
        let stack = self.stack;
        match token {
            Token::String(range, escaped) => self.string(range, escaped),
            Token::Number(number) => stack.push_number(number),
            Token::Boolean(value) => stack.push_boolean(value),
            Token::Null => stack.push_null(),
            Token::ObjectBegin => {
                self.open(Open::Object, 3);
                let token = self.lexer.next();
                if token != Token::ObjectEnd {
                    return Some(self.key(token));
                }
                self.tables.pop();
            }
            Token::ArrayBegin => {
                self.open(Open::Array(1), 2);
                let token = self.lexer.next();
                if token != Token::ArrayEnd {
                    return Some(token);
                }
                self.tables.pop();
            }
            other => self.refuse("value", &other),
        }
        self.close()
    }

    fn open(&mut self, table: Open, slots: c_int) {
        let depth = self.tables.depth() + 1;
        if depth > self.config.decode_max_depth as usize
            || !self.stack.grow(slots, HIDDEN)
            || !self.tables.push(table)
        {
            let place = self.lexer.position as i32;
            self.stack.raise(format_args!(
                "Found too many nested data structures ({depth}) at character {place}"
            ));
        }
        self.stack.push_table();
    }

    /// Pushes a key; returns the token that its value begins with.
    fn key(&mut self, token: Token) -> Token {
        match token {
            Token::String(range, escaped) => self.string(range, escaped),
            other => self.refuse("object key string", &other),
        }
        match self.lexer.next() {
            Token::Colon => self.lexer.next(),
            other => self.refuse("colon", &other),
        }
    }

    /// Puts the value on top into its table, and tables that end into theirs.
    fn close(&mut self) -> Option<Token> {
        loop {
            match self.tables.last()? {
                Open::Array(index) => {
                    self.stack.set_element(-2, *index);
                    *index = index.wrapping_add(1);
                    match self.lexer.next() {
                        Token::ArrayEnd => {}
                        Token::Comma => return Some(self.lexer.next()),
                        other => self.refuse("comma or array end", &other),
                    }
                }
                Open::Object => {
                    self.stack.set_entry(-3);
                    match self.lexer.next() {
                        Token::ObjectEnd => {}
                        Token::Comma => {
                            let token = self.lexer.next();
                            return Some(self.key(token));
                        }
                        other => self.refuse("comma or object end", &other),
                    }
                }
            }
            self.tables.pop();
        }
    }

    fn string(&mut self, range: std::ops::Range<usize>, escaped: bool) {
        if escaped {
            self.scratch.clear();
            let scratch = &mut self.scratch;
            self.lexer.unescape(range, |part| scratch.extend(part));
            scratch.push_string();
        } else {
            let bytes = self.text.to_bytes().get(range).unwrap_or_default();
            self.stack.push_bytes(bytes);
        }
    }
}
