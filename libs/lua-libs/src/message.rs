//! The text of an error, in the frame: nothing is left to free when Lua jumps.

use std::ffi::CStr;
use std::fmt::{self, Write as _};

/// The longest text, in bytes; what is beyond is cut off. No text of the libraries comes near it.
const MESSAGE_BYTES_MAX: usize = 255;

/// A text of bounded length.
pub(crate) struct Message {
    /// Zero behind the text.
    bytes: [u8; MESSAGE_BYTES_MAX + 1],
    length: usize,
}

impl Message {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; MESSAGE_BYTES_MAX + 1],
            length: 0,
        }
    }

    pub(crate) fn of(text: fmt::Arguments<'_>) -> Self {
        let mut message = Self::new();
        // Writing cuts and never fails.
        let _ = message.write_fmt(text);
        message
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for (to, from) in self
            .bytes
            .iter_mut()
            .take(MESSAGE_BYTES_MAX)
            .skip(self.length)
            .zip(bytes)
        {
            *to = *from;
            self.length += 1;
        }
    }

    /// The text up to a zero byte in it.
    pub(crate) fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn a_text_too_long_is_cut() {
        let mut message = Message::of(format_args!("{}", "x".repeat(250)));
        message.push(b"123456789");
        assert_eq!(message.text().to_bytes().len(), 255);
        assert!(message.text().to_bytes().ends_with(b"x12345"));
    }
}
