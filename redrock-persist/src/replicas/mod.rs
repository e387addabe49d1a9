//! The log and the bases that replicas get while the append-only file is off (`repl/`).
//!
//! - [`folder`]: the files, and the one base that is there;
//! - [`base`]: making it on demand, shared by all who ask;
//! - [`retention`]: which segments may go, a pure decision;
//! - [`tend`]: what happens without a request.
//!
//! Invariants:
//! - the server's segment, the one that was offered last, and what somebody is being sent stay;
//! - what is kept is bounded by `repl-backlog-disk-size`, whoever pins it.

pub mod base;
pub mod folder;
pub mod retention;
pub mod tend;
