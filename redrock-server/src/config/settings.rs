//! The values of all options, by name: what files, CONFIG GET, SET and REWRITE work on.
//!
//! [`Settings`] holds exactly one value for each record of [`super::table::OPTIONS`], each of its
//! record's kind. It is changed by making a copy, so that a refused change leaves nothing behind.

use super::kind::{Refusal, Value};
use super::option::{OptionSpec, flag};
use super::option_set::OptionSet;
use super::table::OPTIONS;
use crate::command::error::CommandError;
use crate::net::parser::split_quoted;
use crate::value::glob;
use hashbrown::HashMap;
use std::sync::{Arc, OnceLock};

/// A line of the file that is no option: what it asks for belongs to other parts of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Lower-case name: `user`, `rename-command`.
    pub name: String,
    /// Its words.
    pub words: Vec<Vec<u8>>,
}

/// Values that may differ from those that copies share.
const CHANGED_MAX: usize = 16;

/// See the module.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One value for each option. Copies share it, so that CONFIG SET does not cost as many steps
    /// as there are options.
    base: Arc<Vec<Value>>,
    /// Values that hold instead of those in `base`, by number: at most [`CHANGED_MAX`].
    changed: Vec<(usize, Arc<Value>)>,
    /// `user` and `rename-command` lines, in order.
    pub directives: Arc<Vec<Directive>>,
}

/// What CONFIG SET must know about the moment and the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetContext {
    /// A data set is being loaded.
    pub loading: bool,
    /// The client is local (loopback or Unix socket).
    pub local_client: bool,
}

fn by_name() -> &'static HashMap<&'static str, usize> {
    static MAP: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    MAP.get_or_init(|| {
        let names = OPTIONS.iter().enumerate().flat_map(|(i, option)| {
            [(option.name, i), (option.alias, i)]
                .into_iter()
                .filter(|(name, _)| !name.is_empty())
        });
        names.collect()
    })
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.differences(other).is_empty() && self.directives == other.directives
    }
}

/// The record of the option `name`, in any case, by its name or alias.
pub fn find(name: &[u8]) -> Option<(usize, &'static OptionSpec)> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let index = *by_name().get(name.as_str())?;
    Some((index, OPTIONS.get(index)?))
}

impl Settings {
    /// All defaults; the data directory is `dir`, which must be absolute.
    pub fn new(dir: &std::path::Path) -> Self {
        use super::kind::{Kind, OutputLimit};
        use std::os::unix::ffi::OsStrExt as _;
        let value = |option: &OptionSpec| {
            // What the kinds that build on an old value start from.
            let nothing = match option.kind {
                Kind::OutputLimits => Value::OutputLimits([OutputLimit::default(); 3]),
                _ => Value::Bool(false),
            };
            if matches!(option.kind, Kind::Dir) {
                return Value::Text(dir.as_os_str().as_bytes().to_vec());
            }
            let words = match option.kind {
                Kind::Text { .. } => vec![option.default.as_bytes().to_vec()],
                _ => split_quoted(option.default.as_bytes()).unwrap_or_default(),
            };
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            // A test shows that every default is valid.
            option
                .kind
                .parse(&words, &nothing, false, false)
                .unwrap_or(nothing)
        };
        Self {
            base: Arc::new(OPTIONS.iter().map(value).collect()),
            changed: Vec::new(),
            directives: Arc::default(),
        }
    }

    /// The value of option number `index` of the table.
    pub fn value(&self, index: usize) -> &Value {
        match self.changed.iter().find(|(changed, _)| *changed == index) {
            Some((_, value)) => value,
            None => self.base.get(index).unwrap_or(&Value::Bool(false)),
        }
    }

