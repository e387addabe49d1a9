//! What a backup set says about itself: `backup.info` and `SHA256SUMS`.
//!
//! `docs/formats/backup.md` has both byte by byte. Everything in a set is either a hard link to a
//! file that never changes again, or a file of the set alone.

use std::fmt::Write as _;
use std::io;
use std::path::{Component, Path};

use redrock_log::fs::{Fs, read_small};
use redrock_proto::RpcError;

use crate::error::{Result, io_error};

/// Name of the description in a set.
pub const INFO_NAME: &str = "backup.info";
/// Name of the list of checksums in a set.
pub const SUMS_NAME: &str = "SHA256SUMS";
const FIRST_LINE: &str = "redrock-backup 1";
/// A line a file; what is longer than this is no description of ours.
const BYTES_MAX: u64 = 16 << 20;

/// What a set is made of and which time it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetManifest {
    /// When it was begun, unix milliseconds.
    pub made_unix_ms: u64,
    /// First moment that can be restored from it.
    pub begins_unix_ms: u64,
    /// Last moment up to which it holds everything.
    pub covered_unix_ms: u64,
    pub content: SetContent,
    /// First and last offset of the stream, where they are known.
    pub stream: Option<SetStream>,
    /// Ascending by path.
    pub files: Vec<SetFile>,
}

/// What a server started on the set has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetContent {
    /// `appendonly yes`
    Log,
    /// `appendonly no`
    Dump,
}

/// The part of the replication stream in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStream {
    pub first_offset: u64,
    pub last_offset: u64,
}

/// A file of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFile {
    pub role: FileRole,
    pub bytes: u64,
    /// Relative to the set, with slashes.
    pub path: String,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    Base,
    Segment,
    Sidecar,
    Manifest,
    Dump,
}

const ROLES: [(FileRole, &str); 5] = [
    (FileRole::Base, "base"),
    (FileRole::Segment, "segment"),
    (FileRole::Sidecar, "sidecar"),
    (FileRole::Manifest, "manifest"),
    (FileRole::Dump, "dump"),
];

impl FileRole {
    fn name(self) -> &'static str {
        let mut roles = ROLES.iter();
        roles
            .find(|(role, _)| *role == self)
            .map_or("", |(_, name)| name)
    }

    fn parse(text: &str) -> Option<FileRole> {
        let mut roles = ROLES.iter();
        roles.find(|(_, name)| *name == text).map(|(role, _)| *role)
    }
}

impl SetManifest {
    /// The text of `backup.info`.
    pub fn format(&self) -> String {
        let content = match self.content {
            SetContent::Log => "log",
            SetContent::Dump => "dump",
        };
        let mut text = format!(
            "{FIRST_LINE}\nmade {}\nbegins {}\ncovered {}\ncontent {content}\n",
            self.made_unix_ms, self.begins_unix_ms, self.covered_unix_ms
        );
        if let Some(stream) = &self.stream {
            let (first, last) = (stream.first_offset, stream.last_offset);
            let _ = writeln!(text, "stream {first} {last}");
        }
        for file in &self.files {
            let _ = writeln!(
                text,
                "file {} {} {}",
                file.role.name(),
                file.bytes,
                file.path
            );
        }
        text.push_str("end\n");
        text
    }

    /// Reads the text back; the error says what is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<SetManifest, String> {
        let mut lines = text.lines().enumerate();
        match lines.next() {
            Some((_, FIRST_LINE)) => {}
            Some((_, line)) if line.starts_with("redrock-backup ") => {
                return Err(format!(
                    "{line:?} is a version that this program doesn't know"
                ));
            }
            _ => return Err("it is no description of a backup set".into()),
        }
        let mut draft = Draft::default();
        for (number, line) in lines {
            if line == "end" {
                return draft.finish();
            }
            draft
                .take(line)
                .ok_or_else(|| format!("line {} makes no sense: {line:?}", number + 1))?;
        }
        Err("it is cut off".into())
    }

    /// Loads the description of a set; `None` if the folder is none.
    pub fn load(fs: &dyn Fs, set: &Path) -> Result<Option<SetManifest>> {
        let path = set.join(INFO_NAME);
        let bytes = match read_small(fs, &path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path, &error)),
        };
        let parsed = SetManifest::parse(&String::from_utf8_lossy(&bytes));
        parsed
            .map(Some)
            .map_err(|text| RpcError::corrupt(format!("{}: {text}", path.display())))
    }

    /// Bytes of all its files, linked or not.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[derive(Debug, Default)]
