//! Commands of the list family.

use super::table::Spec;

/// This family's records.
pub const COMMANDS: &[Spec] = &[];
