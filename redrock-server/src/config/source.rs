//! Where the configuration comes from: the file, standard input, the environment, the command
//! line, each overriding what came before.
//!
//! All are read as lines of redis.conf. As in Redis the first `save` replaces the default save
//! points and further ones add to them, an empty one forgets all. `REDROCK_<OPTION>` variables
//! (dashes written as underscores) replace what the file says.

use super::arguments::CommandLine;
use super::option::{OptionSpec, flag};
use super::settings::{Directive, Settings, find};
use super::table::{OPTIONS, index_of};
use super::words::{os_error_text, quoted, trimmed};
use super::{Config, include, sanitize, users};
use crate::command::rename::Renames;
use crate::net::parser::split_quoted;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that may include each other, one inside the other.
const INCLUDE_DEPTH_MAX: usize = 16;

/// A configuration ready to run with.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the operator should read in the log, a line each.
    pub notices: Vec<String>,
}

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// An environment variable.
    Environment,
    /// The command line.
    CommandLine,
}

/// Origin, line number from 1, the line.
type Place = (Origin, usize, String);

/// A configuration that is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    /// Where.
    pub place: Option<Place>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, redis) = (env!("CARGO_PKG_VERSION"), crate::REDIS_VERSION);
        writeln!(
            f,
            "\n*** FATAL CONFIG FILE ERROR (RedRock {own}, Redis {redis}) ***"
        )?;
        if let Some((origin, line, text)) = &self.place {
            match origin {
                Origin::File(path) => {
                    let path = path.display();
                    writeln!(f, "Reading the configuration file '{path}', at line {line}")?;
                }
                Origin::Stdin => writeln!(f, "Reading standard input, at line {line}")?,
                Origin::Environment => writeln!(f, "Reading the environment")?,
                Origin::CommandLine => writeln!(f, "Reading the command line")?,
            }
            writeln!(f, ">>> '{text}'")?;
        }
        write!(f, "{}", self.reason)
    }
}

impl LoadError {
    /// An error of no certain line.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            place: None,
            reason: reason.into(),
        }
    }
}

/// Reads all sources. `dir` is the working directory; `stdin` is read only if the command line
/// asks for it.
pub fn load(
    command_line: &CommandLine,
    environment: impl Iterator<Item = (OsString, OsString)>,
    stdin: &mut dyn Read,
    dir: &Path,
) -> Result<Loaded, LoadError> {
    let mut loader = Loader::new(dir);
    let file = command_line.file.as_ref().map(|file| dir.join(file));
    if let Some(file) = &file {
        loader.read_file(file, 0)?;
    }
    if command_line.stdin {
        let mut text = Vec::new();
        stdin.read_to_end(&mut text).map_err(|error| {
            LoadError::new(format!(
                "can't read standard input: {}",
                os_error_text(&error)
            ))
        })?;
        loader.read_text(&text, &Origin::Stdin, 0)?;
    }
    loader.read_environment(environment)?;
    loader.read_text(&command_line.lines, &Origin::CommandLine, 0)?;
    loader.check_users()?;
    let mut notices = loader.notices();
    let config = Config::new(loader.settings, file);
    notices.extend(sanitize::check(&config).map_err(LoadError::new)?);
    Ok(Loaded { config, notices })
}

struct Loader {
    settings: Settings,
    renames: Renames,
    /// Users that are defined, and where the first of them is.
    users: BTreeSet<Vec<u8>>,
    first_user: Option<Place>,
    save_seen: bool,
    /// Options that some source set.
    given: BTreeSet<usize>,
    deprecated: BTreeSet<String>,
    strange_variables: BTreeSet<String>,
}

/// What to do with one line, or why it is refused.
type LineResult = Result<(), String>;

impl Loader {
    fn new(dir: &Path) -> Self {
        Self {
            settings: Settings::new(dir),
            renames: Renames::default(),
            users: BTreeSet::new(),
            first_user: None,
            save_seen: false,
            given: BTreeSet::new(),
            deprecated: BTreeSet::new(),
            strange_variables: BTreeSet::new(),
        }
    }

    fn read_file(&mut self, path: &Path, depth: usize) -> Result<(), LoadError> {
        let text = std::fs::read(path).map_err(|error| {
            let (path, error) = (path.display(), os_error_text(&error));
            LoadError::new(format!(
                "Fatal error, can't open config file '{path}': {error}"
            ))
        })?;
        self.read_text(&text, &Origin::File(path.to_owned()), depth)
    }

    fn read_text(&mut self, text: &[u8], origin: &Origin, depth: usize) -> Result<(), LoadError> {
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = trimmed(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let text = String::from_utf8_lossy(line).into_owned();
            let here = Some((origin.clone(), number + 1, text));
            let place = |reason: String| LoadError {
                place: here.clone(),
                reason,
            };
            let Some(words) = split_quoted(line) else {
                return Err(place("Unbalanced quotes in configuration line".into()));
            };
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            match words.as_slice() {
                [] => {}
                [name, pattern] if name.eq_ignore_ascii_case(b"include") => {
                    if depth == INCLUDE_DEPTH_MAX {
                        return Err(place("Too many levels of include".into()));
                    }
                    let paths = include::expand(&self.dir(), OsStr::from_bytes(pattern));
                    for path in paths {
                        self.read_file(&path, depth + 1)?;
                    }
                }
                [name, arguments @ ..] => {
                    self.line(&name.to_ascii_lowercase(), arguments)
                        .map_err(place)?;
                    if self.first_user.is_none() && !self.users.is_empty() {
                        self.first_user = here;
                    }
                }
            }
        }
        Ok(())
    }

