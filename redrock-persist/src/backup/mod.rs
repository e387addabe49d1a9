//! Backup sets: consistent copies of a data set that share their unchanging files with it.
//!
//! A set is a folder that Redis 7 and RedRock start from: a base with log files and a manifest, or
//! a dump. [`make`] makes one, beside a running server under its persister's care ([`online`])
//! or without a server ([`command`]); [`retention`] says which are too many.
//! `docs/formats/backup.md` has the files byte by byte.
//!
//! Invariants:
//! - a set appears under its name as a whole, durable, or not at all;
//! - nothing that is linked into a set is ever changed by anybody: whatever may still grow or be
//!   cut is copied.

pub mod command;
pub mod list;
pub mod make;
pub mod online;
pub mod retention;
pub mod set;
pub mod sums;
pub mod verify;
