//! Digits of a double by Grisu2 (Florian Loitsch, "Printing Floating-Point Numbers Quickly and
//! Accurately with Integers", 2010).
//!
//! The digits always read back to the same double, and are the shortest that do, but for about
//! one double in a thousand. Redis 7.2 prints with the same algorithm and the same tables, so
//! those come out alike too, which is why the standard library's digits are not used.

use super::LongDouble;
use std::sync::LazyLock;

/// More digits than ever come out.
const DIGITS_MAX: usize = 20;

const FRACTION_BITS: u32 = 52;
const HIDDEN_BIT: u64 = 1 << FRACTION_BITS;
const EXPONENT_BIAS: i32 = 1023 + FRACTION_BITS as i32;

/// Exponents of powers of ten in the table: from `POWER_FIRST` in steps of `POWER_STEP`.
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;
const POWER_COUNT: i32 = 87;
/// The scaled number's exponent lies between these, so that its integer part has 32 bits at most.
const SCALED_EXPONENT_MIN: i32 = -60;
const SCALED_EXPONENT_MAX: i32 = -32;

/// `fraction × 2^exponent`
#[derive(Debug, Clone, Copy)]
struct Float {
    fraction: u64,
    exponent: i32,
}

/// Powers of ten with 64 bits of precision, rounded to nearest.
static POWERS: LazyLock<Vec<Float>> = LazyLock::new(|| {
    let exponents = (0..POWER_COUNT).map(|i| POWER_FIRST + i * POWER_STEP);
    let power = |exponent| LongDouble::parse(format!("1e{exponent}").as_bytes());
    exponents
        .filter_map(power)
        .map(|power| Float {
            fraction: power.mantissa(),
            exponent: power.exponent(),
        })
        .collect()
});

/// Decimal digits, as an integer to be multiplied by `10^last_power`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    bytes: [u8; DIGITS_MAX],
    len: usize,
    /// Power of ten of the last digit.
    last_power: i32,
}

impl Digits {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Power of ten of the first digit.
    pub(super) fn exponent(&self) -> i32 {
        self.last_power + self.len as i32 - 1
    }

