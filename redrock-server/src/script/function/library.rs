//! The libraries that are loaded, by name, and their functions.

use crate::command::error::{CommandError, CommandResult};
use crate::script::flags::Flags;
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is for.
    pub description: Option<Vec<u8>>,
    /// What it says of itself.
    pub flags: Flags,
    /// Its place in the Lua state's registry.
    pub reference: i32,
}

/// A library.
#[derive(Debug, Clone)]
pub struct Library {
    /// Its name.
    pub name: Vec<u8>,
    /// Its text, first line included.
    pub source: Bytes,
    /// Its functions.
    pub functions: Vec<Function>,
}

impl Library {
    /// Bytes that it takes outside of Lua.
    fn memory_bytes(&self) -> usize {
        let functions = self.functions.iter().map(|function| {
            size_of::<Function>()
                + function.name.len()
                + function.description.as_ref().map_or(0, Vec::len)
        });
        size_of::<Self>() + self.name.len() + self.source.len() + functions.sum::<usize>()
    }
}

/// See the module. Names of functions are the same in any case, as in Redis.
#[derive(Debug, Clone, Default)]
pub struct Libraries {
    libraries: BTreeMap<Vec<u8>, Library>,
    /// Functions' names in lower case, and whose they are.
    owners: HashMap<Vec<u8>, Vec<u8>>,
}

impl Libraries {
    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Library> {
        self.libraries.values()
    }

    /// Number of libraries.
    pub fn len(&self) -> usize {
        self.libraries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    /// Number of functions.
    pub fn function_count(&self) -> usize {
        self.owners.len()
    }

    /// Bytes that they take outside of Lua.
    pub fn memory_bytes(&self) -> usize {
        self.iter().map(Library::memory_bytes).sum()
    }

    /// A library.
    pub fn get(&self, name: &[u8]) -> Option<&Library> {
        self.libraries.get(name)
    }

    /// A function.
    pub fn function(&self, name: &[u8]) -> Option<&Function> {
        let name = name.to_ascii_lowercase();
        let library = self.libraries.get(self.owners.get(&name)?)?;
        let mut functions = library.functions.iter();
        functions.find(|function| function.name.eq_ignore_ascii_case(&name))
    }

    /// Whether a library can be added: no function of another one has the name of one of its.
    pub fn check(&self, library: &Library) -> CommandResult {
        for function in &library.functions {
            let owner = self.owners.get(&function.name.to_ascii_lowercase());
            if owner.is_some_and(|owner| *owner != library.name) {
                let text = [
                    b"ERR Function ",
                    function.name.as_slice(),
                    b" already exists",
                ];
                return Err(CommandError::Bytes(text.concat()));
            }
        }
        Ok(())
    }

    /// Adds a library, in place of one of its name if there is one; that one. Nothing changes on
    /// error.
    pub fn add(&mut self, library: Library) -> CommandResult<Option<Library>> {
        self.check(&library)?;
        let old = self.remove(&library.name);
        for function in &library.functions {
            let name = function.name.to_ascii_lowercase();
            self.owners.insert(name, library.name.clone());
        }
        self.libraries.insert(library.name.clone(), library);
        Ok(old)
    }

    /// Removes a library.
    pub fn remove(&mut self, name: &[u8]) -> Option<Library> {
        let library = self.libraries.remove(name)?;
        self.owners.retain(|_, owner| owner != name);
        Some(library)
    }

    /// These and others; with `replace` others take the place of those of their names. Nothing
    /// changes on error. The libraries that are gone.
    pub fn join(&mut self, others: &Self, replace: bool) -> CommandResult<Vec<Library>> {
        let mut joined = self.clone();
        let mut gone = Vec::new();
        for library in others.iter() {
            if let Some(old) = joined.remove(&library.name) {
                if !replace {
                    let text = [b"ERR Library ", library.name.as_slice(), b" already exists"];
                    return Err(CommandError::Bytes(text.concat()));
                }
                gone.push(old);
            }
        }
        for library in others.iter() {
            joined.add(library.clone())?;
        }
        *self = joined;
        Ok(gone)
    }

    /// The sources of all.
    pub fn sources(&self) -> Vec<Bytes> {
        self.iter().map(|library| library.source.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Library {
        let function = |name: &&str| Function {
            name: name.as_bytes().to_vec(),
            description: None,
            flags: Flags::default(),
            reference: 0,
        };
        Library {
            name: name.into(),
            source: Bytes::copy_from_slice(name.as_bytes()),
            functions: functions.iter().map(function).collect(),
        }
    }

    #[test]
    fn functions_are_one_in_any_case_and_names_are_taken_once() {
        let mut all = Libraries::default();
        all.add(library("a", &["f", "g"])).unwrap();
        assert!(all.function(b"F").is_some() && all.function(b"h").is_none());
        assert!(all.add(library("b", &["h", "G"])).is_err());
        assert_eq!((all.len(), all.function_count()), (1, 2));
        assert!(all.add(library("a", &["h"])).unwrap().is_some());
        assert_eq!((all.len(), all.function_count()), (1, 1));
        assert!(all.function(b"f").is_none());
    }

    #[test]
    fn joining_changes_all_or_nothing() {
        let mut all = Libraries::default();
        all.add(library("a", &["f"])).unwrap();
        all.add(library("b", &["g"])).unwrap();
        let mut more = Libraries::default();
        more.add(library("a", &["x"])).unwrap();
        more.add(library("c", &["g"])).unwrap();
        assert!(all.join(&more, false).is_err());
        assert!(all.join(&more, true).is_err());
        assert!(all.function(b"f").is_some() && all.get(b"c").is_none());
        more.remove(b"c");
        assert_eq!(all.join(&more, true).unwrap().len(), 1);
        assert!(all.function(b"f").is_none() && all.function(b"x").is_some());
    }
}
