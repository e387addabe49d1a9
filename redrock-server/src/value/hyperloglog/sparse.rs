//! Sparse: runs of equal registers.
//!
//! ```text
//! 00llllll           zeros, 1 to 64 registers
//! 01llllll llllllll  zeros, 1 to 16384 registers
//! 1vvvvvll           value 1 to 32, 1 to 4 registers
//! ```

use super::estimate::Histogram;
use super::{Corrupted, HEADER_BYTES, Pattern, REGISTERS, dense, invalidate, make_dense};

/// The largest value of a run.
const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
const SHORT_ZEROS_MAX: usize = 64;
/// Runs looked at for neighbours to merge with after a change, as many as Redis does.
const MERGE_RUNS_MAX: usize = 5;

/// Equal registers.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// 0 for zeros.
    value: u8,
    /// Number of registers.
    length: usize,
    /// Bytes that it takes.
    bytes: usize,
}

/// The run at a byte. As in Redis, whose strings end with a zero, that is what follows a run
/// that is cut off.
fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let first = *bytes.get(at)?;
    let low = usize::from(first & 0x3f);
    Some(match first >> 6 {
        0 => Run {
            value: 0,
            length: low + 1,
            bytes: 1,
        },
        1 => Run {
            value: 0,
            length: (low << 8 | usize::from(bytes.get(at + 1).copied().unwrap_or(0))) + 1,
            bytes: 2,
        },
        _ => Run {
            value: (first >> 2 & 0x1f) + 1,
            length: usize::from(first & 3) + 1,
            bytes: 1,
        },
    })
}

fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        let run = run_at(bytes, at)?;
        at += run.bytes;
        Some(run)
    })
}

/// Appends a run of zeros; none if `length` is 0.
pub(super) fn push_zeros(out: &mut Vec<u8>, length: usize) {
    match length.checked_sub(1) {
        None => {}
        Some(less) if length <= SHORT_ZEROS_MAX => out.push(less as u8),
        Some(less) => out.extend([0x40 | (less >> 8) as u8, less as u8]),
    }
}

fn value_run(value: u8, length: usize) -> u8 {
    0x80 | (value - 1) << 2 | (length - 1) as u8
}

fn push_run(out: &mut Vec<u8>, value: u8, length: usize) {
    if value == 0 {
        push_zeros(out, length);
    } else if length > 0 {
        out.push(value_run(value, length));
    }
}

/// The run that covers a register.
struct Found {
    at: usize,
    run: Run,
    /// The run's first register.
    first: usize,
    /// Where the run before it is.
    previous: Option<usize>,
}

fn find(bytes: &[u8], register: usize) -> Result<Found, Corrupted> {
    let (mut at, mut first, mut previous) = (HEADER_BYTES, 0, None);
    loop {
        let run = run_at(bytes, at).ok_or(Corrupted)?;
        if register < first + run.length {
            return Ok(Found {
                at,
                run,
                first,
                previous,
            });
        }
        previous = Some(at);
        at += run.bytes;
        first += run.length;
    }
}

/// See [`super::would_change`].
pub(super) fn would_change(bytes: &[u8], pattern: Pattern) -> Result<bool, Corrupted> {
    // What becomes dense is checked then.
    Ok(pattern.length > VALUE_MAX || find(bytes, pattern.register)?.run.value < pattern.length)
}

/// See [`super::add`]. Also marks the cached cardinality as out of date.
pub(super) fn raise(
    bytes: &mut Vec<u8>,
    pattern: Pattern,
    bytes_max: usize,
) -> Result<bool, Corrupted> {
    if pattern.length > VALUE_MAX {
        return raise_dense(bytes, pattern);
    }
    let Found {
        at,
        run,
        first,
        previous,
    } = find(bytes, pattern.register)?;
    if run.value >= pattern.length {
        return Ok(false);
    }
    let mut split = Vec::with_capacity(5);
    let before = pattern.register - first;
    push_run(&mut split, run.value, before);
    split.push(value_run(pattern.length, 1));
    push_run(&mut split, run.value, run.length - before - 1);
    if split.len() > run.bytes && bytes.len() + split.len() - run.bytes > bytes_max {
        return raise_dense(bytes, pattern);
    }
    let end = bytes.len().min(at + run.bytes);
    bytes.splice(at..end, split);
    merge(bytes, previous.unwrap_or(HEADER_BYTES));
    invalidate(bytes);
    Ok(true)
}

fn raise_dense(bytes: &mut Vec<u8>, pattern: Pattern) -> Result<bool, Corrupted> {
    make_dense(bytes)?;
    Ok(dense::raise(bytes, pattern))
}

/// Merges runs of the same value from `at` on, a few of them.
fn merge(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..MERGE_RUNS_MAX {
        let Some(run) = run_at(bytes, at) else {
            return;
        };
        let next = run_at(bytes, at + run.bytes);
        let merged = next.filter(|next| {
            run.value > 0 && next.value == run.value && run.length + next.length <= VALUE_RUN_MAX
        });
        match merged {
            Some(next) => {
                bytes.remove(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value_run(run.value, run.length + next.length);
                }
            }
            None => at += run.bytes,
        }
    }
}

/// Calls `visit` with each register that is not zero and its value, in order, then says whether
/// the runs cover all registers, and no more of them than there are.
pub(super) fn for_each_value(
    bytes: &[u8],
    mut visit: impl FnMut(usize, u8),
) -> Result<(), Corrupted> {
    let mut register = 0;
    for run in runs(bytes) {
        if register + run.length > REGISTERS {
            return Err(Corrupted);
        }
        if run.value > 0 {
            (register..register + run.length).for_each(|at| visit(at, run.value));
        }
        register += run.length;
    }
    if register == REGISTERS {
        Ok(())
    } else {
        Err(Corrupted)
    }
}

/// How many registers have each value.
pub(super) fn histogram(bytes: &[u8]) -> Result<Histogram, Corrupted> {
    let mut histogram = Histogram::default();
    let mut covered = 0;
    for run in runs(bytes) {
        covered += run.length;
        if covered > REGISTERS {
            return Err(Corrupted);
        }
        histogram.add(run.value, run.length);
    }
    if covered == REGISTERS {
        Ok(histogram)
    } else {
        Err(Corrupted)
    }
}

/// See [`super::describe_runs`].
pub(super) fn describe(bytes: &[u8]) -> String {
    let texts = runs(bytes).map(|run| match (run.value, run.bytes) {
        (0, 1) => format!("z:{}", run.length),
        (0, _) => format!("Z:{}", run.length),
        (value, _) => format!("v:{value},{}", run.length),
    });
    texts.collect::<Vec<_>>().join(" ")
}
