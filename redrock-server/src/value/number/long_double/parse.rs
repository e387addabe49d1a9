//! Reading the digits of decimal and hexadecimal numbers, exactly.

use super::super::big::Big;
use super::super::without_sign;
use super::DECIMAL_EXPONENT_BOUND;

/// Reads the optional exponent behind `mark` (`e` or `p`); saturates far beyond any use.
fn parse_exponent(text: &[u8], mark: u8) -> Option<i64> {
    let [first, rest @ ..] = text else {
        return Some(0);
    };
    if !first.eq_ignore_ascii_case(&mark) {
        return None;
    }
    let digits = without_sign(rest);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0_i64, |n, d| {
        (n * 10 + i64::from(d - b'0')).min(1_000_000_000)
    });
    Some(if rest.first() == Some(&b'-') {
        -magnitude
    } else {
        magnitude
    })
}

/// Splits off the digits with their point: the part before, the part behind, and the rest.
fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let whole_len = text.iter().take_while(|b| is_digit(b)).count();
    let (whole, rest) = text.split_at_checked(whole_len)?;
    let Some((b'.', behind)) = rest.split_first() else {
        return (!whole.is_empty()).then_some((whole, &[], rest));
    };
    let fraction_len = behind.iter().take_while(|b| is_digit(b)).count();
    let (fraction, rest) = behind.split_at_checked(fraction_len)?;
    (whole_len + fraction_len > 0).then_some((whole, fraction, rest))
}

/// `(mantissa, exponent, inexact)` of a decimal number without its sign.
pub(super) fn parse_decimal(text: &[u8]) -> Option<(u128, i32, bool)> {
    let (whole, fraction, rest) = split_digits(text, u8::is_ascii_digit)?;
    let exponent = parse_exponent(rest, b'e')?;
    let digits = || whole.iter().chain(fraction).copied();
    let leading = digits().take_while(|d| *d == b'0').count();
    let significant = whole.len() + fraction.len() - leading;
    if significant == 0 {
        return Some((0, 0, false));
    }
    // The number is its digits as an integer times 10^scale; the first digit's power of ten
    // tells early that nothing representable can come out.
    let scale = exponent - fraction.len() as i64;
    let first_power = scale + significant as i64 - 1;
    if first_power.abs() > DECIMAL_EXPONENT_BOUND {
        let exponent = if first_power > 0 { 100_000 } else { -100_000 };
        return Some((1, exponent, false));
    }
    if significant <= 19 && (-17..=0).contains(&scale) {
        let integer = digits().fold(0_u64, |n, d| n * 10 + u64::from(d - b'0'));
        return Some(divide_small(integer, -scale as u32));
    }
    let mut numerator = Big::from_digits(digits().skip(leading));
    if scale >= 0 {
        numerator.multiply_power_of_ten(scale as u32);
        let (top, below, lost) = numerator.top();
        return Some((top, below as i32, lost));
    }
    let mut denominator = Big::from_u128(1);
    denominator.multiply_power_of_ten(scale.unsigned_abs() as u32);
    let (quotient, exponent, inexact) = numerator.divide(denominator);
    Some((quotient, exponent, inexact))
}

/// The usual case in one division: `integer / 10^power` for an integer that is not zero and a
/// power of at most 17. The quotient has at least 70 bits.
pub(super) fn divide_small(integer: u64, power: u32) -> (u128, i32, bool) {
    let shift = integer.leading_zeros() + 64;
    let divisor = 10_u128.pow(power);
    let numerator = u128::from(integer) << shift;
    (
        numerator / divisor,
        -(shift as i32),
        !numerator.is_multiple_of(divisor),
    )
}

/// `(mantissa, exponent, inexact)` of a hexadecimal number behind its `0x`.
pub(super) fn parse_hexadecimal(text: &[u8]) -> Option<(u128, i32, bool)> {
    let (whole, fraction, rest) = split_digits(text, u8::is_ascii_hexdigit)?;
    let mut exponent = parse_exponent(rest, b'p')? - 4 * fraction.len() as i64;
    let (mut mantissa, mut inexact) = (0_u128, false);
    for digit in whole.iter().chain(fraction) {
        let digit = u128::from((*digit as char).to_digit(16)?);
        if mantissa >> 120 == 0 {
            mantissa = mantissa << 4 | digit;
        } else {
            inexact |= digit != 0;
            exponent += 4;
        }
    }
    Some((mantissa, exponent.clamp(-100_000, 100_000) as i32, inexact))
}
