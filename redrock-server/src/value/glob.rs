//! Redis's glob patterns (`stringmatchlen`), as KEYS, SCAN, PSUBSCRIBE and CONFIG GET use them.
//!
//! `*` any run, `?` any byte, `[a-z]` and `[^a-z]` one byte of a class, `\x` the byte x. The
//! corner cases are Redis's too: an open `[` ends with the pattern, a range compares signed
//! bytes, an escaped byte in a class ignores `nocase`, and `*` alone does not match the empty
//! string (commands treat that pattern on its own).
//!
//! Work is bounded by pattern length times text length: when what follows a `*` matches nowhere
//! in the rest of the text, no longer run of an earlier `*` can help. Recursion is one level a
//! `*`, at most [`NESTING_MAX`]; deeper patterns match nothing, as in Redis.

/// Levels of `*` before a pattern is refused.
const NESTING_MAX: usize = 1000;

/// Whether `text` matches `pattern`; with `nocase`, ASCII letters match in any case.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let mut skip_longer = false;
    Matcher {
        nocase,
        skip_longer: &mut skip_longer,
    }
    .run(pattern, text, 0)
}

struct Matcher<'a> {
    nocase: bool,
    skip_longer: &'a mut bool,
}

/// Byte `at`, or the NUL that ends every string in C.
fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

impl Matcher<'_> {
    fn same(&self, a: u8, b: u8) -> bool {
        a == b || (self.nocase && a.eq_ignore_ascii_case(&b))
    }

    fn run(&mut self, pattern: &[u8], text: &[u8], nesting: usize) -> bool {
        if nesting > NESTING_MAX {
            return false;
        }
        let mut at = 0;
        let mut text_at = 0;
        while at < pattern.len() && text_at < text.len() {
            match byte(pattern, at) {
                b'*' => return self.star(pattern, text, (at, text_at), nesting),
                b'?' => text_at += 1,
                b'[' => {
                    let (matched, end) = self.class(pattern, at + 1, byte(text, text_at));
                    if !matched {
                        return false;
                    }
                    at = end;
                    text_at += 1;
                }
                literal => {
                    let escaped = literal == b'\\' && at + 1 < pattern.len();
                    at += usize::from(escaped);
                    if !self.same(byte(pattern, at), byte(text, text_at)) {
                        return false;
                    }
                    text_at += 1;
                }
            }
            at += 1;
            if text_at == text.len() {
                while byte(pattern, at) == b'*' {
                    at += 1;
                }
                break;
            }
        }
        at >= pattern.len() && text_at == text.len()
    }

    /// Matches from a `*` to the end.
    fn star(
        &mut self,
        pattern: &[u8],
        text: &[u8],
        (mut at, text_at): (usize, usize),
        nesting: usize,
    ) -> bool {
        while byte(pattern, at + 1) == b'*' {
            at += 1;
        }
        let rest = pattern.get(at + 1..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        for start in text_at..text.len() {
            if self.run(rest, text.get(start..).unwrap_or_default(), nesting + 1) {
                return true;
            }
            if *self.skip_longer {
                return false;
            }
        }
        *self.skip_longer = true;
        false
    }

    /// Whether `c` is in the class whose first byte (after `[`) is at `at`, and where the class
    /// ends: at its `]`, or at the pattern's last byte.
    fn class(&self, pattern: &[u8], mut at: usize, c: u8) -> (bool, usize) {
        let negated = byte(pattern, at) == b'^';
        at += usize::from(negated);
        let mut matched = false;
        loop {
            let left = pattern.len().saturating_sub(at);
            let here = byte(pattern, at);
            if here == b'\\' && left >= 2 {
                at += 1;
                matched |= byte(pattern, at) == c;
            } else if here == b']' {
                break;
            } else if left == 0 {
                at -= 1;
                break;
            } else if left >= 3 && byte(pattern, at + 1) == b'-' {
                matched |= self.in_range(here, byte(pattern, at + 2), c);
                at += 2;
            } else {
                matched |= self.same(here, c);
            }
            at += 1;
        }
        (matched != negated, at)
    }

    fn in_range(&self, start: u8, end: u8, c: u8) -> bool {
        let signed = |byte: u8| byte as i8;
        let (mut start, mut end) = (start, end);
        if signed(start) > signed(end) {
            std::mem::swap(&mut start, &mut end);
        }
        let fold = |byte: u8| {
            signed(if self.nocase {
                byte.to_ascii_lowercase()
            } else {
                byte
            })
        };
        (fold(start)..=fold(end)).contains(&fold(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let yes: [(&[u8], &[u8]); 17] = [
            (b"h?llo", b"hello"),
            (b"h*llo", b"heeeello"),
            (b"h[ae]llo", b"hallo"),
            (b"h[^e]llo", b"hallo"),
            (b"h[a-b]llo", b"hbllo"),
            (b"h[b-a]llo", b"hallo"),
            (b"h\\*llo", b"h*llo"),
            (b"*", b"x"),
            (b"a*", b"a"),
            (b"a**b***c", b"abc"),
            (b"", b""),
            (b"x\\", b"x\\"),
            (b"[abc", b"c"),
            (b"[\\]]", b"]"),
            // A range takes whatever follows the dash: from `]` to `a`, in an open class.
            (b"[a-]", b"_"),
            (b"[a\\-z]", b"-"),
            (b"*\xff*", b"a\xffb"),
        ];
        for (pattern, text) in yes {
            let (p, t) = (
                String::from_utf8_lossy(pattern),
                String::from_utf8_lossy(text),
            );
            assert!(matches(pattern, text, false), "{p} against {t}");
        }
    }

    #[test]
    fn patterns_that_redis_refuses_are_refused() {
        let no: [(&[u8], &[u8]); 11] = [
            (b"[", b"["),
            (b"[a-]", b"-"),
            (b"h[^e]llo", b"hello"),
            (b"h[a-b]llo", b"hello"),
            (b"*", b""),
            (b"a", b""),
            (b"", b"a"),
            (b"a?", b"a"),
            (b"abc", b"ABC"),
            (b"a*b", b"acd"),
            (b"[a-\xff]", b"b"),
        ];
        for (pattern, text) in no {
            let (p, t) = (
                String::from_utf8_lossy(pattern),
                String::from_utf8_lossy(text),
            );
            assert!(!matches(pattern, text, false), "{p} against {t}");
        }
    }

    #[test]
    fn nocase_folds_literals_classes_and_ranges_but_not_escapes_in_classes() {
        assert!(matches(b"aBc", b"AbC", true));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(matches(b"[q]", b"Q", true));
        assert!(!matches(b"[\\q]", b"Q", true));
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let text = vec![b'a'; 10_000];
        let mut pattern = b"a*".repeat(900);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text, false));
        assert!(!matches(&b"*a".repeat(5000), &text, false));
    }

    /// The plain definition, without Redis's shortcut.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                naive(rest, text) || text.split_first().is_some_and(|(_, t)| naive(pattern, t))
            }
            (Some((b'?', rest)), Some((_, text))) => naive(rest, text),
            (Some((a, rest)), Some((b, text))) if a == b => naive(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_and_question_marks_agree_with_the_definition(
            pattern in "[ab*?]{0,10}", text in "[ab]{1,12}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text, false), naive(pattern, text));
        }

        #[test]
        fn no_input_panics(
            pattern in prop::collection::vec(prop::sample::select(b"[]^-\\*?ab\0".as_slice()), 0..24),
            text in prop::collection::vec(any::<u8>(), 0..24),
            nocase: bool,
        ) {
            matches(&pattern, &text, nocase);
        }
    }
}
