//! Words as they stand in a configuration file.

/// `bytes` in double quotes, as Redis's `sdscatrepr`: what [`crate::net::parser::split_quoted`]
/// reads back.
pub(super) fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            0x20..=0x7e => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
    out
}

/// The operating system's text for an error, without Rust's `(os error n)`.
pub fn os_error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

/// A line without the spaces around it, as Redis trims lines of its configuration file.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(|b| !is_space(b)).unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|b| !is_space(b))
        .map_or(start, |last| last + 1);
    line.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parser::split_quoted;

    proptest::proptest! {
        #[test]
        fn quoted_bytes_read_back(bytes: Vec<u8>) {
            let words = split_quoted(&quoted(&bytes));
            proptest::prop_assert_eq!(words, Some(vec![bytes]));
        }
    }

    #[test]
    fn lines_are_trimmed_and_os_errors_are_plain() {
        assert_eq!(trimmed(b" \tport 1\r\n"), b"port 1");
        assert_eq!(trimmed(b" \r\n"), b"");
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(os_error_text(&error), "No such file or directory");
    }
}
