//! Scripts that a master or a log has sent as such, as Redis before 7 does: later it names them by
//! their digest alone, to us after a restart and to those who begin from a file of ours. So their
//! texts go into our RDB files, as they did into those of Redis before 7 (aux fields `lua`, which
//! Redis 7 passes over).
//!
//! Those wanted last are kept, as far as a message to the persister has room: a digest that is not
//! known any more costs a full sync ([`crate::start::replay::UnknownScript`]).

use super::cache::ScriptDigest;
use std::collections::{BTreeMap, HashMap};

/// The aux field's name.
pub const FIELD: &str = "lua";
/// Bytes of texts that are kept.
const BYTES_MAX: usize = 1 << 20;
/// What a field takes in a message and in a file beside its text.
const FIELD_BYTES: usize = 32;

/// Which scripts are kept; the one wanted last comes last.
#[derive(Debug, Default)]
pub struct Kept {
    numbers: HashMap<ScriptDigest, (u64, usize)>,
    order: BTreeMap<u64, ScriptDigest>,
    next: u64,
    bytes: usize,
}

impl Kept {
    /// A script whose text has so many bytes is wanted.
    pub fn want(&mut self, digest: &ScriptDigest, source_bytes: usize) {
        let bytes = source_bytes + FIELD_BYTES;
        if bytes > BYTES_MAX {
            return;
        }
        self.remove(digest);
        self.next += 1;
        self.numbers.insert(*digest, (self.next, bytes));
        self.order.insert(self.next, *digest);
        self.bytes += bytes;
        while self.bytes > BYTES_MAX
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, digest: &ScriptDigest) {
        if let Some((number, bytes)) = self.numbers.remove(digest) {
            self.order.remove(&number);
            self.bytes -= bytes;
        }
    }

    /// They, in their order.
    pub fn digests(&self) -> impl Iterator<Item = &ScriptDigest> {
        self.order.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_wanted_last_are_kept_within_the_bound() {
        let mut kept = Kept::default();
        let digest = |n: u8| [n; 40];
        let third = BYTES_MAX / 3 - FIELD_BYTES;
        for n in [1, 2, 3, 1, 4] {
            kept.want(&digest(n), third);
        }
        kept.want(&digest(5), BYTES_MAX);
        let found: Vec<u8> = kept.digests().map(|digest| digest[0]).collect();
        assert_eq!(found, [3, 1, 4]);
        assert_eq!(kept.bytes, 3 * (third + FIELD_BYTES));
        kept.want(&digest(6), BYTES_MAX - FIELD_BYTES);
        assert_eq!(kept.digests().count(), 1);
    }
}
