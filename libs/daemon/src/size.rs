//! Sizes as redis.conf writes them.

/// Bytes with an optional suffix in any case, as Redis's `memtoull`: `100`, `100b`, `1k` (1000),
/// `1kb` (1024), `1m`, `1mb`, `1g`, `1gb`. No digits at all are 0, and what does not fit is the
/// largest size. `None` if it is anything else.
pub fn parse_size(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let scale = match suffix.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if number.is_empty() {
        return Some(0);
    }
    // All are digits, so that only too many of them fail.
    let number = std::str::from_utf8(number)
        .ok()?
        .parse()
        .unwrap_or(u64::MAX);
    Some(number.saturating_mul(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units_in_any_case() {
        for (text, bytes) in [
            ("77", Some(77)),
            ("1b", Some(1)),
            ("3k", Some(3000)),
            ("2Kb", Some(2048)),
            ("1m", Some(1_000_000)),
            ("2MB", Some(2 << 20)),
            ("1g", Some(1_000_000_000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("", Some(0)),
            ("18446744073709551616", Some(u64::MAX)),
            ("17179869184gb", Some(u64::MAX)),
            ("-1", None),
            ("1 kb", None),
            ("1tb", None),
        ] {
            assert_eq!(parse_size(text.as_bytes()), bytes, "{text:?}");
        }
    }
}