    /// The options whose values differ. Quick if one is a copy of the other.
    pub fn differences(&self, other: &Self) -> OptionSet {
        let differs = |index: &usize| self.value(*index) != other.value(*index);
        if Arc::ptr_eq(&self.base, &other.base) {
            let changed = self.changed.iter().chain(&other.changed);
            changed.map(|(index, _)| *index).filter(differs).collect()
        } else {
            (0..OPTIONS.len()).filter(differs).collect()
        }
    }

    /// Replaces the value of option number `index`.
    pub fn replace(&mut self, index: usize, value: Value) {
        let known = |(changed, _): &&mut (usize, Arc<Value>)| *changed == index;
        if let Some((_, slot)) = self.changed.iter_mut().find(known) {
            *slot = Arc::new(value);
            return;
        }
        if self.changed.len() == CHANGED_MAX {
            let base = Arc::make_mut(&mut self.base);
            for (index, value) in self.changed.drain(..) {
                if let Some(slot) = base.get_mut(index) {
                    *slot = Arc::unwrap_or_clone(value);
                }
            }
        }
        match Arc::get_mut(&mut self.base) {
            Some(base) => {
                if let Some(slot) = base.get_mut(index) {
                    *slot = value;
                }
            }
            None => self.changed.push((index, Arc::new(value))),
        }
    }

    /// Reads and replaces one value. `append`: see [`super::kind::Kind::parse`].
    pub fn set(&mut self, index: usize, words: &[&[u8]], append: bool) -> Result<(), Refusal> {
        let Some(option) = OPTIONS.get(index) else {
            return Err("no such option".into());
        };
        let old = self.value(index);
        let mut value = option
            .kind
            .parse(words, old, append, option.has(flag::MULTI))?;
        if option.name == "hz"
            && let Value::Number(hz) = &mut value
        {
            // More a hint than a demand: out of range is accepted and brought into range.
            *hz = (*hz).clamp(1, 500);
        }
        if let Some(check) = option.check {
            check(&option.kind.show(&value))?;
        }
        self.replace(index, value);
        Ok(())
    }

    /// A copy with one number changed, within no bounds: for what the system dictates.
    pub fn with_number(&self, name: &str, number: i128) -> Self {
        let mut changed = self.clone();
        if let Some((index, _)) = find(name.as_bytes()) {
            changed.replace(index, Value::Number(number));
        }
        changed
    }

    /// The value of option number `index` as CONFIG GET shows it.
    pub fn show(&self, index: usize) -> Vec<u8> {
        OPTIONS
            .get(index)
            .map(|o| o.kind.show(self.value(index)))
            .unwrap_or_default()
    }

