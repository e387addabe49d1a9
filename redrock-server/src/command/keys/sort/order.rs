//! How SORT compares.

use super::rows::Rows;
use std::cmp::Ordering;

/// What elements are compared by.
#[derive(Debug)]
pub(super) enum Weights {
    /// Nothing: the native order stays.
    Native,
    /// Numbers; equal ones by the elements' texts, so that the result is determined.
    Numbers(Vec<f64>),
    /// The elements' own texts.
    Elements,
    /// Texts found by a pattern; missing ones come first.
    Texts(Vec<Option<Vec<u8>>>),
}

impl Weights {
    fn compare(&self, rows: &Rows, a: usize, b: usize) -> Ordering {
        match self {
            Self::Native => Ordering::Equal,
            Self::Numbers(numbers) => {
                let order = match (numbers.get(a), numbers.get(b)) {
                    (Some(a), Some(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
                    _ => Ordering::Equal,
                };
                order.then_with(|| rows.get(a).cmp(rows.get(b)))
            }
            Self::Elements => rows.get(a).cmp(rows.get(b)),
            Self::Texts(texts) => texts.get(a).cmp(&texts.get(b)),
        }
    }

    /// The rows' indexes in order. Stable: rows that compare equal stay in their native order.
    pub(super) fn order(&self, rows: &Rows, descending: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        match (self, descending) {
            (Self::Native, _) => {}
            (_, false) => order.sort_by(|a, b| self.compare(rows, *a, *b)),
            (_, true) => order.sort_by(|a, b| self.compare(rows, *b, *a)),
        }
        order
    }

    /// Whether an order made by [`Weights::order`] depends on the native order, in which another
    /// server may differ: unlike elements of equal weight.
    pub(super) fn is_ambiguous(&self, rows: &Rows, order: &[usize]) -> bool {
        order.windows(2).any(|pair| match *pair {
            [a, b] => self.compare(rows, a, b).is_eq() && rows.get(a) != rows.get(b),
            _ => false,
        })
    }
}

/// A weight as C's `strtod` reads it: leading space allowed, the empty text is 0, and an error
/// (`None`) for trailing bytes, NaN and what a double can't hold.
pub(super) fn number(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text
        .iter()
        .position(|byte| !space(byte))
        .unwrap_or(text.len());
    let value = crate::value::number::parse_double(text.get(start..).unwrap_or_default())?;
    (!value.is_subnormal()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redrock_rdb::listpack::LpValue;

    fn rows(texts: &[&str]) -> Rows {
        let mut rows = Rows::default();
        rows.extend(texts.iter().map(|text| LpValue::Str(text.as_bytes())));
        rows
    }

    #[test]
    fn equal_numbers_are_ordered_by_text_in_the_same_direction() {
        let rows = rows(&["b", "a", "c"]);
        let weights = Weights::Numbers(vec![1.0, 1.0, -5.0]);
        assert_eq!(weights.order(&rows, false), [2, 1, 0]);
        assert_eq!(weights.order(&rows, true), [0, 1, 2]);
    }

    #[test]
    fn missing_texts_come_first_and_keep_their_order() {
        let rows = rows(&["x", "y", "z", "w"]);
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let weights = Weights::Texts(vec![text("b"), None, text("a"), None]);
        assert_eq!(weights.order(&rows, false), [1, 3, 2, 0]);
        assert_eq!(weights.order(&rows, true), [0, 2, 1, 3]);
        assert!(weights.is_ambiguous(&rows, &[1, 3, 2, 0]));
        assert!(!Weights::Elements.is_ambiguous(&rows, &[3, 0, 1, 2]));
    }

    #[test]
    fn numbers_are_read_as_strtod_does() {
        assert_eq!(number(b""), Some(0.0));
        assert_eq!(number(b" \t12"), Some(12.0));
        assert_eq!(number(b"-1.5e3"), Some(-1500.0));
        assert_eq!(number(b"inf"), Some(f64::INFINITY));
        assert_eq!(number(b"0x10"), Some(16.0));
        for text in ["12 ", "x", " ", "nan", "1e999", "1e-999", "1e-310"] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
    }
}
