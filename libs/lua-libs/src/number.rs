//! Numbers as C has them: conversions that the standard leaves open, as the processors do them
//! that Redis runs on, and the text forms of the C library in its default locale.

use std::ffi::CStr;

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// A double as a 64-bit integer; what does not fit becomes the smallest one.
pub(crate) fn to_i64(number: f64) -> i64 {
    if (-TWO_TO_63..TWO_TO_63).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// A double as a 32-bit integer; what does not fit becomes the smallest one.
pub(crate) fn to_i32(number: f64) -> i32 {
    if number > -2_147_483_649.0 && number < 2_147_483_648.0 {
        number as i32
    } else {
        i32::MIN
    }
}

/// A double as an unsigned 64-bit integer; a negative one wraps around.
pub(crate) fn to_u64(number: f64) -> u64 {
    if number >= TWO_TO_63 {
        (to_i64(number - TWO_TO_63) as u64) ^ (1 << 63)
    } else {
        to_i64(number) as u64
    }
}

/// Reads a number at the start of a text as `strtod` does, with hexadecimal, infinite and invalid
/// ones: its value, and how many bytes it took; none if there is no number.
pub(crate) fn parse(text: &CStr) -> (f64, usize) {
    let mut end = std::ptr::null_mut();
    // SAFETY: the text ends with zero, and `end` is set to a place in it.
    unsafe {
        let value = libc::strtod(text.as_ptr(), &mut end);
        (value, end.offset_from(text.as_ptr()).max(0) as usize)
    }
}

/// As long as a number's text can be with at most 14 digits, and a zero.
pub(crate) const TEXT_BYTES_MAX: usize = 32;

/// A number as `%.{digits}g` writes it; `digits` is 1 to 14.
pub(crate) fn format(number: f64, digits: i32, text: &mut [u8; TEXT_BYTES_MAX]) -> &[u8] {
    // SAFETY: the call writes no more than the size it gets, and the arguments fit the format.
    let length = unsafe {
        libc::snprintf(
            text.as_mut_ptr().cast(),
            text.len(),
            c"%.*g".as_ptr(),
            digits as libc::c_int,
            number,
        )
    };
    text.get(..length.max(0) as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{format, parse, to_i32, to_i64, to_u64};

    #[test]
    fn what_does_not_fit_becomes_the_smallest_integer() {
        assert_eq!(to_i64(-1.9), -1);
        assert_eq!(to_i64(9_223_372_036_854_774_784.0), i64::MAX - 1023);
        assert_eq!(to_i64(9_223_372_036_854_775_808.0), i64::MIN);
        assert_eq!(to_i64(f64::NAN), i64::MIN);
        assert_eq!(to_i64(f64::NEG_INFINITY), i64::MIN);
        assert_eq!(to_i32(2_147_483_647.9), i32::MAX);
        assert_eq!(to_i32(2_147_483_648.0), i32::MIN);
        assert_eq!(to_i32(-2_147_483_648.9), i32::MIN);
        assert_eq!(to_u64(-1.0), u64::MAX);
        assert_eq!(to_u64(18_446_744_073_709_549_568.0), u64::MAX - 2047);
        assert_eq!(to_u64(f64::INFINITY), 0);
        assert_eq!(to_u64(f64::NAN), 1 << 63);
    }

    #[test]
    fn numbers_are_read_as_c_does() {
        assert_eq!(parse(c"12.5e1xyz"), (125.0, 6));
        assert_eq!(parse(c"0x1p4,"), (16.0, 5));
        assert_eq!(parse(c"-infinity"), (f64::NEG_INFINITY, 9));
        assert_eq!(parse(c"-"), (0.0, 0));
        assert_eq!(parse(c""), (0.0, 0));
        assert!(parse(c"nan").0.is_nan());
    }

    #[test]
    fn numbers_are_written_as_c_does() {
        let mut text = [0; 32];
        assert_eq!(format(0.1 + 0.2, 14, &mut text), b"0.3");
        assert_eq!(
            format(-1.797_693_134_862_315_7e308, 14, &mut text),
            b"-1.7976931348623e+308"
        );
        assert_eq!(format(1e15, 14, &mut text), b"1e+15");
        assert_eq!(format(1234.5, 1, &mut text), b"1e+03");
    }
}
