//! A command's arguments, and the conversions that all commands share.

use super::error::{CommandError, CommandResult};
use redrock_rdb::number::parse_i64;

/// The arguments of one command, its name first.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    argv: &'a [&'a [u8]],
}

impl<'a> Args<'a> {
    /// Wraps an argument vector; dispatch guarantees that it is not empty.
    pub fn new(argv: &'a [&'a [u8]]) -> Self {
        Self { argv }
    }

    /// Number of arguments, the name included.
    #[expect(
        clippy::len_without_is_empty,
        reason = "never empty: the name is argument 0"
    )]
    pub fn len(&self) -> usize {
        self.argv.len()
    }

    /// Argument `i`, or the empty string past the end (arity was checked before).
    pub fn at(&self, i: usize) -> &'a [u8] {
        self.argv.get(i).copied().unwrap_or_default()
    }

    /// Argument `i` if it is there.
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.argv.get(i).copied()
    }

    /// All arguments.
    pub fn all(&self) -> &'a [&'a [u8]] {
        self.argv
    }

    /// Arguments from `i` on.
    pub fn from(&self, i: usize) -> &'a [&'a [u8]] {
        self.argv.get(i..).unwrap_or_default()
    }

    /// Whether argument `i` is `word`, in any case.
    pub fn is(&self, i: usize, word: &str) -> bool {
        self.at(i).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Argument `i` as an integer (`-ERR value is not an integer or out of range`).
    pub fn int(&self, i: usize) -> CommandResult<i64> {
        parse_i64(self.at(i)).ok_or(CommandError::NotInteger)
    }

    /// Argument `i` as a double (`-ERR value is not a valid float`); NaN is refused.
    pub fn double(&self, i: usize) -> CommandResult<f64> {
        crate::value::number::parse_double(self.at(i)).ok_or(CommandError::NotFloat)
    }
}

/// Whether `arg` is `word`, in any case.
pub fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
