//! Configuration: redis.conf syntax, command line, environment, CONFIG GET/SET/REWRITE.
//!
//! [`table`] names every option once. [`settings`] holds a value for each, [`typed`] gives them
//! types for the rest of the server. [`source`] reads them at start, [`sanitize`] refuses
//! contradictions, [`hooks`] brings changes into effect, [`watchers`] tells of them, [`rewrite`]
//! writes the file back.

pub mod arguments;
pub mod budget;
mod build;
pub mod hooks;
mod include;
pub mod kind;
pub mod option;
pub mod option_set;
pub mod rewrite;
pub mod sanitize;
pub mod section;
pub mod settings;
pub mod source;
pub mod table;
pub mod typed;
pub mod users;
pub mod watchers;
mod words;

pub use hooks::Hooks;
pub use kind::{OutputLimit, SavePoint};
pub use option_set::OptionSet;
pub use settings::{SetContext, Settings};
pub use source::{LoadError, Loaded, load};
pub use typed::{
    Allowed, AppendOnly, Companions, Config, Fsync, LogLevel, Memory, Network, Observation, Policy,
    Replication, Security, ShutdownMode, Snapshot, StreamLimits, Tls,
};
pub use words::os_error_text;