struct Draft {
    made: Option<u64>,
    begins: Option<u64>,
    covered: Option<u64>,
    content: Option<SetContent>,
    stream: Option<SetStream>,
    files: Vec<SetFile>,
}

impl Draft {
    fn take(&mut self, line: &str) -> Option<()> {
        let (key, rest) = line.split_once(' ')?;
        match key {
            "made" => self.made = Some(rest.parse().ok()?),
            "begins" => self.begins = Some(rest.parse().ok()?),
            "covered" => self.covered = Some(rest.parse().ok()?),
            "content" => {
                self.content = Some(match rest {
                    "log" => SetContent::Log,
                    "dump" => SetContent::Dump,
                    _ => return None,
                });
            }
            "stream" => {
                let mut words = rest.split(' ');
                self.stream = Some(SetStream {
                    first_offset: words.next()?.parse().ok()?,
                    last_offset: words.next()?.parse().ok()?,
                });
            }
            "file" => {
                let mut words = rest.splitn(3, ' ');
                self.files.push(SetFile {
                    role: FileRole::parse(words.next()?)?,
                    bytes: words.next()?.parse().ok()?,
                    path: words.next().filter(|path| is_inside(path))?.to_owned(),
                });
            }
            // A later version may say more about a set; what it must not be misread for has
            // another first line.
            _ => {}
        }
        Some(())
    }

    fn finish(self) -> std::result::Result<SetManifest, String> {
        let missing = |name: &str| format!("it does not say {name:?}");
        Ok(SetManifest {
            made_unix_ms: self.made.ok_or_else(|| missing("made"))?,
            begins_unix_ms: self.begins.ok_or_else(|| missing("begins"))?,
            covered_unix_ms: self.covered.ok_or_else(|| missing("covered"))?,
            content: self.content.ok_or_else(|| missing("content"))?,
            stream: self.stream,
            files: self.files,
        })
    }
}

/// Whether a path names something below a set, and can stand in a line.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4096
        && !path.chars().any(char::is_control)
        && !path.contains('\\')
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn example() -> SetManifest {
        SetManifest {
            made_unix_ms: 30,
            begins_unix_ms: 10,
            covered_unix_ms: 29,
            content: SetContent::Log,
            stream: Some(SetStream {
                first_offset: 1000,
                last_offset: 2000,
            }),
            files: vec![
                SetFile {
                    role: FileRole::Base,
                    bytes: 5,
                    path: "appendonlydir/a b.1.base.rdb".into(),
                },
                SetFile {
                    role: FileRole::Manifest,
                    bytes: 7,
                    path: "appendonlydir/a b.manifest".into(),
                },
            ],
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut set = example();
        assert_eq!(SetManifest::parse(&set.format()), Ok(set.clone()));
        assert_eq!(set.bytes(), 12);
        set.stream = None;
        set.content = SetContent::Dump;
        assert_eq!(SetManifest::parse(&set.format()), Ok(set.clone()));
        let more = set.format().replace("made", "colour blue\nmade");
        assert_eq!(SetManifest::parse(&more), Ok(set));
    }

    #[test]
    fn damage_is_noticed_and_paths_stay_inside() {
        let text = example().format();
        for (bad, with) in [
            ("redrock-backup 1", "redrock-backup 2"),
            ("redrock-backup 1", "something"),
            ("end\n", ""),
            ("made 30\n", ""),
            ("covered 29", "covered late"),
            ("content log", "content soup"),
            ("file base", "file bass"),
            ("appendonlydir/a b.1", "../a b.1"),
            ("appendonlydir/a b.1", "/etc/a b.1"),
        ] {
            let changed = text.replacen(bad, with, 1);
            assert!(SetManifest::parse(&changed).is_err(), "{changed}");
        }
        for path in ["", "..", "a/../b", "/a", "a\nb", "a\\b"] {
            assert!(!is_inside(path), "{path:?}");
        }
    }
}
