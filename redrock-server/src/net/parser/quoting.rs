//! Words of a line, with quotes and escapes.

/// Splits a line into words as Redis's `sdssplitargs`: double quotes with escapes, single quotes,
/// `None` when quotes don't balance. Used for inline commands and the configuration file.
pub fn split_quoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    // To Redis a line ends at a zero byte, be it within quotes.
    let mut rest = line.split(|b| *b == 0).next().unwrap_or_default();
    loop {
        let skip = rest.iter().take_while(|b| is_space(**b)).count();
        rest = &rest[skip..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, behind) = quoted_word(rest)?;
        words.push(word);
        rest = behind;
    }
}

fn quoted_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            // Not all that may stand between words ends one.
            [b' ' | b'\n' | b'\r' | b'\t', tail @ ..] => return Some((word, tail)),
            [b'"', tail @ ..] => {
                rest = double_quoted(tail, &mut word)?;
                // A closing quote must be followed by a space or nothing at all.
                return rest
                    .first()
                    .is_none_or(|b| is_space(*b))
                    .then_some((word, rest));
            }
            [b'\'', tail @ ..] => {
                rest = single_quoted(tail, &mut word)?;
                return rest
                    .first()
                    .is_none_or(|b| is_space(*b))
                    .then_some((word, rest));
            }
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [b'"', tail @ ..] => return Some(tail),
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Some(tail),
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
            [] => return None,
        }
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}
