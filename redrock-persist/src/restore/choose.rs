//! Which chain a restore takes: a pure decision.

use redrock_proto::RpcError;

use super::chain::Chain;
use crate::error::Result;
use crate::moment;

/// Ranges named in an error.
const RANGES_MAX: usize = 8;

/// How far to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// All that there is.
    Latest,
    /// What was so at the end of this millisecond.
    Time { unix_ms: u64 },
    /// Up to this many bytes of the replication stream.
    Offset(u64),
}

/// Chooses the chain to restore from: of those that reach the target the one with the newest
/// base, which has the least to replay. A dump holds one moment only: the newest one at or
/// before the time serves if no log covers the time.
pub fn choose(chains: &[Chain], target: Target) -> Result<&Chain> {
    let found = match target {
        Target::Latest => chains
            .iter()
            .max_by_key(|chain| (chain.covered_ms, chain.is_log(), chain.begins_ms)),
        Target::Time { unix_ms } => chains
            .iter()
            .filter(|chain| chain.covers(unix_ms))
            .max_by_key(|chain| chain.begins_ms)
            .or_else(|| newest_dump(chains, unix_ms)),
        Target::Offset(offset) => chains
            .iter()
            .filter(|chain| {
                let mut offsets = chain.offsets().into_iter();
                offsets.any(|(first, last)| (first..=last).contains(&offset))
            })
            .max_by_key(|chain| chain.begins_ms),
    };
    found.ok_or_else(|| unreachable_target(chains, target))
}

fn newest_dump(chains: &[Chain], unix_ms: u64) -> Option<&Chain> {
    let newest = chains
        .iter()
        .filter(|chain| chain.begins_ms <= unix_ms)
        .max_by_key(|chain| (chain.covered_ms, chain.is_log()))?;
    // A log that ends between the dump and the time knows more than the dump, and not enough.
    (!newest.is_log()).then_some(newest)
}

fn unreachable_target(chains: &[Chain], target: Target) -> RpcError {
    let (what, ranges) = match target {
        Target::Offset(offset) => {
            let offsets = chains.iter().filter_map(Chain::offsets).collect();
            (
                format!("offset {offset}"),
                shown(offsets, |at| at.to_string()),
            )
        }
        Target::Time { unix_ms } => {
            let times = chains
                .iter()
                .map(|chain| (chain.begins_ms, chain.covered_ms))
                .collect();
            (moment::format(unix_ms), shown(times, moment::format))
        }
        Target::Latest => ("a data set".to_owned(), String::new()),
    };
    RpcError::not_found(format!("{what} can't be reached: {ranges}")).with_hint(
        "a time before the base needs an older one: give a backup set, or the folder of all \
         backup sets, with --from",
    )
}

/// `the files reach from A to B`, with gaps.
fn shown(mut ranges: Vec<(u64, u64)>, format: impl Fn(u64) -> String) -> String {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    if joined.is_empty() {
        return "the files tell no offsets".into();
    }
    let left_out = joined.len().saturating_sub(RANGES_MAX);
    let mut texts: Vec<String> = joined
        .iter()
        .skip(left_out)
        .map(|(from, to)| format!("from {} to {}", format(*from), format(*to)))
        .collect();
    if left_out > 0 {
        let first = joined.first().map_or(0, |(from, _)| *from);
        texts.insert(0, format!("from {} on, with gaps", format(first)));
    }
    format!("the files reach {}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use redrock_log::manifest::Names;

    use super::*;
    use crate::restore::chain::Form;

    fn chain(begins_ms: u64, covered_ms: u64, log: bool) -> Chain {
        Chain {
            origin: "x".into(),
            form: match log {
                true => Form::Log {
                    folder: "appendonlydir".into(),
                    names: Names::default(),
                },
                false => Form::Dump {
                    name: "dump.rdb".into(),
                },
            },
            base: None,
            segments: Vec::new(),
            begins_ms,
            covered_ms,
        }
    }

    fn at(chains: &[Chain], unix_ms: u64) -> std::result::Result<(u64, u64), String> {
        choose(chains, Target::Time { unix_ms })
            .map(|chain| (chain.begins_ms, chain.covered_ms))
            .map_err(|error| error.message)
    }

    #[test]
    fn the_newest_base_at_or_before_the_time_is_taken() {
        let chains = [
            chain(10, 30, true),
            chain(20, 40, true),
            chain(50, 60, true),
        ];
        assert_eq!(at(&chains, 10), Ok((10, 30)));
        assert_eq!(at(&chains, 19), Ok((10, 30)));
        assert_eq!(at(&chains, 20), Ok((20, 40)));
        assert_eq!(at(&chains, 60), Ok((50, 60)));
        for missing in [9, 41, 61] {
            let text = at(&chains, missing).unwrap_err();
            assert!(text.contains("00:00:00.010Z to 1970"), "{text}");
            assert!(text.contains("00:00:00.060Z"), "{text}");
        }
        let latest = choose(&chains, Target::Latest).unwrap();
        assert_eq!(latest.begins_ms, 50);
    }

    #[test]
    fn a_dump_serves_for_what_no_log_covers_and_never_behind_a_log_that_ends() {
        let chains = [chain(10, 10, false), chain(20, 20, false)];
        assert_eq!(at(&chains, 15), Ok((10, 10)));
        assert_eq!(at(&chains, 99), Ok((20, 20)));
        assert!(at(&chains, 9).is_err());
        let chains = [chain(10, 10, false), chain(20, 30, true)];
        assert_eq!(at(&chains, 15), Ok((10, 10)));
        assert_eq!(at(&chains, 25), Ok((20, 30)));
        assert!(at(&chains, 31).is_err());
    }

    #[test]
    fn many_ranges_are_shortened() {
        let chains: Vec<Chain> = (0..100).map(|n| chain(n * 10, n * 10 + 1, true)).collect();
        let text = at(&chains, 5).unwrap_err();
        assert!(text.contains("with gaps") && text.len() < 1000, "{text}");
    }
}
