//! A selector: the commands, keys and channels that a user may combine in one command.
//!
//! The command rules are kept in the order in which they were given, without those that later
//! ones replaced, so that a description brings back the same permissions.

use super::category;
use super::rules::RuleError;
use crate::command::registry;
use crate::command::table::Spec;
use crate::value::glob;
use std::collections::BTreeMap;

/// What may be done with the keys that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    /// Their values may be read.
    pub read: bool,
    /// They may be made, changed, removed.
    pub write: bool,
    /// A glob-style pattern.
    pub pattern: Vec<u8>,
}

impl KeyPattern {
    /// The pattern as a rule.
    fn rule(&self) -> Vec<u8> {
        let prefix: &[u8] = match (self.read, self.write) {
            (true, false) => b"%R~",
            (false, true) => b"%W~",
            // Short it would be the rule for all keys, behind which no pattern may stand: the
            // line could not be read back. Redis writes such lines.
            _ if self.pattern == b"*" => b"%RW~",
            _ => b"~",
        };
        [prefix, &self.pattern].concat()
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// All keys may be used.
    pub all_keys: bool,
    /// All channels may be used.
    pub all_channels: bool,
    /// All commands may be used.
    pub all_commands: bool,
    /// The command rules start from all commands, not from none.
    from_all: bool,
    /// A bit for each command and subcommand, by [`Spec::index`].
    commands: Vec<u64>,
    /// First arguments with which commands without their bit may run.
    first_arguments: BTreeMap<u16, Vec<Vec<u8>>>,
    keys: Vec<KeyPattern>,
    channels: Vec<Vec<u8>>,
    command_rules: Vec<Vec<u8>>,
}

/// Whether a name or pattern has bytes that would break the lines of the ACL file.
pub fn has_space(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}

impl Selector {
    /// Nothing is allowed, but all channels if `acl-pubsub-default` says so.
    pub fn new(all_channels: bool) -> Self {
        Self {
            all_channels,
            ..Self::default()
        }
    }

    /// Everything is allowed.
    pub fn everything() -> Self {
        let mut this = Self::new(true);
        this.all_keys = true;
        this.allow_all();
        this
    }

    /// Whether there is no need to look any further.
    pub fn is_everything(&self) -> bool {
        self.all_keys && self.all_channels && self.all_commands
    }

