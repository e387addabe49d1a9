//! A transaction of the stream that waits for its EXEC: a replay must not run half of one.
//!
//! What is larger than a mebibyte waits in a file without a name.

use crate::log::batch::{MEMORY_BYTES_MAX, Overflow};
use crate::net::client::OwnedCommand;
use crate::net::parser::{Parser, RequestLimits, Step};
use anyhow::{Context as _, bail};
use redrock_log::writer::Source as _;
use smallvec::SmallVec;
use std::io;
use std::path::Path;

/// What a master may send in one argument: its own limits were checked when the client sent it.
const BULK_BYTES_MAX: usize = 1 << 30;

/// A transaction that waits for its EXEC.
#[derive(Default)]
pub struct Transaction {
    /// Its first part, if it is a large one.
    overflow: Option<Overflow>,
    /// The bytes behind that, whole commands.
    bytes: Vec<u8>,
    /// The commands in `bytes`.
    commands: Vec<OwnedCommand>,
}

impl Transaction {
    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.overflow.as_ref().map_or(0, Overflow::bytes) + self.bytes.len() as u64
    }

    /// Adds a command, and its bytes. The frame is bytes alone.
    pub fn push(&mut self, command: Option<OwnedCommand>, raw: &[u8]) {
        self.bytes.extend_from_slice(raw);
        self.commands.extend(command);
    }

    /// The commands that are in memory: all of them, or the last ones of a large transaction.
    pub fn in_memory(&self) -> &[OwnedCommand] {
        &self.commands
    }

    /// Whether a part of it is in a file.
    pub fn is_large(&self) -> bool {
        self.overflow.is_some()
    }

    /// All its bytes: a file, and what stands behind that.
    pub fn into_bytes(self) -> (Option<Overflow>, Vec<u8>) {
        (self.overflow, self.bytes)
    }

    /// Gives its commands in their order, each with how many bytes of it came from the file. The
    /// frame may be among them.
    pub fn each(
        &self,
        run: &mut dyn FnMut(&[&[u8]], u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(overflow) = &self.overflow {
            let mut buffer = Vec::new();
            overflow
                .visit(&mut |piece| {
                    buffer.extend_from_slice(piece);
                    let consumed = parse(&buffer, |argv, raw| run(argv, raw.len() as u64));
                    buffer.drain(..consumed.map_err(io::Error::other)?);
                    Ok(())
                })
                .context("run a large transaction")?;
        }
        let mut commands = self.commands.iter();
        commands.try_for_each(|command| run(&command.argv(), 0))
    }

    /// Moves what is in memory to a file in `folder` if it is much.
    pub fn relieve(&mut self, folder: &Path) -> io::Result<()> {
        if self.bytes.len() < MEMORY_BYTES_MAX {
            return Ok(());
        }
        let overflow = match &mut self.overflow {
            Some(overflow) => overflow,
            none => none.insert(Overflow::create(folder)?),
        };
        overflow.push(&self.bytes)?;
        self.bytes.clear();
        self.commands.clear();
        Ok(())
    }
}

/// Gives each whole command in `buffer`, and its bytes, to `each`; a lone newline, a sign of life
/// that counts as part of the stream, has no words. Returns how many bytes those were.
pub fn parse(
    buffer: &[u8],
    mut each: impl FnMut(&[&[u8]], &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let limits = RequestLimits {
        bulk_bytes_max: BULK_BYTES_MAX,
        request_bytes_max: usize::MAX,
        authenticated: true,
    };
    let mut parser = Parser::default();
    let mut consumed = 0;
    loop {
        let rest = buffer.get(consumed..).unwrap_or_default();
        let used = match parser.next(rest, limits) {
            Step::Command { consumed: used } => {
                let mut argv: SmallVec<[&[u8]; 8]> = SmallVec::new();
                parser.arguments(rest, &mut argv);
                each(&argv, rest.get(..used).unwrap_or_default())?;
                used
            }
            Step::Empty { consumed: used } => {
                each(&[], rest.get(..used).unwrap_or_default())?;
                used
            }
            Step::Incomplete { .. } | Step::TooLarge { .. } => return Ok(consumed),
            Step::Error(text) => {
                let text = String::from_utf8_lossy(&text);
                bail!("the stream is not RESP: {text}")
            }
        };
        consumed += used;
        parser.reset();
    }
}
