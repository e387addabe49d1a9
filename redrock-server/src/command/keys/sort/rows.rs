//! The elements that SORT works on.

use redrock_rdb::listpack::LpValue;

/// Texts laid end to end: one growing allocation instead of one for each element.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Rows {
    /// Adds an element.
    pub(super) fn push(&mut self, value: LpValue<'_>) {
        value.write_to(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The `at`-th element.
    pub(super) fn get(&self, at: usize) -> &[u8] {
        let start = at
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied();
        let end = self.ends.get(at).copied().unwrap_or_default();
        self.bytes
            .get(start.unwrap_or_default()..end)
            .unwrap_or_default()
    }

    /// All elements in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }
}

impl<'a> Extend<LpValue<'a>> for Rows {
    fn extend<I: IntoIterator<Item = LpValue<'a>>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in() {
        let mut rows = Rows::default();
        rows.extend([
            LpValue::Str(b""),
            LpValue::Int(-12),
            LpValue::Str(b"abc"),
            LpValue::Str(b""),
        ]);
        let all: Vec<&[u8]> = rows.iter().collect();
        assert_eq!(all, [&b""[..], b"-12", b"abc", b""]);
        assert_eq!((rows.len(), rows.get(4)), (4, &b""[..]));
    }
}