    /// All options with their values, those too that patterns do not find.
    pub fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let options = OPTIONS.iter().enumerate();
        options
            .map(|(index, option)| (option.name.into(), self.show(index)))
            .collect()
    }

    /// CONFIG GET: names and values that match any of `patterns`, each name once.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut seen = hashbrown::HashSet::new();
        for pattern in patterns {
            if !pattern.iter().any(|b| b"[*?".contains(b)) {
                // As in Redis, the answer repeats the caller's spelling of a full name.
                let key = pattern.to_ascii_lowercase();
                if let Some((index, _)) = find(pattern)
                    && seen.insert(key)
                {
                    found.push((pattern.to_vec(), self.show(index)));
                }
                continue;
            }
            for (index, option) in OPTIONS.iter().enumerate() {
                for name in [option.name, option.alias] {
                    if !name.is_empty()
                        && !option.has(flag::HIDDEN)
                        && glob::matches(pattern, name.as_bytes(), true)
                        && seen.insert(name.into())
                    {
                        found.push((name.into(), self.show(index)));
                    }
                }
            }
        }
        found
    }

    /// CONFIG SET: all of `pairs` (name, value) or none. The result is not in force yet.
    pub fn with_changes(
        &self,
        pairs: &[(&[u8], &[u8])],
        context: SetContext,
    ) -> Result<Self, CommandError> {
        let failed = |name: &[u8], why: &str| {
            let text = [
                b"ERR CONFIG SET failed (possibly related to argument '",
                name,
                b"') - ",
                why.as_bytes(),
            ];
            CommandError::Bytes(text.concat())
        };
        let protected = const { super::table::index_of("enable-protected-configs") };
        let protected_allowed = match self.value(protected) {
            Value::Choice(2) => context.local_client,
            other => *other == Value::Choice(1),
        };
        let mut targets: Vec<(usize, &[u8], &[u8])> = Vec::with_capacity(pairs.len());
        let mut refused = None;
        for (name, value) in pairs {
            // An unknown name is what the error tells of, wherever it stands.
            let Some((index, option)) = find(name) else {
                if refused.is_some() {
                    continue;
                }
                let text = [
                    b"ERR Unknown option or number of arguments for CONFIG SET - '",
                    *name,
                    b"'",
                ];
                return Err(CommandError::Bytes(text.concat()));
            };
            if refused.is_some() {
                continue;
            }
            if option.has(flag::OURS) && self.show(index) == *value {
                continue;
            }
            if option.has(flag::START_ONLY) {
                refused = Some(failed(name, "can't set immutable config"));
            } else if option.has(flag::PROTECTED) && !protected_allowed {
                refused = Some(failed(name, "can't set protected config"));
            } else if option.has(flag::NOT_LOADING) && context.loading {
                let text = "LOADING Redis is loading the dataset in memory";
                refused = Some(CommandError::fixed(text));
            } else if is_repeated(&targets, index, name) {
                refused = Some(failed(name, "duplicate parameter"));
            }
            targets.push((index, *name, *value));
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let mut changed = self.clone();
        for &(index, name, value) in &targets {
            let multi = OPTIONS.get(index).is_some_and(|o| o.has(flag::MULTI));
            let words: Vec<&[u8]> = match multi {
                true if value.is_empty() => Vec::new(),
                true => value.split(|b| *b == b' ').collect(),
                false => vec![value],
            };
            changed
                .set(index, &words, false)
                .map_err(|why| failed(&name.to_ascii_lowercase(), &why))?;
        }
        Ok(changed)
    }
}

