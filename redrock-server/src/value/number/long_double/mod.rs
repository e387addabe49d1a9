//! C's 80-bit `long double` (64 bits of mantissa), which INCRBYFLOAT and HINCRBYFLOAT calculate
//! with on x86-64: 3.0 + 1.1 is `4.1` there, and not what doubles give.
//!
//! Done in software with exact integers and one rounding (half to even) per operation, so every
//! platform answers alike. Invariant: a value is `mantissa × 2^exponent`, with the mantissa's top
//! bit set unless the exponent is the smallest one or the value is zero.

mod parse;
#[cfg(test)]
mod tests;

use super::big::Big;
use super::{is_infinity_word, without_sign};
use parse::{parse_decimal, parse_hexadecimal};

/// The exponent of the last mantissa bit of the smallest numbers.
const EXPONENT_MIN: i32 = -16445;
/// The exponent of the last mantissa bit of the largest numbers.
const EXPONENT_MAX: i32 = 16383 - 63;
/// Longer texts are no numbers to Redis (`MAX_LONG_DOUBLE_CHARS`, its zero byte included).
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Decimal exponents beyond ± this are surely an overflow or an underflow.
const DECIMAL_EXPONENT_BOUND: i64 = 5100;
/// Digits behind the point in [`LongDouble::format_human`].
const FRACTION_DIGITS: usize = 17;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    infinite: bool,
    mantissa: u64,
    exponent: i32,
}

/// A number that was read and not rounded yet: `(mantissa + a bit if inexact) × 2^exponent`.
/// An inexact mantissa has at least 100 significant bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unrounded {
    negative: bool,
    infinite: bool,
    mantissa: u128,
    inexact: bool,
    exponent: i32,
}

impl Unrounded {
    /// Rounds to `bits` of mantissa, the last of which weighs at least `2^exponent_min`.
    fn round(self, bits: u32, exponent_min: i32) -> (u64, i32) {
        if self.mantissa == 0 {
            return (0, exponent_min);
        }
        let width = 128 - self.mantissa.leading_zeros();
        let exponent = (self.exponent + width as i32 - bits as i32).max(exponent_min);
        let shift = exponent - self.exponent;
        if shift <= 0 {
            // Few bits, so exact: at most `bits` are left after moving up.
            return ((self.mantissa << -shift) as u64, exponent);
        }
        if shift > 128 {
            return (0, exponent);
        }
        let kept = if shift == 128 {
            0
        } else {
            self.mantissa >> shift
        };
        let half = 1_u128 << (shift - 1);
        let rest = self.mantissa & ((half - 1) | half);
        let up = rest > half || rest == half && (self.inexact || kept & 1 == 1);
        let rounded = kept + u128::from(up);
        if rounded >> bits != 0 {
            return ((rounded >> 1) as u64, exponent + 1);
        }
        (rounded as u64, exponent)
    }

    /// As a double; `None` when that is too large, or zero for a number that is not.
    pub(super) fn to_f64(self) -> Option<f64> {
        let sign = if self.negative { -1.0 } else { 1.0 };
        if self.infinite {
            return Some(sign * f64::INFINITY);
        }
        if self.mantissa == 0 {
            return Some(sign * 0.0);
        }
        let (mantissa, exponent) = self.round(53, -1074);
        if mantissa == 0 || exponent > 1023 - 52 {
            return None;
        }
        // The mantissa is exact as a double; two factors keep each power of two representable.
        let half = exponent / 2;
        Some(sign * mantissa as f64 * 2_f64.powi(half) * 2_f64.powi(exponent - half))
    }

    fn to_long_double(self) -> LongDouble {
        let Self {
            negative, infinite, ..
        } = self;
        let (mantissa, exponent) = self.round(64, EXPONENT_MIN);
        if infinite || exponent > EXPONENT_MAX {
            return LongDouble {
                negative,
                infinite: true,
                mantissa: 0,
                exponent: 0,
            };
        }
        LongDouble {
            negative,
            infinite,
            mantissa,
            exponent,
        }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> Self {
        Unrounded {
            negative: value < 0,
            infinite: false,
            mantissa: value.unsigned_abs().into(),
            inexact: false,
            exponent: 0,
        }
        .to_long_double()
    }
}

impl LongDouble {
    /// Parses as Redis's `string2ld`: C's `strtold` over the whole text. Leading space, NaN and
    /// what is too large or too small are refused; the word `inf` is not (see
    /// [`LongDouble::is_finite`]).
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let unrounded = Self::parse_unrounded(text)?;
        let value = unrounded.to_long_double();
        if value.infinite != unrounded.infinite {
            return None;
        }
        if value.mantissa == 0 && unrounded.mantissa != 0 {
            return None;
        }
        Some(value)
    }

