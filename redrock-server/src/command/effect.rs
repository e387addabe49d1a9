//! What a command changed, in the form in which the log and the replicas get it.
//!
//! Redis's rules (`propagateNow`, `alsoPropagate`): a command that changed something is
//! propagated as the client sent it, unless the command says otherwise; deletions by expiry that
//! happened on the way come first; more than one command is wrapped in MULTI/EXEC.

use crate::log::batch::Overflow;
use std::io;
use std::path::Path;

/// A buffer that grew larger is given back.
const BYTES_KEPT: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Effect {
    /// Number of changes (`server.dirty`).
    pub dirty: u64,
    mode: Mode,
    commands: Vec<u8>,
    /// The commands before those, of a transaction that has much to say.
    overflow: Option<Overflow>,
    count: usize,
    /// The commands have nothing to do with each other and are no transaction.
    separate: bool,
    /// Databases of the first and the last command.
    first_db: usize,
    last_db: usize,
}

/// A place among the commands to propagate.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    bytes: usize,
    count: usize,
    databases: (usize, usize),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Verbatim,
    Replaced,
    Suppressed,
}

/// The word by which a deletion of the server's own leaves: Redis tells replicas to free as lazily
/// as itself.
pub fn deletion(lazy: bool) -> &'static [u8] {
    if lazy { b"UNLINK" } else { b"DEL" }
}

/// Appends one command in RESP.
pub fn write_command(out: &mut Vec<u8>, argv: &[&[u8]]) {
    let mut digits = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(digits.format(argv.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for arg in argv {
        out.push(b'$');
        out.extend_from_slice(digits.format(arg.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

impl Effect {
    fn push(&mut self, db: usize, argv: &[&[u8]]) {
        if self.count == 0 {
            self.first_db = db;
        } else if self.last_db != db {
            write_command(
                &mut self.commands,
                &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()],
            );
        }
        self.last_db = db;
        write_command(&mut self.commands, argv);
        self.count += 1;
    }

    /// A deletion or other side effect that precedes what the command does itself.
    pub fn before(&mut self, db: usize, argv: &[&[u8]]) {
        self.push(db, argv);
    }

    /// See [`super::Context::propagate`].
    pub fn replace(&mut self, db: usize, argv: &[&[u8]]) {
        self.mode = Mode::Replaced;
        self.push(db, argv);
    }

    /// Keys that expired on the way of a walk over all of them leave one by one.
    pub fn separate(&mut self) {
        self.separate = true;
    }

    /// Whether what is propagated is one transaction.
    pub fn is_transaction(&self) -> bool {
        self.count > 1 && !self.separate
    }

    /// See [`super::Context::propagate_nothing`].
    pub fn suppress(&mut self) {
        self.mode = Mode::Suppressed;
    }

    /// Completes one command: adds its own words where they are what is propagated, and makes
    /// ready for the next command of the same transaction.
    pub fn finish_command(&mut self, db: usize, argv: &[&[u8]], dirty_before: u64) {
        if self.mode == Mode::Verbatim && self.dirty > dirty_before {
            self.push(db, argv);
        }
        self.mode = Mode::Verbatim;
    }

    /// Where it stands; see [`Effect::forget_since`].
    pub fn mark(&self) -> Mark {
        Mark {
            bytes: self.commands.len(),
            count: self.count,
            databases: self.databases(),
        }
    }

    /// Propagates nothing of what came since: a script said so.
    pub fn forget_since(&mut self, mark: Mark) {
        self.commands.truncate(mark.bytes);
        self.count = mark.count;
        (self.first_db, self.last_db) = mark.databases;
    }

    /// Moves what is in memory to a file. Marks from before say nothing any more.
    pub fn overflow(&mut self, folder: &Path) -> io::Result<()> {
        let overflow = match &mut self.overflow {
            Some(overflow) => overflow,
            none => none.insert(Overflow::create(folder)?),
        };
        overflow.push(&self.commands)?;
        self.forget_commands();
        Ok(())
    }

    /// What was moved to a file.
    pub fn take_overflow(&mut self) -> Option<Overflow> {
        self.overflow.take()
    }

    /// Nobody needs what is in memory. How many commands there were stays known.
    pub fn forget_commands(&mut self) {
        self.commands.clear();
        self.commands.shrink_to(BYTES_KEPT);
    }

    /// Number of commands to propagate.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The commands to propagate, concatenated, with the SELECTs between them; behind those of
    /// [`Effect::take_overflow`].
    pub fn commands(&self) -> &[u8] {
        &self.commands
    }

    /// Databases of the first and of the last command.
    pub fn databases(&self) -> (usize, usize) {
        (self.first_db, self.last_db)
    }

    /// Forgets everything, keeping a small buffer.
    pub fn clear(&mut self) {
        self.dirty = 0;
        self.mode = Mode::Verbatim;
        self.separate = false;
        self.count = 0;
        self.overflow = None;
        self.forget_commands();
    }
}
