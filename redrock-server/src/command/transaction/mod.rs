//! Commands of the transaction family.

use super::table::Spec;

/// This family's records.
pub const COMMANDS: &[Spec] = &[];
