//! The text that describes a kept checkpoint: one line each, the last one checks the others.

use std::fmt::Write as _;

const FIRST_LINE: &str = "redrock-warm 1";
const DATABASES_MAX: usize = 1 << 20;
const FILES_MAX: usize = 1 << 20;

/// What a start needs to go on with a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WarmStart {
    /// Of the positions in the checkpoint's keys.
    pub secret: (u64, u64),
    /// The RDB file of the same cut, relative to the data directory.
    pub file: String,
    /// Its length and its checksum.
    pub file_bytes: u64,
    /// See `file_bytes`.
    pub file_crc64: u64,
    /// How much of it is the dirty part, and the checksum of that much.
    pub dirty_bytes: u64,
    /// See `dirty_bytes`.
    pub dirty_crc64: u64,
    /// Whether some record has times beside it, and whether some are large.
    pub timed: bool,
    /// See `timed`.
    pub large: bool,
    /// The databases that were not empty.
    pub databases: Vec<WarmDatabase>,
    /// The checkpoint's files.
    pub files: Vec<ColdFile>,
}

/// A database at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmDatabase {
    /// Its number.
    pub index: usize,
    /// Its generation, which names it in the tier's keys.
    pub generation: u32,
    /// All of its keys.
    pub keys: u64,
    /// Those of them in the checkpoint.
    pub cold: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// Hashes with fields that expire.
    pub timed: u64,
}

/// A file of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl WarmStart {
    /// No record has more bytes: how large the large ones are is not kept.
    pub(in crate::keyspace::cold) fn largest_bytes(&self) -> usize {
        if self.large { usize::MAX } else { 0 }
    }

    /// The description's text.
    pub fn text(&self) -> String {
        let mut out = format!("{FIRST_LINE}\n");
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!(
            "secret {:016x} {:016x}",
            self.secret.0, self.secret.1
        ));
        line(format!(
            "file {} {:016x} {}",
            self.file_bytes, self.file_crc64, self.file
        ));
        line(format!(
            "dirty {} {:016x}",
            self.dirty_bytes, self.dirty_crc64
        ));
        line(format!(
            "records {} {}",
            u8::from(self.timed),
            u8::from(self.large)
        ));
        for d in &self.databases {
            line(format!(
                "database {} {} {} {} {} {}",
                d.index, d.generation, d.keys, d.cold, d.expires, d.timed
            ));
        }
        for file in &self.files {
            line(format!("cold {} {}", file.bytes, file.name));
        }
        let check = crc32c::crc32c(out.as_bytes());
        // Writing to a string can't fail.
        let _ = writeln!(out, "crc32c {check:08x}");
        out
    }

    /// The reverse of [`WarmStart::text`]; or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = text.strip_suffix('\n').ok_or("it is cut short")?;
        let (_, last) = whole.rsplit_once('\n').ok_or("it is cut short")?;
        let checked = text
            .get(..text.len() - last.len() - 1)
            .ok_or("it is cut short")?;
        let check = format!("crc32c {:08x}", crc32c::crc32c(checked.as_bytes()));
        if last != check {
            return Err("its checksum is wrong".to_owned());
        }
        let mut lines = checked.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err("it is of another version".to_owned());
        }
        let mut start = Self::default();
        for line in lines {
            start
                .line(line)
                .ok_or_else(|| format!("a line of it says nothing: {line:?}"))?;
        }
        if start.file.is_empty() || start.databases.is_empty() || start.files.is_empty() {
            return Err("something is missing in it".to_owned());
        }
        Ok(start)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "secret" => {
                let (a, b) = rest.split_once(' ')?;
                self.secret = (hex(a)?, hex(b)?);
            }
            "file" => {
                let mut parts = rest.splitn(3, ' ');
                self.file_bytes = parts.next()?.parse().ok()?;
                self.file_crc64 = hex(parts.next()?)?;
                parts.next()?.clone_into(&mut self.file);
            }
            "dirty" => {
                let (bytes, crc64) = rest.split_once(' ')?;
                self.dirty_bytes = bytes.parse().ok()?;
                self.dirty_crc64 = hex(crc64)?;
            }
            "records" => {
                let (timed, large) = rest.split_once(' ')?;
                (self.timed, self.large) = (flag(timed)?, flag(large)?);
            }
            "database" if self.databases.len() < DATABASES_MAX => {
                self.databases.push(database(rest)?);
            }
            "cold" if self.files.len() < FILES_MAX => {
                let (bytes, name) = rest.split_once(' ')?;
                // A name, and not a way to somewhere else.
                let is_name = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
                is_name.then_some(())?;
                self.files.push(ColdFile {
                    name: name.to_owned(),
                    bytes: bytes.parse().ok()?,
                });
            }
            _ => return None,
        }
        Some(())
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn database(text: &str) -> Option<WarmDatabase> {
    let numbers: Option<Vec<u64>> = text.split(' ').map(|word| word.parse().ok()).collect();
    let [index, generation, keys, cold, expires, timed] = numbers?[..] else {
        return None;
    };
    let is_possible = cold <= keys && expires <= keys && timed <= keys;
    is_possible.then_some(WarmDatabase {
        index: usize::try_from(index).ok()?,
        generation: u32::try_from(generation).ok()?,
        keys,
        cold,
        expires,
        timed,
    })
}
