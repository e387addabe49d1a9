//! RESP2 and RESP3 reply writer.
//!
//! Writes straight into a connection's output buffer. Every method writes exactly one RESP
//! element; aggregate headers (`array`, `map`, ...) are followed by the caller's elements.
//! The shapes are those of Redis 7's `addReply*` family, including how RESP3 types degrade
//! to RESP2.

use redrock_rdb::listpack::LpValue;

/// Writes replies for one client in the protocol version it negotiated.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    resp3: bool,
    /// What the buffer may hold.
    bytes_max: usize,
    over: bool,
}

/// A buffer of at least this many bytes grows by a quarter at a time.
const GROWS_SLOWLY_BYTES_MIN: usize = 1 << 20;

/// Longest head of an element, with room for its line end.
const HEADER_BYTES_MAX: usize = 32;

fn without_break(byte: u8) -> u8 {
    if matches!(byte, b'\r' | b'\n') {
        b' '
    } else {
        byte
    }
}

/// Where a reply of unknown length starts; see [`Reply::deferred`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Deferred(usize);

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, resp3: bool) -> Self {
        Self {
            out,
            resp3,
            bytes_max: usize::MAX,
            over: false,
        }
    }

    /// The buffer may hold `bytes`: what would come on top is left out, and [`Reply::is_over`].
    pub fn limited(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Whether the reply is longer than allowed: what was written of it is of no use.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether `bytes` more may be written; makes room for them.
    #[inline]
    fn room(&mut self, bytes: usize) -> bool {
        let length = self.out.len().saturating_add(bytes);
        if length <= self.out.capacity() && length <= self.bytes_max {
            return !self.over;
        }
        self.grow(bytes)
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> bool {
        self.over |= self.out.len().saturating_add(bytes) > self.bytes_max;
        if self.over {
            return false;
        }
        let capacity = self.out.capacity();
        if capacity < GROWS_SLOWLY_BYTES_MIN {
            self.out.reserve(bytes);
        } else {
            self.out.reserve_exact(bytes.max(capacity / 4));
        }
        true
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// Switches the protocol version in the middle of a command (`HELLO`).
    pub fn set_resp3(&mut self, resp3: bool) {
        self.resp3 = resp3;
    }

    /// Bytes in the output buffer so far, earlier replies included.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// True when nothing at all is buffered.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Forgets what was written since the buffer had `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// Whether what was written since the buffer had `len` bytes begins as an error does.
    pub fn is_error_at(&self, len: usize) -> bool {
        self.out.get(len) == Some(&b'-')
    }

    /// Takes back what was written since the buffer had `len` bytes.
    pub fn take_from(&mut self, len: usize) -> Vec<u8> {
        self.out.split_off(len.min(self.out.len()))
    }

    fn header(&mut self, kind: u8, n: i64) {
        if !self.room(HEADER_BYTES_MAX) {
            return;
        }
        let mut digits = itoa::Buffer::new();
        self.out.push(kind);
        self.out.extend_from_slice(digits.format(n).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; `text` must hold no line breaks.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// An error line. `text` starts with its code (`ERR ...`). Line breaks become spaces, as
    /// in Redis's `addReplyErrorLength`.
    pub fn error(&mut self, text: &[u8]) {
        self.out.push(b'-');
        self.out.extend(text.iter().map(|&b| without_break(b)));
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    pub fn int(&mut self, n: i64) {
        match n {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.header(b':', n),
        }
    }

    /// A length or count.
    pub fn len_int(&mut self, n: usize) {
        self.int(n as i64);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        if !self.room(bytes.len() + HEADER_BYTES_MAX) {
            return;
        }
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string.
    pub fn bulk_int(&mut self, n: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(n).as_bytes());
    }

    /// A listpack element as a bulk string.
    pub fn item(&mut self, item: LpValue<'_>) {
        match item {
            LpValue::Int(n) => self.bulk_int(n),
            LpValue::Str(s) => self.bulk(s),
        }
    }

    /// A bulk string or the null of the protocol version.
    pub fn opt_bulk(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(b) => self.bulk(b),
            None => self.null(),
        }
    }

    /// RESP3 `_`, RESP2 `$-1` (Redis: `shared.null`).
    pub fn null(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// RESP3 `_`, RESP2 `*-1` (Redis: `shared.nullarray`).
    pub fn null_array(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// Header of an array of `n` elements.
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n as i64);
    }

    /// Header of a map of `n` pairs (RESP2: a flat array of `2n`).
    pub fn map(&mut self, n: usize) {
        if self.resp3 {
            self.header(b'%', n as i64);
        } else {
            self.header(b'*', 2 * n as i64);
        }
    }

    /// Header of a set of `n` elements (RESP2: an array).
    pub fn set(&mut self, n: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, n as i64);
    }

    /// Header of a push message of `n` elements (RESP2: an array).
    pub fn push(&mut self, n: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, n as i64);
    }

    /// RESP3 boolean, RESP2 integer 0 or 1.
    pub fn boolean(&mut self, value: bool) {
        if self.resp3 {
            self.out
                .extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.int(i64::from(value));
        }
    }

    /// A double: RESP3 `,`, RESP2 a bulk string, in Redis 7.2's text (7.0's `%.17g` has more
    /// digits; see [`crate::value::number`]).
    pub fn double(&mut self, value: f64) {
        let text = crate::value::number::double_text(value);
        if self.resp3 {
            self.out.push(b',');
            self.out.extend_from_slice(text.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// RESP3 big number, RESP2 bulk string.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.resp3 {
            self.out.push(b'(');
            self.out.extend_from_slice(digits);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(digits);
        }
    }

    /// A simple string of any bytes; line breaks become spaces.
    pub fn status(&mut self, text: &[u8]) {
        self.out.push(b'+');
        self.out.extend(text.iter().map(|&b| without_break(b)));
        self.out.extend_from_slice(b"\r\n");
    }

    /// As [`Reply::big_number`] for any bytes; line breaks become spaces.
    pub fn big_number_text(&mut self, text: &[u8]) {
        let text: Vec<u8> = text.iter().map(|&b| without_break(b)).collect();
        self.big_number(&text);
    }

    /// As [`Reply::verbatim`] with a format of any length: it is cut or filled up.
    pub fn verbatim_bytes(&mut self, bytes: &[u8], format: &[u8]) {
        if self.resp3 && self.room(bytes.len() + HEADER_BYTES_MAX) {
            self.header(b'=', bytes.len() as i64 + 4);
            let filled = format.iter().copied().chain(std::iter::repeat(b' '));
            self.out.extend(filled.take(3));
            self.out.push(b':');
            self.out.extend_from_slice(bytes);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(bytes);
        }
    }

    /// RESP3 verbatim string with a three-letter `format`, RESP2 bulk string.
    pub fn verbatim(&mut self, bytes: &[u8], format: &str) {
        if self.resp3 && self.room(bytes.len() + HEADER_BYTES_MAX) {
            self.header(b'=', bytes.len() as i64 + 4);
            self.out.extend_from_slice(format.as_bytes());
            self.out.push(b':');
            self.out.extend_from_slice(bytes);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(bytes);
        }
    }

    /// Bytes that are already RESP.
    pub fn raw(&mut self, resp: &[u8]) {
        if self.room(resp.len()) {
            self.out.extend_from_slice(resp);
        }
    }

    /// Starts an aggregate whose length is known only after its elements are written; close it
    /// with [`Reply::finish_array`] and its relatives.
    pub fn deferred(&mut self) -> Deferred {
        Deferred(self.out.len())
    }

    fn finish(&mut self, start: Deferred, kind: u8, n: usize) {
        if self.over {
            return;
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        let mut head = [0u8; 24];
        head[0] = kind;
        head[1..=digits.len()].copy_from_slice(digits);
        head[digits.len() + 1] = b'\r';
        head[digits.len() + 2] = b'\n';
        let head_len = digits.len() + 3;
        self.out
            .splice(start.0..start.0, head[..head_len].iter().copied());
    }

    /// Closes a deferred array of `n` elements.
    pub fn finish_array(&mut self, start: Deferred, n: usize) {
        self.finish(start, b'*', n);
    }

    /// Closes a deferred map of `n` pairs.
    pub fn finish_map(&mut self, start: Deferred, n: usize) {
        if self.resp3 {
            self.finish(start, b'%', n);
        } else {
            self.finish(start, b'*', 2 * n);
        }
    }

    /// Closes a deferred set of `n` elements.
    pub fn finish_set(&mut self, start: Deferred, n: usize) {
        self.finish(start, if self.resp3 { b'~' } else { b'*' }, n);
    }
}
