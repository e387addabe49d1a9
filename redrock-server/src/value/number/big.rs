//! Unsigned integers of any size: just what exact conversion between decimal text and binary
//! floats needs. The callers bound the size: texts are at most 5 KiB, exponents ±16500.

use std::cmp::Ordering;

const DIGITS_PER_STEP: usize = 9;
const STEP: u32 = 1_000_000_000;

/// An unsigned integer, least significant word first, without leading zero words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Big {
    words: Vec<u32>,
}

impl Big {
    pub(super) fn from_u128(value: u128) -> Self {
        let words = (0..4).map(|i| (value >> (32 * i)) as u32).collect();
        let mut big = Self { words };
        big.trim();
        big
    }

    /// From ASCII decimal digits; other bytes are skipped.
    pub(super) fn from_digits(digits: impl Iterator<Item = u8>) -> Self {
        let mut big = Self { words: Vec::new() };
        let (mut chunk, mut factor) = (0_u32, 1_u32);
        for digit in digits.filter(u8::is_ascii_digit) {
            chunk = chunk * 10 + u32::from(digit - b'0');
            factor *= 10;
            if factor == STEP {
                big.multiply_add(factor, chunk);
                (chunk, factor) = (0, 1);
            }
        }
        if factor > 1 {
            big.multiply_add(factor, chunk);
        }
        big
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.words.is_empty()
    }

    /// `self = self * factor + addend`
    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for word in &mut self.words {
            let wide = u64::from(*word) * u64::from(factor) + carry;
            *word = wide as u32;
            carry = wide >> 32;
        }
        if carry > 0 {
            self.words.push(carry as u32);
        }
    }

    pub(super) fn multiply_power_of_ten(&mut self, power: u32) {
        for _ in 0..power / DIGITS_PER_STEP as u32 {
            self.multiply_add(STEP, 0);
        }
        self.multiply_add(10_u32.pow(power % DIGITS_PER_STEP as u32), 0);
    }

    /// Number of bits up to the highest one that is set.
    pub(super) fn bits(&self) -> u32 {
        match self.words.last() {
            Some(top) => self.words.len() as u32 * 32 - top.leading_zeros(),
            None => 0,
        }
    }

    pub(super) fn shift_left(&mut self, bits: u32) {
        if self.is_zero() {
            return;
        }
        let within = bits % 32;
        if within > 0 {
            self.multiply_add(1 << within, 0);
        }
        let whole = (bits / 32) as usize;
        self.words.splice(0..0, std::iter::repeat_n(0, whole));
    }

    /// The top 128 bits (fewer if there are no more), how many bits lie below them, and whether
    /// any of those is set.
    pub(super) fn top(&self) -> (u128, u32, bool) {
        let below = self.bits().saturating_sub(128);
        let (whole, within) = ((below / 32) as usize, below % 32);
        let mut top = 0_u128;
        for (i, word) in self.words.iter().skip(whole).enumerate() {
            let at = i as i32 * 32 - within as i32;
            let word = u128::from(*word);
            top |= if at < 0 { word >> -at } else { word << at };
        }
        let mut lost = self.words.iter().take(whole).any(|w| *w != 0);
        if let Some(word) = self.words.get(whole) {
            lost |= word & ((1 << within) - 1) != 0;
        }
        (top, below, lost)
    }

    fn compare(&self, other: &Self) -> Ordering {
        (self.words.len().cmp(&other.words.len()))
            .then_with(|| self.words.iter().rev().cmp(other.words.iter().rev()))
    }

    /// Subtracts what is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        for (word, other) in self.words.iter_mut().zip(others) {
            let (less, a) = word.overflowing_sub(other);
            let (less, b) = less.overflowing_sub(u32::from(borrow));
            *word = less;
            borrow = a || b;
        }
        self.trim();
    }

    /// `self / divisor` (neither of them zero) as `quotient × 2^exponent` with at least 100
    /// significant bits, and whether a remainder is left.
    pub(super) fn divide(mut self, mut divisor: Self) -> (u128, i32, bool) {
        const STEPS: i32 = 101;
        // Once the highest bits are aligned the first quotient bit is 0 or 1 and the second
        // certainly follows, by plain long division in binary.
        let (bits, divisor_bits) = (self.bits(), divisor.bits());
        self.shift_left(divisor_bits.saturating_sub(bits));
        divisor.shift_left(bits.saturating_sub(divisor_bits));
        let mut quotient = 0_u128;
        for _ in 0..STEPS {
            quotient <<= 1;
            if self.compare(&divisor) != Ordering::Less {
                self.subtract(&divisor);
                quotient |= 1;
            }
            self.shift_left(1);
        }
        (
            quotient,
            bits as i32 - divisor_bits as i32 - (STEPS - 1),
            !self.is_zero(),
        )
    }

    /// The decimal digits, without leading zeros; empty for zero.
    pub(super) fn into_decimal(mut self) -> String {
        let mut steps = Vec::new();
        while !self.is_zero() {
            let mut remainder = 0_u64;
            for word in self.words.iter_mut().rev() {
                let wide = remainder << 32 | u64::from(*word);
                *word = (wide / u64::from(STEP)) as u32;
                remainder = wide % u64::from(STEP);
            }
            self.trim();
            steps.push(remainder as u32);
        }
        let mut text = String::with_capacity(steps.len() * DIGITS_PER_STEP);
        for (i, step) in steps.iter().rev().enumerate() {
            text += &if i == 0 {
                format!("{step}")
            } else {
                format!("{step:09}")
            };
        }
        text
    }
}
