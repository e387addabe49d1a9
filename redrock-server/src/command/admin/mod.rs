//! Commands of the admin family.

pub mod config;

use super::table::Spec;

/// This family's records.
pub const COMMANDS: &[Spec] = &[config::CONFIG];
