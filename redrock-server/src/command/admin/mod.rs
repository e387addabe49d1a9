//! Commands of the admin family.

use super::table::Spec;

/// This family's records.
pub const COMMANDS: &[Spec] = &[];
