//! Numbers as text, with Redis's rules.
//!
//! Doubles are written as Redis 7.2 writes them: integers plainly, anything else with few digits
//! that read back to the same double ([`grisu`]). Redis 7.0 writes `%.17g` instead
//! (`0.10000000000000001` for 0.1): [`format_g17`] does that, and dataset digests need it still.
//! INCRBYFLOAT and HINCRBYFLOAT calculate with C's `long double`: [`long_double`].

mod big;
mod grisu;
pub mod long_double;

pub use long_double::LongDouble;

use std::fmt::{self, Write as _};

/// Bytes that are enough for any text of [`double_text`]: sign, `0.`, zeros and 17 digits, or
/// sign, 17 digits, point and a four-letter exponent.
const DOUBLE_TEXT_BYTES_MAX: usize = 32;

/// Parses a double as Redis's `string2d`: C's `strtod` over the whole text, hexadecimal floats
/// and `inf`/`infinity` included. Refused are leading space, NaN, and what is too large, or too
/// small to be told from zero.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    if is_hexadecimal(text) {
        return LongDouble::parse_unrounded(text)?.to_f64();
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() || (value.is_infinite() && !is_infinity_word(text)) {
        return None;
    }
    if value == 0.0 && has_nonzero_digit(text) {
        return None;
    }
    Some(value)
}

fn without_sign(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    }
}

fn is_hexadecimal(text: &[u8]) -> bool {
    matches!(without_sign(text), [b'0', b'x' | b'X', ..])
}

fn is_infinity_word(text: &[u8]) -> bool {
    let word = without_sign(text);
    word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity")
}

/// Whether a decimal number's digits before the exponent are not all zero.
fn has_nonzero_digit(text: &[u8]) -> bool {
    text.iter()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .any(|b| (b'1'..=b'9').contains(b))
}

/// A double's text in place, without a heap allocation.
#[derive(Clone, Copy)]
pub struct DoubleText {
    bytes: [u8; DOUBLE_TEXT_BYTES_MAX],
    len: usize,
}

