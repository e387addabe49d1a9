//! `rename-command`: commands under other names, or none.
//!
//! The names are fixed before the first client comes. As in Redis, the log and replicas get the
//! names that clients used: all servers of a deployment must agree on them.

use super::registry;
use super::table::Spec;
use hashbrown::HashMap;
use std::sync::OnceLock;

/// Names that mean something else than their record says: another command, or none.
#[derive(Debug, Default)]
pub struct Renames {
    names: HashMap<Vec<u8>, Option<&'static Spec>>,
}

static IN_FORCE: OnceLock<Renames> = OnceLock::new();

impl Renames {
    /// What `name` (lower case) means, if that is not what the table says.
    pub fn get(&self, name: &[u8]) -> Option<Option<&'static Spec>> {
        self.names.get(name).copied()
    }

    /// Takes the name `from` from its command and gives it `to`, or none if `to` is empty.
    /// The error texts are Redis's.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), &'static str> {
        let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
        let Some(spec) = self.meaning(&from) else {
            return Err("No such command in rename-command");
        };
        if to != from && !to.is_empty() && self.meaning(&to).is_some() {
            return Err("Target command name already exists");
        }
        self.names.insert(from, None);
        if !to.is_empty() {
            self.names.insert(to, Some(spec));
        }
        Ok(())
    }

    fn meaning(&self, name: &[u8]) -> Option<&'static Spec> {
        self.get(name)
            .unwrap_or_else(|| registry::find_original(name))
    }
}

/// Makes the names hold for all clients; once, before the first comes.
pub fn install(renames: Renames) {
    if !renames.names.is_empty() && IN_FORCE.set(renames).is_err() {
        tracing::warn!("commands were renamed before: the new names are ignored");
    }
}

/// The names in force, if any command was renamed.
pub fn in_force() -> Option<&'static Renames> {
    IN_FORCE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_command_is_known_by_its_new_name_only() {
        let mut renames = Renames::default();
        let name = |renames: &Renames, of: &[u8]| renames.meaning(of).map(|spec| spec.name);
        assert_eq!(renames.rename(b"GET", b"Fetch"), Ok(()));
        assert_eq!(
            (name(&renames, b"get"), name(&renames, b"fetch")),
            (None, Some("get"))
        );
        assert_eq!(
            renames.rename(b"get", b"x"),
            Err("No such command in rename-command")
        );
        assert_eq!(
            renames.rename(b"set", b"fetch"),
            Err("Target command name already exists")
        );
        // The name that became free may be given to another, and a new name changed again.
        assert_eq!(renames.rename(b"set", b"get"), Ok(()));
        assert_eq!(renames.rename(b"fetch", b""), Ok(()));
        assert_eq!(
            (name(&renames, b"get"), name(&renames, b"fetch")),
            (Some("set"), None)
        );
        assert_eq!(renames.rename(b"echo", b"ECHO"), Ok(()));
        assert_eq!(name(&renames, b"echo"), Some("echo"));
    }
}