    /// Appends a digit; leading zeros are left out.
    fn push(&mut self, digit: u64) {
        if (digit != 0 || self.len > 0)
            && let Some(slot) = self.bytes.get_mut(self.len)
        {
            *slot = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Brings the last digit nearer to the number itself while staying inside the interval:
    /// `rest` is how far the digits lie below the upper bound, `wanted` how far the number does,
    /// `unit` the last digit's weight.
    fn round(&mut self, interval: u64, mut rest: u64, unit: u64, wanted: u64) {
        let Some(last) = self
            .len
            .checked_sub(1)
            .and_then(|at| self.bytes.get_mut(at))
        else {
            return;
        };
        while rest < wanted
            && interval - rest >= unit
            && (rest.wrapping_add(unit) < wanted
                || wanted - rest > rest.wrapping_add(unit).wrapping_sub(wanted))
        {
            *last -= 1;
            rest = rest.wrapping_add(unit);
        }
    }
}

impl Float {
    fn multiply(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction);
        let fraction = ((product + (1 << 63)) >> 64) as u64;
        Self {
            fraction,
            exponent: self.exponent + other.exponent + 64,
        }
    }

    fn normalized(self) -> Self {
        let zeros = self.fraction.leading_zeros();
        Self {
            fraction: self.fraction << zeros,
            exponent: self.exponent - zeros as i32,
        }
    }
}

/// The power of ten that scales a number with this exponent, and its decimal exponent. More than
/// one may do: where the search starts is part of the result.
fn scaling_power(exponent: i32) -> (Float, i32) {
    const LOG10_OF_2: f64 = 0.301_029_995_663_981_14;
    let approximate = (f64::from(-(exponent + POWER_COUNT)) * LOG10_OF_2) as i32;
    let mut index = (approximate - POWER_FIRST) / POWER_STEP;
    loop {
        let Some(power) = usize::try_from(index).ok().and_then(|at| POWERS.get(at)) else {
            // Not reached: the table covers every double's exponent.
            return (
                Float {
                    fraction: 1 << 63,
                    exponent: -63,
                },
                0,
            );
        };
        let scaled = exponent + power.exponent + 64;
        if scaled < SCALED_EXPONENT_MIN {
            index += 1;
        } else if scaled > SCALED_EXPONENT_MAX {
            index -= 1;
        } else {
            return (*power, POWER_FIRST + index * POWER_STEP);
        }
    }
}

/// The digits of a double's magnitude; it must be finite and not zero.
pub(super) fn digits(value: f64) -> Digits {
    let bits = value.to_bits();
    let (fraction, biased) = (
        bits & (HIDDEN_BIT - 1),
        (bits >> FRACTION_BITS & 0x7ff) as i32,
    );
    let (fraction, exponent) = match biased {
        0 => (fraction, 1 - EXPONENT_BIAS),
        _ => (fraction | HIDDEN_BIT, biased - EXPONENT_BIAS),
    };
    // Everything between the middles to the neighbouring doubles reads back to this one.
    let upper = Float {
        fraction: fraction * 2 + 1,
        exponent: exponent - 1,
    }
    .normalized();
    let shift = if fraction == HIDDEN_BIT { 2 } else { 1 };
    let lower_exponent = exponent - shift;
    let lower = ((fraction << shift) - 1) << (lower_exponent - upper.exponent);
    let lower = Float {
        fraction: lower,
        exponent: upper.exponent,
    };

    let (power, decimal_exponent) = scaling_power(upper.exponent);
    let number = Float { fraction, exponent }.normalized().multiply(power);
    let upper = upper.multiply(power);
    let lower = lower.multiply(power);
    // The products may be off by one: the interval shrinks to what is certain.
    let upper = Float {
        fraction: upper.fraction - 1,
        exponent: upper.exponent,
    };
    generate(
        number.fraction,
        upper,
        lower.fraction + 1,
        -decimal_exponent,
    )
}

/// Cuts digits off the upper bound until what is left is inside the interval.
fn generate(number: u64, upper: Float, lower: u64, decimal_exponent: i32) -> Digits {
    let point = upper.exponent.unsigned_abs();
    let one = 1_u64 << point;
    let mut interval = upper.fraction - lower;
    let mut wanted = upper.fraction.wrapping_sub(number);
    let mut whole = upper.fraction >> point;
    let mut part = upper.fraction & (one - 1);
    let mut digits = Digits {
        bytes: [0; DIGITS_MAX],
        len: 0,
        last_power: decimal_exponent,
    };
    let mut unit = 1_000_000_000_u64;
    for power in (0..10).rev() {
        digits.push(whole / unit);
        whole %= unit;
        let rest = (whole << point) + part;
        if rest <= interval {
            digits.last_power += power;
            digits.round(interval, rest, unit << point, wanted);
            return digits;
        }
        unit /= 10;
    }
    // The interval grows tenfold with each digit behind the point, so this ends soon.
    for power in 1..=DIGITS_MAX as i32 {
        part = part.wrapping_mul(10);
        interval = interval.wrapping_mul(10);
        wanted = wanted.wrapping_mul(10);
        digits.push(part >> point);
        part &= one - 1;
        if part < interval {
            digits.last_power -= power;
            digits.round(interval, part, one, wanted);
            break;
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_rounded_powers_of_ten() {
        assert_eq!(POWERS.len(), POWER_COUNT as usize);
        let ends = [POWERS.first(), POWERS.last()].map(|p| p.map(|p| (p.fraction, p.exponent)));
        assert_eq!(
            ends,
            [
                Some((18_054_884_314_459_144_840, -1220)),
                Some((12_648_080_533_535_911_531, 1066)),
            ]
        );
    }

    #[test]
    fn extremes_have_their_digits() {
        for (value, text, exponent) in [
            (0.1, "1", -1),
            (f64::MAX, "17976931348623157", 308),
            (5e-324, "5", -324),
            (f64::MIN_POSITIVE, "22250738585072014", -308),
            (123.456, "123456", 2),
        ] {
            let digits = digits(value);
            assert_eq!(
                (digits.as_bytes(), digits.exponent()),
                (text.as_bytes(), exponent)
            );
        }
    }
}
