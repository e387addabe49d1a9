//! Access control lists: who may run which commands, on which keys and channels.
//!
//! [`selector`] is one set of permissions with its rule language, [`user`] the sum of a user's
//! selectors with flags and passwords, [`rules`] changes users by rules, all or none. [`table`]
//! holds the accounts that connections refer to, [`check`] decides, [`log`] keeps what was denied,
//! [`file`] reads and writes the ACL file.
//!
//! **Invariants.** Whoever may do everything is told by one flag of its account, which is all that
//! the dispatcher looks at then. Accounts change only while the keyspace is held, as all commands
//! run: a command sees one set of rules from its check to its end.

pub mod category;
pub mod check;
pub mod file;
pub mod log;
pub mod password;
pub mod rules;
pub mod selector;
pub mod table;
pub mod user;

#[cfg(test)]
mod tests;

pub use table::{Account, Acl};
pub use user::User;
