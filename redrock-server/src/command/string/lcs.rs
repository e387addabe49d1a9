//! LCS: the longest common subsequence of two strings.
//!
//! Redis keeps the whole table of lengths, four bytes a cell. Only one row of it is needed to
//! build the next, and one bit a cell to find the way back, so this takes a 32nd of the memory;
//! the limit on the size of the problem is Redis's all the same.

use crate::command::args::is_word;
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context, Reply};
use crate::keyspace::db::Db;
use crate::value::ValueRef;
use redrock_rdb::number::parse_i64;

/// Redis's bytes for a cell of its table, which its limit is expressed in.
const CELL_BYTES: usize = size_of::<u32>();

#[derive(Debug, Default)]
struct Options {
    only_len: bool,
    ranges: bool,
    with_match_len: bool,
    match_len_min: i64,
}

fn parse_options(words: &[&[u8]]) -> CommandResult<Options> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if is_word(word, "idx") {
            options.ranges = true;
        } else if is_word(word, "len") {
            options.only_len = true;
        } else if is_word(word, "withmatchlen") {
            options.with_match_len = true;
        } else if is_word(word, "minmatchlen") {
            let len = words.next().ok_or(CommandError::Syntax)?;
            options.match_len_min = parse_i64(len).ok_or(CommandError::NotInteger)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if options.only_len && options.ranges {
        return Err(CommandError::fixed(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(options)
}

fn read(db: &mut Db<'_>, key: &[u8]) -> CommandResult<Vec<u8>> {
    match db.read_any(key)? {
        None => Ok(Vec::new()),
        Some(ValueRef::Int(n)) => Ok(itoa::Buffer::new().format(n).as_bytes().to_vec()),
        Some(ValueRef::Str(bytes)) => Ok(bytes.to_vec()),
        Some(_) => Err(CommandError::fixed(
            "ERR The specified keys must contain string values",
        )),
    }
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]
pub(super) fn lcs(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let a = read(&mut ctx.db, args.at(1))?;
    let b = read(&mut ctx.db, args.at(2))?;
    let options = parse_options(args.from(3))?;
    check_size(a.len(), b.len(), ctx.config.proto_bulk_bytes_max)?;
    let table = Table::build(&a, &b, !options.only_len);
    if options.only_len {
        ctx.reply.len_int(table.len);
    } else if options.ranges {
        reply_ranges(&mut ctx.reply, &table, &options);
    } else {
        ctx.reply.bulk(&table.subsequence(&a));
    }
    Ok(())
}

fn check_size(a: usize, b: usize, bytes_max: usize) -> CommandResult {
    const TOO_LONG: CommandError = CommandError::fixed("ERR String too long for LCS");
    const LEN_END: usize = u32::MAX as usize - 1;
    if a >= LEN_END || b >= LEN_END {
        return Err(TOO_LONG);
    }
    let cells = (a + 1).checked_mul(b + 1);
    match cells.and_then(|cells| cells.checked_mul(CELL_BYTES)) {
        Some(bytes) if bytes <= bytes_max => Ok(()),
        Some(_) => Err(CommandError::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        )),
        None => Err(CommandError::fixed(
            "ERR Insufficient memory, failed allocating transient memory for LCS",
        )),
    }
}

/// A run of bytes that both strings share: where it is in each, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

fn reply_ranges(reply: &mut Reply<'_>, table: &Table<'_>, options: &Options) {
    reply.map(2);
    reply.bulk(b"matches");
    let start = reply.deferred();
    let mut count = 0;
    table.matches(|found| {
        if (found.len as i64) < options.match_len_min {
            return;
        }
        count += 1;
        reply.array(2 + usize::from(options.with_match_len));
        for first in [found.a, found.b] {
            reply.array(2);
            reply.len_int(first);
            reply.len_int(first + found.len - 1);
        }
        if options.with_match_len {
            reply.len_int(found.len);
        }
    });
    reply.finish_array(start, count);
    reply.bulk(b"len");
    reply.len_int(table.len);
}

/// What is kept of Redis's table `L[i][j]`, the length for the first `i` and `j` bytes.
#[derive(Debug)]
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// The result's length.
    len: usize,
    /// Bit `i * b.len() + j`: whether `L[i][j + 1] > L[i + 1][j]`, so that the way back from
    /// where the bytes differ leads to a shorter `a`.
    up: Vec<u64>,
}

impl<'a> Table<'a> {
    fn build(a: &'a [u8], b: &'a [u8], with_way_back: bool) -> Self {
        let words = if with_way_back {
            (a.len() * b.len()).div_ceil(64)
        } else {
            0
        };
        let mut up = vec![0_u64; words];
        // The row lies along the shorter string.
        let swapped = b.len() > a.len();
        let (outer, inner) = if swapped { (b, a) } else { (a, b) };
        let mut row = vec![0_u32; inner.len()];
        for (o, outer_byte) in outer.iter().enumerate() {
            let (mut left, mut diagonal) = (0_u32, 0_u32);
            for (n, (inner_byte, cell)) in inner.iter().zip(&mut row).enumerate() {
                let above = *cell;
                if outer_byte == inner_byte {
                    *cell = diagonal + 1;
                } else {
                    *cell = above.max(left);
                    let (shorter_a, shorter_b) = if swapped {
                        (left, above)
                    } else {
                        (above, left)
                    };
                    if with_way_back && shorter_a > shorter_b {
                        let bit = if swapped {
                            n * b.len() + o
                        } else {
                            o * b.len() + n
                        };
                        if let Some(word) = up.get_mut(bit / 64) {
                            *word |= 1 << (bit % 64);
                        }
                    }
                }
                diagonal = above;
                left = *cell;
            }
        }
        let len = row.last().copied().unwrap_or(0) as usize;
        Self { a, b, len, up }
    }

    fn is_up(&self, i: usize, j: usize) -> bool {
        let bit = i * self.b.len() + j;
        self.up
            .get(bit / 64)
            .is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Walks back from the end, as Redis does, and tells each run of bytes, the last one first.
    fn matches(&self, mut found: impl FnMut(Match)) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut run: Option<Match> = None;
        while let (Some(before_i), Some(before_j)) = (i.checked_sub(1), j.checked_sub(1)) {
            if self.a.get(before_i) == self.b.get(before_j) {
                (i, j) = (before_i, before_j);
                run = Some(match run {
                    Some(run) => Match {
                        a: i,
                        b: j,
                        len: run.len + 1,
                    },
                    None => Match { a: i, b: j, len: 1 },
                });
                continue;
            }
            if let Some(run) = run.take() {
                found(run);
            }
            if self.is_up(before_i, before_j) {
                i = before_i;
            } else {
                j = before_j;
            }
        }
        if let Some(run) = run {
            found(run);
        }
    }

    fn subsequence(&self, a: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.matches(|run| {
            let end = run.a + run.len;
            bytes.extend(a.get(run.a..end).unwrap_or_default().iter().rev());
        });
        bytes.reverse();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(table: &Table<'_>) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        table.matches(|m| all.push((m.a, m.b, m.len)));
        all
    }

    #[test]
    fn the_example_of_the_documentation_comes_out() {
        let table = Table::build(b"ohmytext", b"mynewtext", true);
        assert_eq!(table.len, 6);
        assert_eq!(table.subsequence(b"ohmytext"), b"mytext");
        assert_eq!(matches(&table), [(4, 5, 4), (2, 0, 2)]);
    }

    #[test]
    fn empty_strings_have_nothing_in_common() {
        for (a, b) in [("", ""), ("abc", ""), ("", "abc"), ("abc", "xyz")] {
            let table = Table::build(a.as_bytes(), b.as_bytes(), true);
            assert_eq!((table.len, matches(&table)), (0, vec![]));
        }
    }

    #[test]
    fn sizes_beyond_the_limit_are_refused() {
        assert!(check_size(1023, 1023, 4 << 20).is_ok());
        assert!(check_size(1023, 1024, 4 << 20).is_err());
        assert!(check_size(usize::MAX, 1, usize::MAX).is_err());
        assert!(check_size(u32::MAX as usize - 2, u32::MAX as usize - 2, usize::MAX).is_err());
    }

    /// The full table, and the walk over it as it is specified.
    fn oracle(a: &[u8], b: &[u8]) -> (usize, Vec<u8>) {
        let mut table = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j, mut result) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                result.push(a[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        result.reverse();
        (table[a.len()][b.len()], result)
    }

    proptest! {
        #[test]
        fn the_small_table_gives_what_the_full_one_gives(
            a in proptest::collection::vec(0_u8..4, 0..60),
            b in proptest::collection::vec(0_u8..4, 0..60),
        ) {
            let (len, subsequence) = oracle(&a, &b);
            let table = Table::build(&a, &b, true);
            prop_assert_eq!(table.len, len);
            prop_assert_eq!(table.subsequence(&a), subsequence);
            prop_assert_eq!(Table::build(&a, &b, false).len, len);
            for (in_a, in_b, len) in matches(&table) {
                prop_assert_eq!(&a[in_a..in_a + len], &b[in_b..in_b + len]);
            }
        }
    }
}