    pub(super) fn parse_unrounded(text: &[u8]) -> Option<Unrounded> {
        let negative = text.first() == Some(&b'-');
        let body = without_sign(text);
        if is_infinity_word(body) && body.first().is_some_and(u8::is_ascii_alphabetic) {
            let (mantissa, inexact, exponent) = (0, false, 0);
            return Some(Unrounded {
                negative,
                infinite: true,
                mantissa,
                inexact,
                exponent,
            });
        }
        let (mantissa, exponent, inexact) = match body {
            [b'0', b'x' | b'X', hexadecimal @ ..] => parse_hexadecimal(hexadecimal)?,
            _ => parse_decimal(body)?,
        };
        Some(Unrounded {
            negative,
            infinite: false,
            mantissa,
            inexact,
            exponent,
        })
    }

    pub(super) fn mantissa(self) -> u64 {
        self.mantissa
    }

    pub(super) fn exponent(self) -> i32 {
        self.exponent
    }

    /// Whether the value is no infinity.
    pub fn is_finite(self) -> bool {
        !self.infinite
    }

    /// The sum, rounded once; `None` when it is infinite or not a number.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.infinite || other.infinite {
            return None;
        }
        let (large, small) = if self.magnitude() >= other.magnitude() {
            (self, other)
        } else {
            (other, self)
        };
        if small.mantissa == 0 {
            return Some(large);
        }
        // Both mantissas have at most 64 bits. With the larger one moved up by 62 bits there is
        // room for the carry, and a smaller one that lies still further down only decides
        // which way a tie goes, and there is none left to decide.
        const UP: i32 = 62;
        let distance = large.exponent - small.exponent;
        let (mantissa, exponent, inexact) = if distance <= UP {
            // The larger magnitude never has the smaller exponent.
            let a = u128::from(large.mantissa) << distance.max(0);
            let b = u128::from(small.mantissa);
            (
                if large.negative == small.negative {
                    a + b
                } else {
                    a - b
                },
                small.exponent,
                false,
            )
        } else {
            let down = (distance - UP).min(127);
            let a = u128::from(large.mantissa) << UP;
            let b = u128::from(small.mantissa) >> down;
            let lost = u128::from(small.mantissa) & ((1 << down) - 1) != 0;
            let exponent = large.exponent - UP;
            if large.negative == small.negative {
                (a + b, exponent, lost)
            } else {
                // What was cut off makes the difference smaller: borrow a unit and be inexact.
                (a - b - u128::from(lost), exponent, lost)
            }
        };
        let negative = large.negative;
        let sum = Unrounded {
            negative,
            infinite: false,
            mantissa,
            inexact,
            exponent,
        };
        Some(sum.to_long_double()).filter(|sum| sum.is_finite())
    }

    /// Orders magnitudes: by the highest bit's weight, then by the mantissa.
    fn magnitude(self) -> (i32, u64) {
        if self.mantissa == 0 {
            return (i32::MIN, 0);
        }
        let zeros = self.mantissa.leading_zeros();
        (self.exponent - zeros as i32, self.mantissa << zeros)
    }

    /// Formats as Redis's `ld2string` for humans: `%.17Lf` without trailing zeros, never with an
    /// exponent, and never `-0`.
    pub fn format_human(self) -> String {
        if self.infinite {
            return if self.negative {
                "-inf".into()
            } else {
                "inf".into()
            };
        }
        let mut text = if self.exponent >= 0 {
            let mut big = Big::from_u128(self.mantissa.into());
            big.shift_left(self.exponent as u32);
            big.into_decimal()
        } else {
            let scaled = u128::from(self.mantissa) * 10_u128.pow(FRACTION_DIGITS as u32);
            format_fraction(round_shift(scaled, self.exponent.unsigned_abs()))
        };
        if text.is_empty() {
            text.push('0');
        }
        if self.negative && text != "0" {
            text.insert(0, '-');
        }
        text
    }
}

/// `value / 2^shift`, rounded half to even.
fn round_shift(value: u128, shift: u32) -> u128 {
    let Some(half) = 1_u128.checked_shl(shift - 1) else {
        return 0;
    };
    let kept = value.checked_shr(shift).unwrap_or(0);
    let rest = value & (half | (half - 1));
    kept + u128::from(rest > half || rest == half && kept & 1 == 1)
}

/// Writes a number of 10^-17 units, without trailing zeros.
fn format_fraction(units: u128) -> String {
    let one = 10_u128.pow(FRACTION_DIGITS as u32);
    let (whole, fraction) = (units / one, units % one);
    if fraction == 0 {
        return format!("{whole}");
    }
    let digits = format!("{whole}.{fraction:017}");
    digits.trim_end_matches('0').to_owned()
}