    /// One line: an option or a directive.
    fn line(&mut self, name: &[u8], arguments: &[&[u8]]) -> LineResult {
        if let Some((index, option)) = find(name) {
            return self.option(index, option, arguments);
        }
        let shown = String::from_utf8_lossy(name).into_owned();
        match (name, arguments) {
            (
                b"list-max-ziplist-entries" | b"list-max-ziplist-value" | b"lua-replicate-commands",
                [_],
            ) => {
                self.deprecated.insert(shown);
                Ok(())
            }
            (b"rename-command", [from, to]) => self.rename(from, to),
            (b"user", [user, rules @ ..]) => {
                users::check(user, rules, !self.users.insert(user.to_vec()))?;
                self.directive("user".into(), arguments);
                Ok(())
            }
            (b"loadmodule", [_, ..]) => Err("Modules can't be loaded here".into()),
            (b"sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
            _ if name.contains(&b'.') && arguments.is_empty() => {
                Err("Module config specified without value".into())
            }
            _ if name.contains(&b'.') => Err("Modules can't be loaded here".into()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn option(&mut self, index: usize, option: &OptionSpec, words: &[&[u8]]) -> LineResult {
        let multi = option.has(flag::MULTI);
        let mut resplit = Vec::new();
        match words {
            [_] if !multi => {}
            _ if !multi => return Err("wrong number of arguments".into()),
            // `--save "60 1000"`: one word that holds several.
            [word] if !word.is_empty() => {
                resplit = split_quoted(word).ok_or("Unbalanced quotes in configuration line")?;
            }
            _ => {}
        }
        let resplit: Vec<&[u8]> = resplit.iter().map(Vec::as_slice).collect();
        let words = if resplit.is_empty() { words } else { &resplit };
        let is_save = index == const { index_of("save") };
        let append = is_save && self.save_seen;
        self.save_seen |= is_save;
        self.given.insert(index);
        self.settings
            .set(index, words, append)
            .map_err(|why| why.into_owned())
    }

    /// At the end, as `aclfile` may stand anywhere.
    fn check_users(&mut self) -> Result<(), LoadError> {
        let file = self.settings.show(const { index_of("aclfile") });
        match self.first_user.take() {
            Some(place) if !file.is_empty() => Err(LoadError {
                place: Some(place),
                reason: users::BOTH.into(),
            }),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> LineResult {
        self.renames.rename(from, to)?;
        self.directive("rename-command".into(), &[from, to]);
        Ok(())
    }

    fn directive(&mut self, name: String, words: &[&[u8]]) {
        let words = words.iter().map(|word| word.to_vec()).collect();
        Arc::make_mut(&mut self.settings.directives).push(Directive { name, words });
    }

    fn read_environment(
        &mut self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), LoadError> {
        let mut variables: Vec<_> = environment.collect();
        variables.sort();
        for (name, value) in variables {
            let Some(option) = name.as_bytes().strip_prefix(b"REDROCK_") else {
                continue;
            };
            let option = String::from_utf8_lossy(option)
                .to_ascii_lowercase()
                .replace('_', "-");
            let found = OPTIONS.iter().position(|candidate| {
                [candidate.name, candidate.alias]
                    .iter()
                    .any(|n| n.replace('_', "-") == option)
            });
            // Kubernetes sets REDROCK_PORT=tcp://... for a service of this name.
            let link = value.as_bytes().windows(3).any(|part| part == b"://");
            let name = name.to_string_lossy().into_owned();
            let Some(index) = found.filter(|_| !link) else {
                self.strange_variables.insert(name);
                continue;
            };
            let Some(spec) = OPTIONS.get(index) else {
                continue;
            };
            // An empty multi-word value is one empty word, which clears the option.
            if spec.name == "save" {
                self.save_seen = false;
            }
            self.option(index, spec, &[value.as_bytes()])
                .map_err(|reason| {
                    let shown = if spec.has(flag::SENSITIVE) {
                        b"***"
                    } else {
                        value.as_bytes()
                    };
                    let shown = String::from_utf8_lossy(&quoted(shown)).into_owned();
                    LoadError {
                        place: Some((Origin::Environment, 1, format!("{name}={shown}"))),
                        reason,
                    }
                })?;
        }
        Ok(())
    }

    fn dir(&self) -> PathBuf {
        let dir = self.settings.show(const { index_of("dir") });
        OsStr::from_bytes(&dir).into()
    }

    fn notices(&self) -> Vec<String> {
        let names = |set: &BTreeSet<String>| {
            set.iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let defaults = Settings::new(Path::new("/"));
        let without_effect: Vec<&str> = self
            .given
            .iter()
            .filter(|index| self.settings.value(**index) != defaults.value(**index))
            .filter_map(|index| OPTIONS.get(*index))
            .filter(|option| option.has(flag::NO_EFFECT))
            .map(|option| option.name)
            .collect();
        let mut notices = Vec::new();
        if !without_effect.is_empty() {
            notices.push(format!(
                "These options are accepted and have no effect: {}",
                without_effect.join(", ")
            ));
        }
        if !self.deprecated.is_empty() {
            notices.push(format!(
                "Ignored as no longer in use: {}",
                names(&self.deprecated)
            ));
        }
        if !self.strange_variables.is_empty() {
            let list = names(&self.strange_variables);
            notices.push(format!(
                "These environment variables name no option: {list}"
            ));
        }
        notices
    }
}

#[cfg(test)]
mod tests;