    /// Applies one rule.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => self.set_all_keys(true),
            b"resetkeys" => self.set_all_keys(false),
            b"allchannels" | b"&*" => self.set_all_channels(true),
            b"resetchannels" => self.set_all_channels(false),
            b"allcommands" | b"+@all" => self.allow_all(),
            b"nocommands" | b"-@all" => self.allow_none(),
            _ => match rule {
                [b'~', pattern @ ..] => self.add_keys(true, true, pattern)?,
                [b'%', rest @ ..] => self.add_keys_with_access(rest)?,
                [b'&', pattern @ ..] => self.add_channels(pattern)?,
                [b'+', b'@', name @ ..] => self.change_category(name, true)?,
                [b'-', b'@', name @ ..] => self.change_category(name, false)?,
                [b'+', name @ ..] => self.allow(name)?,
                [b'-', name @ ..] => {
                    let spec = registry::find_original_full(name).ok_or(RuleError::Unknown)?;
                    self.change(spec, false);
                    self.note(spec.name.as_bytes(), false);
                }
                _ => return Err(RuleError::Syntax),
            },
        }
        Ok(())
    }

    fn set_all_keys(&mut self, all: bool) {
        self.all_keys = all;
        self.keys.clear();
    }

    fn set_all_channels(&mut self, all: bool) {
        self.all_channels = all;
        self.channels.clear();
    }

    fn allow_all(&mut self) {
        self.allow_none();
        self.commands = vec![u64::MAX; registry::numbered().len().div_ceil(64)];
        self.from_all = true;
        self.all_commands = true;
    }

    fn allow_none(&mut self) {
        self.commands.clear();
        self.first_arguments.clear();
        self.command_rules.clear();
        self.from_all = false;
        self.all_commands = false;
    }

    /// `R~pattern`, `W~pattern`, `RW~pattern`.
    fn add_keys_with_access(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        let (mut read, mut write) = (false, false);
        let mut rest = rule;
        loop {
            rest = match rest {
                [b'R' | b'r', rest @ ..] if !read => {
                    read = true;
                    rest
                }
                [b'W' | b'w', rest @ ..] if !write => {
                    write = true;
                    rest
                }
                [b'~', pattern @ ..] if read || write => {
                    return self.add_keys(read, write, pattern);
                }
                // As in Redis access alone names the empty pattern.
                [] if read || write => return self.add_keys(read, write, b""),
                _ => return Err(RuleError::Syntax),
            };
        }
    }

    fn add_keys(&mut self, read: bool, write: bool, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        if has_space(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => {
                known.read |= read;
                known.write |= write;
            }
            None => self.keys.push(KeyPattern {
                read,
                write,
                pattern: pattern.to_vec(),
            }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelsAfterAll);
        }
        if has_space(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    /// `+command`, `+command|subcommand`, `+command|first-argument`.
    fn allow(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let spec = registry::find_original(name).ok_or(RuleError::Unknown)?;
            self.change(spec, true);
            self.note(spec.name.as_bytes(), true);
            return Ok(());
        };
        let (command, word) = (
            name.get(..bar).unwrap_or_default(),
            name.get(bar + 1..).unwrap_or_default(),
        );
        let spec = registry::find_original_full(command).ok_or(RuleError::Unknown)?;
        if spec.name.contains('|') {
            return Err(RuleError::FirstArgumentOfSubcommand);
        }
        // A rule with a space could not be written to the ACL file.
        if word.is_empty() || has_space(word) {
            return Err(RuleError::Syntax);
        }
        if spec.subcommands.is_empty() {
            let known = self.first_arguments.entry(spec.index).or_default();
            if !known.iter().any(|known| known.eq_ignore_ascii_case(word)) {
                known.push(word.to_vec());
            }
        } else {
            let sub = registry::find_original_full(name).ok_or(RuleError::Unknown)?;
            self.change(sub, true);
        }
        self.note(name, true);
        Ok(())
    }

    fn change_category(&mut self, name: &[u8], allow: bool) -> Result<(), RuleError> {
        let wanted = category::bit(name).ok_or(RuleError::Unknown)?;
        self.note(&[b"@", name].concat(), allow);
        for spec in registry::numbered() {
            if category::of(spec) & wanted != 0 {
                self.change(spec, allow);
            }
        }
        Ok(())
    }

    /// A container's subcommands go with it.
    fn change(&mut self, spec: &Spec, allow: bool) {
        self.set_bit(spec, allow);
        self.first_arguments.remove(&spec.index);
        for sub in spec.subcommands {
            self.set_bit(sub, allow);
        }
    }

    fn set_bit(&mut self, spec: &Spec, allow: bool) {
        self.commands
            .resize(registry::numbered().len().div_ceil(64), 0);
        let bit = 1u64 << (spec.index % 64);
        if let Some(word) = self.commands.get_mut(usize::from(spec.index / 64)) {
            if allow {
                *word |= bit;
            } else {
                *word &= !bit;
                self.all_commands = false;
            }
        }
    }

    /// Remembers a command rule in place of those that it makes void: the same one, and those of
    /// subcommands and first arguments.
    fn note(&mut self, rule: &[u8], allow: bool) {
        let rule = rule.to_ascii_lowercase();
        self.command_rules.retain(|known| {
            let known = known.get(1..).unwrap_or_default();
            known
                .strip_prefix(rule.as_slice())
                .is_none_or(|rest| rest.first().is_some_and(|byte| *byte != b'|'))
        });
        let sign: &[u8] = if allow { b"+" } else { b"-" };
        self.command_rules.push([sign, &rule].concat());
    }

    /// Whether a command may run with this first argument.
    pub fn allows_command(&self, spec: &Spec, first_argument: Option<&[u8]>) -> bool {
        let word = self.commands.get(usize::from(spec.index / 64));
        if word.is_some_and(|word| word & (1 << (spec.index % 64)) != 0) {
            return true;
        }
        let Some(first) = first_argument else {
            return false;
        };
        self.first_arguments
            .get(&spec.index)
            .is_some_and(|known| known.iter().any(|known| known.eq_ignore_ascii_case(first)))
    }

    /// Whether a key may be used so.
    pub fn allows_key(&self, key: &[u8], read: bool, write: bool) -> bool {
        self.all_keys
            || self.keys.iter().any(|known| {
                (known.read || !read)
                    && (known.write || !write)
                    && glob::matches(&known.pattern, key, false)
            })
    }

    /// Whether the value of every key may be read, known or not.
    pub fn reads_all_keys(&self) -> bool {
        self.all_keys
            || self
                .keys
                .iter()
                .any(|known| known.read && known.pattern == b"*")
    }

    /// Whether a channel may be used; a pattern must be allowed as it stands.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|known| {
                if is_pattern {
                    known == channel
                } else {
                    glob::matches(known, channel, false)
                }
            })
    }

    /// The patterns of channels, where not all are allowed.
    pub fn channels(&self) -> &[Vec<u8>] {
        &self.channels
    }

    /// The command rules, from all or none on.
    pub fn describe_commands(&self) -> Vec<u8> {
        let start: &[u8] = if self.from_all { b"+@all" } else { b"-@all" };
        let rules = self.command_rules.iter().map(Vec::as_slice);
        [start]
            .into_iter()
            .chain(rules)
            .collect::<Vec<_>>()
            .join(&b' ')
    }

    /// The key patterns.
    pub fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let rules: Vec<Vec<u8>> = self.keys.iter().map(KeyPattern::rule).collect();
        rules.join(&b' ')
    }

    /// The channel patterns.
    pub fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let rules: Vec<Vec<u8>> = self
            .channels
            .iter()
            .map(|name| [b"&", name.as_slice()].concat())
            .collect();
        rules.join(&b' ')
    }

    /// The rules that make this selector out of nothing.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        let keys = self.describe_keys();
        if !keys.is_empty() {
            parts.push(keys);
        }
        if !self.all_channels {
            parts.push(b"resetchannels".to_vec());
        }
        let channels = self.describe_channels();
        if !channels.is_empty() {
            parts.push(channels);
        }
        parts.push(self.describe_commands());
        parts.join(&b' ')
    }
}
