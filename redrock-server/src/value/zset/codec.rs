//! Sorted sets to and from RDB object encoding (I3).

use super::{Big, Limits, Repr, ZSet, pack};
use redrock_rdb::error::Corrupt;
use redrock_rdb::listpack::{ListPack, LpValue};
use redrock_rdb::object::{ObjectError, encode, types};

/// Why decoded elements are no sorted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidZSet {
    /// A listpack with an odd number of elements.
    #[error("a member without a score")]
    MissingScore,
    /// A score that is not a number.
    #[error("a score that is not a number")]
    BadScore,
    /// The same member twice.
    #[error("the same member twice")]
    Duplicate,
    /// No members: Redis never stores that.
    #[error("a sorted set without members")]
    Empty,
}

impl From<InvalidZSet> for ObjectError {
    fn from(invalid: InvalidZSet) -> Self {
        let reason = match invalid {
            InvalidZSet::MissingScore => "sorted set member without a score",
            InvalidZSet::BadScore => "sorted set score that is not a number",
            InvalidZSet::Duplicate => "sorted set with the same member twice",
            InvalidZSet::Empty => return Self::EmptyKey,
        };
        Self::Corrupt(Corrupt::new(reason, 0))
    }
}

impl ZSet {
    /// Appends the object payload, uncompressed, and returns its RDB type byte. The big form is
    /// written with the largest score first, as Redis does: its loading is cheapest so.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match &self.0 {
            Repr::Pack(pack) => {
                encode::blob(out, pack.as_bytes());
                types::ZSET_LISTPACK
            }
            Repr::Big(big) => {
                encode::zset(out, big.len(), big.iter(big.len().wrapping_sub(1), true));
                types::ZSET_2
            }
        }
    }

    /// A set from its own listpack as [`ZSet::encode`] wrote it, in that form.
    pub fn from_trusted_pack(pack: ListPack) -> Self {
        Self(Repr::Pack(pack))
    }

    /// A set from a listpack of members and scores as a file holds it, checked; one beyond the
    /// limits takes the big form, and one that is out of order is put in order.
    pub fn from_pack(pack: ListPack, limits: &Limits) -> Result<Self, InvalidZSet> {
        if !pack.len().is_multiple_of(2) {
            return Err(InvalidZSet::MissingScore);
        }
        let mut elements = Vec::with_capacity(pack.len() / 2);
        let mut values = pack.iter();
        while let (Some(member), Some(score)) = (values.next(), values.next()) {
            let score = match score {
                LpValue::Int(n) => n as f64,
                LpValue::Str(text) => {
                    redrock_rdb::number::parse_f64(text).ok_or(InvalidZSet::BadScore)?
                }
            };
            elements.push((member.to_vec(), score));
        }
        let set = Self::from_elements(&mut elements, limits)?;
        let unchanged = matches!(set.0, Repr::Pack(_))
            && pack::iter(&pack, 0, false)
                .zip(&elements)
                .all(|(a, b)| a.0.eq_bytes(&b.0));
        // The file's own bytes are kept where they are right: scores may be spelt otherwise.
        Ok(if unchanged {
            Self(Repr::Pack(pack))
        } else {
            set
        })
    }

    /// A set from a file's members in any order, which are sorted in place. It takes the form
    /// that the limits ask for, as Redis does when it loads.
    pub fn from_elements<T: AsRef<[u8]>>(
        elements: &mut [(T, f64)],
        limits: &Limits,
    ) -> Result<Self, InvalidZSet> {
        let big = Self::big_from(elements)?;
        let longest = elements
            .iter()
            .map(|(member, _)| member.as_ref().len())
            .max()
            .unwrap_or(0);
        let fits = elements.len() <= limits.zset_listpack_entries_max
            && longest <= limits.zset_listpack_value_bytes_max;
        if fits {
            let sorted = elements
                .iter()
                .map(|(member, score)| (LpValue::Str(member.as_ref()), *score));
            return Ok(Self::from_sorted(sorted, limits));
        }
        Ok(big)
    }

    /// A set in the big form, whatever its size: what the tier held in that form comes back in
    /// it, so that OBJECT ENCODING does not change. `elements` may be in any order.
    pub fn big_from<T: AsRef<[u8]>>(elements: &mut [(T, f64)]) -> Result<Self, InvalidZSet> {
        if elements.is_empty() {
            return Err(InvalidZSet::Empty);
        }
        if elements.iter().any(|(_, score)| score.is_nan()) {
            return Err(InvalidZSet::BadScore);
        }
        sort(elements);
        let mut big = Box::new(Big::new());
        for (member, score) in elements.iter() {
            if big.find(member.as_ref()).is_some() {
                return Err(InvalidZSet::Duplicate);
            }
            big.push(*score, member.as_ref());
        }
        Ok(Self(Repr::Big(big)))
    }
}

/// Puts elements in the order of a sorted set; no score may be NaN.
pub fn sort<T: AsRef<[u8]>>(elements: &mut [(T, f64)]) {
    elements.sort_unstable_by(|(x, a), (y, b)| {
        // `partial_cmp` and not `total_cmp`: 0 and -0 are equal scores.
        let scores = a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
        scores.then_with(|| x.as_ref().cmp(y.as_ref()))
    });
}
