//! SORT's arguments.

use super::pattern::Pattern;
use crate::command::{Args, CommandError, CommandResult};

const BY_DENIED: CommandError =
    CommandError::fixed("ERR BY option of SORT denied due to insufficient ACL permissions.");
const GET_DENIED: CommandError =
    CommandError::fixed("ERR GET option of SORT denied due to insufficient ACL permissions.");

/// What is asked for.
#[derive(Debug)]
pub(super) struct Options<'a> {
    /// Largest first.
    pub(super) descending: bool,
    /// Compare texts, not numbers.
    pub(super) alpha: bool,
    /// A BY pattern without `*` was given: keep the native order.
    pub(super) unsorted: bool,
    /// Where the weights are; the elements themselves if absent.
    pub(super) by: Option<Pattern<'a>>,
    /// What to return for each element; the elements themselves if empty.
    pub(super) get: Vec<Pattern<'a>>,
    /// First and number of the results; a negative number is all.
    pub(super) limit: (i64, i64),
    /// The key to store the result in.
    pub(super) store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Parses arguments 2 and on; SORT_RO knows no STORE. `all_keys`: the client may read keys
    /// that only patterns name.
    pub(super) fn parse(
        args: &Args<'a>,
        read_only: bool,
        all_keys: impl FnOnce() -> bool,
    ) -> CommandResult<Self> {
        let all_keys = std::cell::LazyCell::new(all_keys);
        let mut options = Self {
            descending: false,
            alpha: false,
            unsorted: false,
            by: None,
            get: Vec::new(),
            limit: (0, -1),
            store: None,
        };
        let mut at = 2;
        while at < args.len() {
            let left = args.len() - at - 1;
            if args.is(at, "asc") {
                options.descending = false;
            } else if args.is(at, "desc") {
                options.descending = true;
            } else if args.is(at, "alpha") {
                options.alpha = true;
            } else if args.is(at, "limit") && left >= 2 {
                options.limit = (args.int(at + 1)?, args.int(at + 2)?);
                at += 2;
            } else if !read_only && args.is(at, "store") && left >= 1 {
                options.store = Some(args.at(at + 1));
                at += 1;
            } else if args.is(at, "by") && left >= 1 {
                // One constant pattern is enough, even if another BY follows.
                let is_constant = !args.at(at + 1).contains(&b'*');
                options.unsorted |= is_constant;
                if !is_constant && !*all_keys {
                    return Err(BY_DENIED);
                }
                options.by = Some(Pattern::parse(args.at(at + 1)));
                at += 1;
            } else if args.is(at, "get") && left >= 1 {
                if !*all_keys {
                    return Err(GET_DENIED);
                }
                options.get.push(Pattern::parse(args.at(at + 1)));
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// First index and number of the results among `len` elements.
    pub(super) fn window(&self, len: usize) -> (usize, usize) {
        let (start, count) = self.limit;
        let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX).min(len);
        let count = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(len - start);
        (start, count)
    }
}

/// The indexes of SORT's keys: the sorted one, and that of the last STORE. Redis's
/// `sortGetKeys` steps over the arguments of other options without checking them.
pub(in super::super) fn keys(args: &Args<'_>) -> Vec<usize> {
    let mut store = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "limit") {
            at += 2;
        } else if args.is(at, "get") || args.is(at, "by") {
            at += 1;
        } else if args.is(at, "store") && at + 1 < args.len() {
            store = Some(at + 1);
        }
        at += 1;
    }
    [1].into_iter().chain(store).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_options<R>(words: &str, check: impl FnOnce(CommandResult<Options<'_>>) -> R) -> R {
        let argv: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        check(Options::parse(&Args::new(&argv), false, || true))
    }

    fn found_keys(words: &str) -> Vec<usize> {
        let argv: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        keys(&Args::new(&argv))
    }

    #[test]
    fn the_last_store_is_a_key_wherever_it_stands() {
        assert_eq!(found_keys("sort k"), [1]);
        assert_eq!(found_keys("sort k by store get store"), [1]);
        assert_eq!(found_keys("sort k STORE a limit 0 store store b"), [1, 8]);
        assert_eq!(found_keys("sort k desc store"), [1]);
    }

    #[test]
    fn limits_are_clamped_to_the_elements() {
        for (limit, len, window) in [
            ("0 -1", 5, (0, 5)),
            ("-3 2", 5, (0, 2)),
            ("2 100", 5, (2, 3)),
            ("9 1", 5, (5, 0)),
            ("1 0", 5, (1, 0)),
            ("9223372036854775807 9223372036854775807", 5, (5, 0)),
        ] {
            with_options(&format!("sort k limit {limit}"), |options| {
                assert_eq!(options.map(|o| o.window(len)), Ok(window), "{limit}");
            });
        }
    }

    #[test]
    fn incomplete_options_are_syntax_errors() {
        for words in [
            "sort k limit 1",
            "sort k by",
            "sort k get",
            "sort k store",
            "sort k x",
        ] {
            with_options(words, |options| {
                assert_eq!(options.err(), Some(CommandError::Syntax), "{words}");
            });
        }
        with_options("sort k limit a 1", |options| {
            assert_eq!(options.err(), Some(CommandError::NotInteger));
        });
    }
}