/// Whether an option was given before. As in Redis its two names are no repetition; the last value holds.
fn is_repeated(targets: &[(usize, &[u8], &[u8])], index: usize, name: &[u8]) -> bool {
    let mut before = targets.iter();
    before.any(|(known, other, _)| *known == index && other.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings() -> Settings {
        Settings::new(Path::new("/"))
    }

    fn shown(settings: &Settings, name: &str) -> String {
        String::from_utf8(settings.show(find(name.as_bytes()).unwrap().0)).unwrap()
    }

    fn set(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
            .collect();
        let changed = settings().with_changes(&pairs, SetContext::default());
        changed.map_err(|error| String::from_utf8_lossy(&error.resp()).into_owned())
    }

    #[test]
    fn every_default_is_a_valid_value_of_its_option_and_reads_back_from_what_is_shown() {
        let mut settings = settings();
        for (index, option) in OPTIONS.iter().enumerate() {
            let before = settings.value(index).clone();
            let shown = settings.show(index);
            if option.name != "replicaof" {
                let words: Vec<&[u8]> = match option.has(flag::MULTI) {
                    true => shown.split(|b| *b == b' ').collect(),
                    false => vec![&shown],
                };
                let result = settings.set(index, &words, false);
                assert_eq!(result, Ok(()), "{}", option.name);
            }
            assert_eq!(*settings.value(index), before, "{}", option.name);
        }
    }

    #[test]
    fn copies_differ_by_what_was_replaced_however_much_that_is() {
        let first = settings();
        let mut copy = first.clone();
        for index in 0..OPTIONS.len() {
            copy.replace(index, Value::Number(-(index as i128)));
            copy.replace(index, Value::Number(-1 - index as i128));
            assert_eq!(first.differences(&copy).iter().count(), index + 1);
            assert!(copy.changed.len() <= CHANGED_MAX);
            let last = copy.clone();
            assert!(last == copy && last != first);
        }
        for index in 0..OPTIONS.len() {
            assert_eq!(*copy.value(index), Value::Number(-1 - index as i128));
        }
        assert_eq!(first, settings());
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let names: Vec<_> = OPTIONS.iter().flat_map(|o| [o.name, o.alias]).collect();
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        assert_eq!(by_name().len(), names.len());
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    }

    #[test]
    fn shows_values_as_redis_does() {
        let settings = settings();
        for (name, value) in [
            ("save", "3600 1 300 100 60 10000"),
            ("bind", "* -::*"),
            ("SLAVEOF", ""),
            ("unixsocketperm", "0"),
            ("client-query-buffer-limit", "1073741824"),
            ("latency-tracking-info-percentiles", "50 99 99.9"),
            ("notify-keyspace-events", ""),
            ("shutdown-on-sigterm", "default"),
            (
                "client-output-buffer-limit",
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            ),
        ] {
            assert_eq!(shown(&settings, name), value, "{name}");
        }
    }

    #[test]
    fn changes_are_all_or_nothing_with_the_errors_of_redis() {
        let failed = |name: &str, why: &str| {
            Err(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
            ))
        };
        let done = set(&[("maxmemory", "100mb"), ("save", "60 1 10 100")]).unwrap();
        assert_eq!(shown(&done, "maxmemory"), "104857600");
        assert_eq!(shown(&done, "save"), "60 1 10 100");
        for (pairs, error) in [
            (
                &[("timeout", "3"), ("Port", "70000")][..],
                failed("port", "argument must be between 0 and 65535 inclusive"),
            ),
            (
                &[("maxmemory", "-1")],
                failed("maxmemory", "argument must be a memory value"),
            ),
            (
                &[("maxmemory-clients", "101%")],
                failed(
                    "maxmemory-clients",
                    "percentage argument must be less or equal to 100",
                ),
            ),
            (
                &[("hz", "x")],
                failed("hz", "argument couldn't be parsed into an integer"),
            ),
            (
                &[("appendfsync", "x")],
                failed(
                    "appendfsync",
                    "argument(s) must be one of the following: everysec, always, no",
                ),
            ),
            (
                &[("appendonly", "1")],
                failed("appendonly", "argument must be 'yes' or 'no'"),
            ),
            (
                &[("Databases", "1")],
                failed("Databases", "can't set immutable config"),
            ),
            (&[("dir", "/")], failed("dir", "can't set protected config")),
            (
                &[("hz", "1"), ("hz", "2")],
                failed("hz", "duplicate parameter"),
            ),
            (&[("save", "60")], failed("save", "Invalid save parameters")),
            (
                &[("databases", "1"), ("hz", "2")],
                failed("databases", "can't set immutable config"),
            ),
            (
                &[("nope", "1")],
                Err("ERR Unknown option or number of arguments for CONFIG SET - 'nope'".into()),
            ),
        ] {
            assert_eq!(set(pairs).map(|_| ()), error);
        }
    }

    #[test]
    fn patterns_find_names_and_aliases_once_and_hidden_options_only_by_name() {
        let settings = settings();
        let found = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<_> = patterns.iter().map(|p| p.as_bytes()).collect();
            let names = settings
                .matching(&patterns)
                .into_iter()
                .map(|(name, _)| name);
            names.map(|name| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(
            found(&["maxmemory-s*", "maxmemory-s*", "PORT"]),
            ["maxmemory-samples", "PORT"]
        );
        assert_eq!(
            found(&["*ziplist-value"]),
            ["hash-max-ziplist-value", "zset-max-ziplist-value"]
        );
        assert_eq!(found(&["key-load-del*"]), [""; 0]);
        assert_eq!(found(&["key-load-delay"]), ["key-load-delay"]);
        assert_eq!(found(&["nope", "no[pq]e"]), [""; 0]);
    }
}
