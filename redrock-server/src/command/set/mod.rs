//! Commands of the set family.

use super::table::Spec;

/// This family's records.
pub const COMMANDS: &[Spec] = &[];
