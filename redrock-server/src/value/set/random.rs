//! Random members, and taking them out.

use super::{Limits, Repr, Set};
use crate::value::random::select;
use crate::value::thin::ThinBytes;
use rand::random_range;
use redrock_rdb::listpack::{ListPack, LpValue};

/// Above this many taken members for each one that stays, those that stay are drawn instead.
const KEEP_RATIO: usize = 5;

impl Set {
    /// A random member, each with the same probability; `None` if empty.
    pub fn random(&self) -> Option<LpValue<'_>> {
        match (&self.repr, self.len()) {
            (_, 0) => None,
            (Repr::Ints(ints), len) => ints.get(random_range(0..len)).map(LpValue::Int),
            (Repr::Pack(pack), len) => Some(pack.value(pack.seek(random_range(0..len) as i64)?)),
            (Repr::Table(table), _) => Some(LpValue::Str(table.random()?.as_bytes())),
        }
    }

    /// Visits `count` random members, the same one any number of times, until `visit` is false.
    pub fn random_repeating<'a>(&'a self, count: u64, mut visit: impl FnMut(LpValue<'a>) -> bool) {
        // Seeking in a listpack is a walk: with more than one to find, walk it once.
        let small: Vec<_> = match &self.repr {
            Repr::Pack(_) if count > 1 => self.iter().collect(),
            _ => Vec::new(),
        };
        for _ in 0..count {
            let chosen = if small.is_empty() {
                self.random()
            } else {
                small.get(random_range(0..small.len())).copied()
            };
            if !chosen.is_some_and(&mut visit) {
                return;
            }
        }
    }

    /// Visits `count` different random members, or all if there are no more.
    pub fn random_distinct<'a>(&'a self, count: usize, mut visit: impl FnMut(LpValue<'a>)) {
        match &self.repr {
            Repr::Table(table) => table.random_distinct(count, |member: &ThinBytes| {
                visit(LpValue::Str(member.as_bytes()));
            }),
            _ => select(self.iter(), self.len(), count, visit),
        }
    }

    /// Takes out a random member; `None` if empty.
    pub fn take_random(&mut self) -> Option<Vec<u8>> {
        let member = self.random()?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// Takes out `count` random members, or all if there are no more.
    pub fn take_many_random(&mut self, count: usize, limits: &Limits) -> Vec<Vec<u8>> {
        let len = self.len();
        let left = len.saturating_sub(count);
        if let Repr::Pack(pack) = &mut self.repr {
            return take_from_pack(pack, count.min(len));
        }
        if left.saturating_mul(KEEP_RATIO) > count {
            return (0..count).map_while(|_| self.take_random()).collect();
        }
        // Few stay: they move to a new set, which starts as small as it can, as in Redis.
        let mut kept = Self::new();
        if let Repr::Table(_) = &self.repr {
            kept.repr = Repr::Pack(ListPack::new());
        }
        self.random_distinct(left, |member| {
            kept.add_value(member, limits);
        });
        let whole = std::mem::replace(self, kept);
        whole
            .iter()
            .filter(|member| !self.contains_value(*member))
            .map(|m| m.to_vec())
            .collect()
    }
}

/// Takes `count` random elements out of a listpack in one pass.
fn take_from_pack(pack: &mut ListPack, count: usize) -> Vec<Vec<u8>> {
    let len = pack.len();
    let mut chosen = vec![false; len];
    select(chosen.iter_mut(), len, count, |flag| *flag = true);
    let mut taken = Vec::with_capacity(count);
    let mut kept = ListPack::with_capacity(pack.byte_len());
    for (member, chosen) in pack.iter().zip(chosen) {
        if chosen {
            taken.push(member.to_vec());
        } else {
            kept.push_back_value(member);
        }
    }
    kept.shrink_to_fit();
    *pack = kept;
    taken
}
