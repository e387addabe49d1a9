//! A user: flags, passwords, selectors.

use super::password::Hash;
use super::rules::RuleError;
use super::selector::Selector;
use crate::net::parser::split_quoted;

/// See the module. The name belongs to the [account](super::Account).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    enabled: bool,
    no_password: bool,
    skips_sanitizing: bool,
    passwords: Vec<Hash>,
    /// The root selector, which rules change that stand in no parentheses.
    root: Selector,
    others: Vec<Selector>,
}

impl User {
    /// A user who may do nothing and can't log in. `all_channels`: `acl-pubsub-default`.
    pub fn new(all_channels: bool) -> Self {
        Self {
            enabled: false,
            no_password: false,
            skips_sanitizing: false,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            others: Vec::new(),
        }
    }

    /// The default user as it is when nothing else was said: it may do everything.
    pub fn all_powerful() -> Self {
        Self {
            enabled: true,
            no_password: true,
            root: Selector::everything(),
            ..Self::new(true)
        }
    }

    /// Applies one rule. `all_channels`: `acl-pubsub-default`.
    pub fn apply(&mut self, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"skip-sanitize-payload" => self.skips_sanitizing = true,
            b"sanitize-payload" => self.skips_sanitizing = false,
            b"nopass" => self.set_no_password(true),
            b"resetpass" => self.set_no_password(false),
            b"clearselectors" => self.others.clear(),
            b"reset" => *self = Self::new(all_channels),
            _ => match rule {
                [b'>', password @ ..] => self.add_password(Hash::of(password)),
                [b'#', hex @ ..] => {
                    self.add_password(Hash::from_hex(hex).ok_or(RuleError::BadHash)?);
                }
                [b'<', password @ ..] => self.remove_password(&Hash::of(password))?,
                [b'!', hex @ ..] => {
                    self.remove_password(&Hash::from_hex(hex).ok_or(RuleError::BadHash)?)?;
                }
                [b'(', rules @ .., b')'] => self.add_selector(rules, all_channels)?,
                _ => self.root.apply(rule)?,
            },
        }
        Ok(())
    }

    fn add_selector(&mut self, rules: &[u8], all_channels: bool) -> Result<(), RuleError> {
        let mut selector = Selector::new(all_channels);
        // As in Redis quotes that don't balance leave it empty.
        let rules = split_quoted(rules).unwrap_or_default();
        rules.iter().try_for_each(|rule| selector.apply(rule))?;
        self.others.push(selector);
        Ok(())
    }

    fn set_no_password(&mut self, none: bool) {
        self.no_password = none;
        self.passwords.clear();
    }

    fn add_password(&mut self, hash: Hash) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.no_password = false;
    }

    fn remove_password(&mut self, hash: &Hash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// `requirepass`: one password, or none.
    pub fn set_password(&mut self, password: Option<&[u8]>) {
        self.set_no_password(password.is_none());
        if let Some(password) = password {
            self.add_password(Hash::of(password));
        }
    }

    /// Whether it can log in.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether it needs no password.
    pub fn needs_no_password(&self) -> bool {
        self.no_password
    }

    /// Whether it can log in with this password.
    pub fn accepts(&self, password: &[u8]) -> bool {
        if !self.enabled {
            return false;
        }
        if self.no_password {
            return true;
        }
        let given = Hash::of(password);
        self.passwords.iter().any(|known| known.is(&given))
    }

    /// Whether it may do everything.
    pub fn is_all_powerful(&self) -> bool {
        self.selectors().any(Selector::is_everything)
    }

    /// All selectors, the root first.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.others)
    }

    /// The flags as words.
    pub fn flags(&self) -> Vec<&'static str> {
        let enabled = if self.enabled { "on" } else { "off" };
        let sanitize = if self.skips_sanitizing {
            "skip-sanitize-payload"
        } else {
            "sanitize-payload"
        };
        let mut flags = vec![enabled];
        flags.extend(self.no_password.then_some("nopass"));
        flags.push(sanitize);
        flags
    }

    /// The passwords' hashes, 64 hex digits each.
    pub fn password_hashes(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.iter().map(Hash::to_hex)
    }

    /// The rules that make this user out of nothing.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = self
            .flags()
            .iter()
            .map(|flag| flag.as_bytes().to_vec())
            .collect();
        parts.extend(
            self.password_hashes()
                .map(|hash| format!("#{hash}").into_bytes()),
        );
        parts.push(self.root.describe());
        for selector in &self.others {
            parts.push([b"(", selector.describe().as_slice(), b")"].concat());
        }
        parts.join(&b' ')
    }
}
