//! Tests of the 80-bit arithmetic.

use super::parse::divide_small;
use super::*;

fn sum(a: &str, b: &str) -> Option<String> {
    let (a, b) = (
        LongDouble::parse(a.as_bytes())?,
        LongDouble::parse(b.as_bytes())?,
    );
    Some(a.checked_add(b)?.format_human())
}

fn reformat(text: &str) -> Option<String> {
    LongDouble::parse(text.as_bytes()).map(LongDouble::format_human)
}

#[test]
fn sums_come_out_as_people_expect() {
    for (a, b, expected) in [
        ("3.0", "1.1", "4.1"),
        ("0.1", "0.2", "0.3"),
        ("10.50", "0.1", "10.6"),
        ("5.0e3", "2.0e2", "5200"),
        ("1", "-1.1", "-0.1"),
        ("1.5", "-1.5", "0"),
        ("-0", "0", "0"),
        ("3", "0.00000000000000001", "3.00000000000000001"),
        ("1e30", "1", "1000000000000000000024696061952"),
        ("9223372036854775807", "1", "9223372036854775808"),
        ("18446744073709551615", "1", "18446744073709551616"),
        ("18446744073709551616", "1", "18446744073709551616"),
        ("18446744073709551618", "1", "18446744073709551620"),
        ("0x10", "0", "16"),
        ("1e-30", "0", "0"),
        ("-1e-30", "0", "0"),
    ] {
        assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
    }
}

#[test]
fn extremes_are_kept_and_what_lies_beyond_is_refused() {
    assert!(reformat("1.18e4932").is_some());
    assert_eq!(reformat("1.19e4932"), None);
    assert_eq!(reformat("3.6e-4951").as_deref(), Some("0"));
    assert_eq!(reformat("1e-4960"), None);
    assert_eq!(reformat("1e-999999999999"), None);
    assert_eq!(reformat("1e999999999999"), None);
    assert_eq!(reformat("0e999999999999").as_deref(), Some("0"));
    assert_eq!(sum("1.1e4932", "1.1e4932"), None);
    assert_eq!(sum("inf", "1"), None);
    assert_eq!(reformat("-inf").as_deref(), Some("-inf"));
    let long = format!("{}1", "0".repeat(TEXT_BYTES_MAX - 1));
    assert_eq!(reformat(&long).as_deref(), Some("1"));
    assert_eq!(reformat(&format!("0{long}")), None);
}

#[test]
fn texts_that_are_no_numbers_are_refused() {
    for text in [
        "", " 1", "1 ", "nan", "abc", "1e", ".", "0x", "+-1", "+ 1", "1.2.3", "--inf",
    ] {
        assert_eq!(reformat(text), None, "{text:?}");
    }
}

#[test]
fn large_values_are_written_exactly() {
    // 2^100 and 2^64 × 10^20, whose digits are exact.
    assert_eq!(
        reformat("0x1p100").as_deref(),
        Some("1267650600228229401496703205376")
    );
    assert_eq!(
        reformat("1267650600228229401496703205376").as_deref(),
        Some("1267650600228229401496703205376")
    );
    assert_eq!(
        reformat("1e25").as_deref(),
        Some("10000000000000000000000000")
    );
}

#[test]
fn short_and_long_ways_of_reading_agree() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..5_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let integer = state >> (state % 60) | 1;
        let power = (state >> 32) as u32 % 18;
        let (mantissa, exponent, inexact) = divide_small(integer, power);
        let short = Unrounded {
            negative: false,
            infinite: false,
            mantissa,
            inexact,
            exponent,
        };
        let divisor = Big::from_u128(10_u128.pow(power));
        let (mantissa, exponent, inexact) = Big::from_u128(integer.into()).divide(divisor);
        let long = Unrounded {
            negative: false,
            infinite: false,
            mantissa,
            inexact,
            exponent,
        };
        assert_eq!(
            short.to_long_double(),
            long.to_long_double(),
            "{integer}e-{power}"
        );
    }
}
