//! What of a file belongs to modules: it can be skipped, and must be named.

use std::fmt;

use super::KeyText;
use crate::object::module_name;

/// Module types that are counted apart; what further ones have is counted together, so that a file
/// of nothing but names takes no memory.
const TYPES_MAX: usize = 32;
/// Bytes of a key that are kept: one more than are shown, which tells that there are more.
const KEY_BYTES_MAX: usize = 257;

/// Whose a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleType {
    /// The module type's name of nine characters.
    pub name: String,
    /// The version of its encoding, as the module counts: 0 to 1023.
    pub version: u16,
}

impl ModuleType {
    /// What an id says: nine characters of 6 bits, 10 bits of version.
    pub fn of(id: u64) -> Self {
        Self {
            name: module_name(id),
            version: (id & 0x3ff) as u16,
        }
    }
}

impl fmt::Display for ModuleType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} version {}", self.name, self.version)
    }
}

/// A key whose value only a module can read, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleKey {
    /// The key.
    pub key: Vec<u8>,
    /// Whose it is.
    pub module: ModuleType,
    /// Length in bytes of the value in the file.
    pub bytes: u64,
}

/// What one module type has in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    module: ModuleType,
    keys: u64,
    bytes: u64,
    /// Database and name of the first key.
    first: Option<(u64, Vec<u8>)>,
    /// Pieces of data apart from keys.
    pieces: u64,
}

/// What of a file was skipped because it is modules' own, by type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleTally {
    shares: Vec<Share>,
    keys: u64,
    /// Keys and pieces of types beyond the first [`TYPES_MAX`].
    others: u64,
}

impl ModuleTally {
    /// Counts a key of `database`.
    pub fn add_key(&mut self, database: u64, skipped: &ModuleKey) {
        self.keys += 1;
        let Some(share) = self.share(&skipped.module) else {
            self.others += 1;
            return;
        };
        share.keys += 1;
        share.bytes = share.bytes.saturating_add(skipped.bytes);
        if share.first.is_none() {
            let key = skipped.key.get(..KEY_BYTES_MAX).unwrap_or(&skipped.key);
            share.first = Some((database, key.to_vec()));
        }
    }

    /// Counts a piece of data apart from keys.
    pub fn add_piece(&mut self, module: &ModuleType) {
        match self.share(module) {
            Some(share) => share.pieces += 1,
            None => self.others += 1,
        }
    }

    /// Number of keys.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// `name/version=keys`, separated by commas, for a field of one line.
    pub fn field(&self) -> String {
        let shares = self.shares.iter().map(|share| {
            let ModuleType { name, version } = &share.module;
            format!("{name}/{version}={}", share.keys)
        });
        shares.collect::<Vec<_>>().join(",")
    }

    fn share(&mut self, module: &ModuleType) -> Option<&mut Share> {
        let known = self.shares.iter().position(|share| share.module == *module);
        let at = match known {
            Some(at) => at,
            None if self.shares.len() >= TYPES_MAX => return None,
            None => {
                self.shares.push(Share {
                    module: module.clone(),
                    keys: 0,
                    bytes: 0,
                    first: None,
                    pieces: 0,
                });
                self.shares.len() - 1
            }
        };
        self.shares.get_mut(at)
    }
}

/// One line for people: every type with its version, its keys, the first of them, and its data apart from
/// keys.
impl fmt::Display for ModuleTally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, share) in self.shares.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{}:", share.module)?;
            if let Some((database, key)) = &share.first {
                write!(
                    formatter,
                    " {} keys of {} bytes, the first {} in database {database}",
                    share.keys,
                    share.bytes,
                    KeyText(key)
                )?;
            }
            match (share.pieces, share.keys) {
                (0, _) => {}
                (pieces, 0) => write!(formatter, " {pieces} pieces of data apart from keys")?,
                (pieces, _) => write!(formatter, ", {pieces} pieces of data apart from keys")?,
            }
        }
        match self.others {
            0 => Ok(()),
            others => write!(formatter, "; {others} keys and pieces of further types"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(name: &[u8; 9], version: u64) -> u64 {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digit = |byte: &u8| ALPHABET.iter().position(|known| known == byte).unwrap() as u64;
        name.iter().fold(0, |id, byte| id << 6 | digit(byte)) << 10 | version
    }

    fn key(name: &str, module: &ModuleType, bytes: u64) -> ModuleKey {
        ModuleKey {
            key: name.into(),
            module: module.clone(),
            bytes,
        }
    }

    #[test]
    fn every_type_is_named_with_version_count_and_first_key() {
        let json = ModuleType::of(id_of(b"ReJSON-RL", 3));
        let bloom = ModuleType::of(id_of(b"MBbloom--", 1023));
        assert_eq!((&json.name[..], json.version), ("ReJSON-RL", 3));
        let mut tally = ModuleTally::default();
        assert!(tally.is_empty());
        tally.add_piece(&bloom);
        tally.add_key(2, &key("doc:\n", &json, 100));
        tally.add_key(0, &key("doc:2", &json, 11));
        assert!(!tally.is_empty());
        assert_eq!(tally.keys(), 2);
        assert_eq!(
            tally.to_string(),
            "MBbloom-- version 1023: 1 pieces of data apart from keys; ReJSON-RL version 3: 2 keys \
             of 111 bytes, the first 'doc:\\n' in database 2"
        );
        assert_eq!(tally.field(), "MBbloom--/1023=0,ReJSON-RL/3=2");
    }

    #[test]
    fn a_file_of_nothing_but_types_takes_no_memory() {
        let mut tally = ModuleTally::default();
        for id in 0..100_000 {
            let module = ModuleType::of(id << 10);
            tally.add_key(0, &key(&"k".repeat(300), &module, 1));
            tally.add_piece(&module);
        }
        assert_eq!(tally.keys(), 100_000);
        assert_eq!(tally.shares.len(), TYPES_MAX);
        let text = tally.to_string();
        assert!(text.len() < 16 << 10);
        assert!(
            text.ends_with("; 199936 keys and pieces of further types"),
            "{text}"
        );
    }
}