impl DoubleText {
    const fn empty() -> Self {
        Self {
            bytes: [0; DOUBLE_TEXT_BYTES_MAX],
            len: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (slot, byte) in room.iter_mut().zip(bytes) {
            *slot = *byte;
            self.len += 1;
        }
    }

    fn push_zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.push(b"0");
        }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Write for DoubleText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for DoubleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<str> for DoubleText {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

/// Formats a double as Redis 7.2's `d2string`: `nan`, `inf`, `-0`, integers up to 2^62 without
/// an exponent, else [`grisu`]'s digits in the notation that [`push_scaled`] chooses.
pub fn double_text(value: f64) -> DoubleText {
    let mut text = DoubleText::empty();
    if value.is_nan() {
        text.push(b"nan");
    } else if value.is_infinite() {
        text.push(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == 0.0 {
        text.push(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    } else if value.fract() == 0.0 && value.abs() <= (i64::MAX / 2) as f64 {
        text.push(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        push_digits(&mut text, value);
    }
    text
}

/// As [`double_text`], as a `String`.
pub fn format_double(value: f64) -> String {
    double_text(value).as_str().to_owned()
}

fn push_digits(text: &mut DoubleText, value: f64) {
    let digits = grisu::digits(value);
    if value < 0.0 {
        text.push(b"-");
    }
    push_scaled(text, digits.as_bytes(), digits.exponent());
}

/// Writes `d.ddd × 10^exponent` in the notation of Redis's `fpconv_dtoa`: up to seven zeros are
/// appended to an integer, and up to six put behind the point, before the exponent is written.
fn push_scaled(text: &mut DoubleText, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    // The power of ten of the last digit.
    let last = exponent + 1 - count;
    if last >= 0 && exponent < count + 7 {
        text.push(digits);
        text.push_zeros(last as usize);
    } else if last < 0 && (last > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            text.push(b"0.");
            text.push_zeros((-exponent - 1) as usize);
            text.push(digits);
        } else {
            let (whole, fraction) = digits
                .split_at_checked(exponent as usize + 1)
                .unwrap_or_default();
            text.push(whole);
            text.push(b".");
            text.push(fraction);
        }
    } else {
        push_mantissa(text, digits);
        let _ = write!(text, "e{exponent:+}");
    }
}

fn push_mantissa(text: &mut DoubleText, digits: &[u8]) {
    let (first, rest) = digits.split_at_checked(1).unwrap_or_default();
    text.push(first);
    if !rest.is_empty() {
        text.push(b".");
        text.push(rest);
    }
}

/// Decimal digits and the exponent of the first one, from `{:e}` text such as `-1.25e-7`.
fn split_scientific(text: &DoubleText) -> (DoubleText, i32) {
    let mut digits = DoubleText::empty();
    let mut parts = text.as_bytes().split(|&b| b == b'e');
    for byte in parts.next().unwrap_or_default() {
        if byte.is_ascii_digit() {
            digits.push(&[*byte]);
        }
    }
    let exponent = parts
        .next()
        .and_then(|e| std::str::from_utf8(e).ok()?.parse().ok());
    (digits, exponent.unwrap_or(0))
}

/// Formats a double as C's `%.17g`: 17 significant digits without trailing zeros. Redis 7.0's
/// replies and the dataset digest of DEBUG DIGEST use it.
pub fn format_g17(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_double(value);
    }
    let mut scientific = DoubleText::empty();
    let _ = write!(scientific, "{value:.16e}");
    let (digits, exponent) = split_scientific(&scientific);
    let mut significant = digits.as_bytes();
    while let [rest @ .., b'0'] = significant {
        significant = rest;
    }
    let mut text = DoubleText::empty();
    if value < 0.0 {
        text.push(b"-");
    }
    let count = significant.len() as i32;
    if !(-4..17).contains(&exponent) {
        push_mantissa(&mut text, significant);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        text.push(b"0.");
        text.push_zeros((-exponent - 1) as usize);
        text.push(significant);
    } else if count <= exponent + 1 {
        text.push(significant);
        text.push_zeros((exponent + 1 - count) as usize);
    } else {
        let (whole, fraction) = significant
            .split_at_checked(exponent as usize + 1)
            .unwrap_or_default();
        text.push(whole);
        text.push(b".");
        text.push(fraction);
    }
    text.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_read_as_strtod_reads_them() {
        for (text, value) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("3.5", 3.5),
            ("+3.5", 3.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("inf", f64::INFINITY),
            ("+inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("0x10", 16.0),
            ("-0x1.8p1", -3.0),
            ("0X.8", 0.5),
            ("0x1p-1074", 5e-324),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.00000000000018p0", 1.0000000000000004),
            ("1.7976931348623157e308", f64::MAX),
            ("4.9e-324", 5e-324),
            ("0e-99999", 0.0),
        ] {
            let parsed = parse_double(text.as_bytes());
            assert_eq!(parsed.map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
    }

    #[test]
    fn what_is_no_double_to_redis_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "nan(1)",
            "1e",
            "e1",
            ".",
            "+",
            "1e400",
            "-1e400",
            "1e-400",
            "0x",
            "0x.",
            "0xg",
            "0x1p",
            "1,5",
            "--1",
            "1_0",
            "infinit",
            "0x1p99999",
            "0x1p-99999",
            "1\0",
        ] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_double(b"1\xff"), None);
    }

    #[test]
    fn doubles_are_written_as_redis_72_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (3.1, "3.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e20, "1e+20"),
            (1e18, "1000000000000000000"),
            (4e18, "4000000000000000000"),
            (5e18, "5e+18"),
            (1.5e300, "1.5e+300"),
            (-1.5e-7, "-1.5e-7"),
            (1e-7, "1e-7"),
            (0.000001, "0.000001"),
            (0.0000015, "1.5e-6"),
            (0.00015, "0.00015"),
            (123456.789, "123456.789"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (12345678901234567890.0, "12345678901234567000"),
            // Not the shortest digits, but Redis's.
            (2906443722.43908, "2.9064437224390802e+9"),
            (867113.11348, "8.671131134800001e+5"),
            (397.1603779170471, "397.16037791704707"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }

    #[test]
    fn seventeen_digits_are_written_as_c_writes_them() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (3.0, "3"),
            (1e20, "1e+20"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (-2.5e-10, "-2.5000000000000002e-10"),
            (1e300, "1.0000000000000001e+300"),
            (-1.25, "-1.25"),
        ] {
            assert_eq!(format_g17(value), text);
        }
    }

    #[test]
    fn every_finite_double_reads_back() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = f64::from_bits(state);
            if value.is_finite() {
                assert_eq!(parse_double(format_double(value).as_bytes()), Some(value));
                assert_eq!(parse_double(format_g17(value).as_bytes()), Some(value));
            }
        }
    }
}
