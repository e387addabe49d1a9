//! Commands of the zset family.

use super::table::Spec;

/// This family's records.
pub const COMMANDS: &[Spec] = &[];
