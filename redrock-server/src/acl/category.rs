//! Categories of commands as bits, worked out once.

use crate::command::admin::{ACL_CATEGORIES, categories};
use crate::command::registry;
use crate::command::table::Spec;
use std::sync::OnceLock;

/// The bit of a category by its name, in any case; `None` if there is none. `all` is not a
/// category but a rule of its own.
pub fn bit(name: &[u8]) -> Option<u32> {
    let at = ACL_CATEGORIES
        .iter()
        .position(|known| name.eq_ignore_ascii_case(known.as_bytes()))?;
    Some(1 << at)
}

/// The categories of a command, a bit each.
pub fn of(spec: &Spec) -> u32 {
    static BITS: OnceLock<Vec<u32>> = OnceLock::new();
    let all = BITS.get_or_init(|| {
        registry::numbered()
            .iter()
            .map(|spec| {
                let names = categories(spec);
                names
                    .iter()
                    .filter_map(|name| bit(name.as_bytes()))
                    .fold(0, |bits, bit| bits | bit)
            })
            .collect()
    });
    all.get(usize::from(spec.index)).copied().unwrap_or(0)
}
