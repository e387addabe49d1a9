//! Where Redis 7.2, which we follow, answers otherwise than Redis 7.0.15, the oracle of these
//! tests. Everything else that differs is a failure.

use crate::pair::name;
use crate::wire::{Reply, Words};

/// One known difference.
struct Difference {
    /// Why the replies differ.
    reason: &'static str,
    /// Whether these replies to this command differ for that reason: name, words, ours, theirs.
    applies: fn(&str, &Words, &Reply, &Reply) -> bool,
}

/// All known differences.
const KNOWN: &[Difference] = &[
    Difference {
        reason: "7.2 has one more loglevel, `nothing`, which the error names",
        applies: |name, _, ours, theirs| {
            let start = b"ERR CONFIG SET failed (possibly related to argument 'loglevel')";
            name == "CONFIG" && [ours, theirs].iter().all(|e| e.bytes().starts_with(start))
        },
    },
    Difference {
        reason: "COMMAND GETKEYS and GETKEYSANDFLAGS take a command of one word since 7.2",
        applies: |name, words, _, theirs| {
            let start = b"ERR wrong number of arguments for 'command|getkeys";
            name == "COMMAND" && words.len() == 3 && theirs.bytes().starts_with(start)
        },
    },
    Difference {
        reason: "7.0 authenticates before it reads HELLO's next option, 7.2 when all are right",
        applies: |name, _, ours, theirs| {
            name == "HELLO"
                && ours
                    .bytes()
                    .starts_with(b"ERR Syntax error in HELLO option")
                && theirs.bytes().starts_with(b"WRONGPASS")
        },
    },
    Difference {
        reason: "7.2 limits LPOS's RANK to a negatable range, 7.0 goes on to the next option",
        applies: |_, words, ours, _| {
            words.iter().any(|word| word.eq_ignore_ascii_case(b"lpos"))
                && ours
                    .bytes()
                    .starts_with(b"ERR value is out of range, value must")
        },
    },
    Difference {
        reason: "7.0 compares with strcoll, which ends at a zero byte: order behind it is open",
        applies: |name, _, ours, theirs| {
            let has_zero = |reply: &Reply| reply.elements().iter().any(|e| e.bytes().contains(&0));
            name.starts_with("SORT") && (has_zero(ours) || has_zero(theirs))
        },
    },
    Difference {
        reason: "7.0 does not reset errno before strtod: numbers fail after an earlier overflow",
        applies: |name, _, ours, theirs| {
            name.starts_with("SORT")
                && !ours.is_error()
                && theirs
                    .bytes()
                    .starts_with(b"ERR One or more scores can't be converted")
        },
    },
    Difference {
        reason: "Redis's error texts are C strings: a word that they quote ends at a zero byte",
        applies: |name, words, ours, theirs| {
            let both = ours.is_error() && theirs.is_error();
            (both || name == "ACL") && words.iter().any(|word| word.contains(&0))
        },
    },
    Difference {
        reason: "DUMP of a set that is a hash table has the elements in any order",
        applies: |name, _, ours, theirs| {
            let [ours, theirs] = [ours.bytes(), theirs.bytes()];
            name == "DUMP"
                && ours.len() == theirs.len()
                && [ours, theirs].iter().all(|dump| dump.starts_with(&[2]))
        },
    },
    Difference {
        reason: "7.2 has small sets as listpacks, 7.0 as hash tables",
        applies: |name, _, ours, theirs| {
            name == "OBJECT" && ours.bytes() == b"listpack" && theirs.bytes() == b"hashtable"
        },
    },
    Difference {
        reason: "7.2 has small lists as listpacks, 7.0 always as quicklists",
        applies: |name, _, ours, theirs| {
            name == "OBJECT" && ours.bytes() == b"listpack" && theirs.bytes() == b"quicklist"
        },
    },
    Difference {
        reason: "ZRANK and ZREVRANK take WITHSCORE since 7.2: a fourth word is a syntax error",
        applies: |name, words, ours, theirs| {
            (name == "ZRANK" || name == "ZREVRANK")
                && words.len() == 4
                && ours.bytes() == b"ERR syntax error"
                && theirs.bytes().starts_with(b"ERR wrong number of arguments")
        },
    },
    Difference {
        reason: "7.2 names the command in the error about XREAD's and XREADGROUP's streams",
        applies: |_, _, ours, theirs| {
            ours.bytes().starts_with(b"ERR Unbalanced 'xread")
                && theirs.bytes().starts_with(b"ERR Unbalanced XREAD list")
        },
    },
    Difference {
        reason: "7.2 compares XSETID's id with the largest deleted one",
        applies: |name, _, ours, _| {
            name == "XSETID"
                && ours
                    .bytes()
                    .ends_with(b"smaller than current max_deleted_entry_id")
        },
    },
    Difference {
        reason: "7.0 has no errno for a millisecond whose sequence numbers are used up",
        applies: |name, _, ours, theirs| {
            name == "XADD"
                && ours.bytes().ends_with(b"the target stream top item")
                && theirs.bytes().starts_with(b"ERR Elements are too large")
        },
    },
];

/// Why these replies may differ, if they may.
pub(crate) fn known(words: &Words, ours: &Reply, theirs: &Reply) -> Option<&'static str> {
    let name = name(words);
    let found = KNOWN
        .iter()
        .find(|known| (known.applies)(&name, words, ours, theirs));
    found.map(|known| known.reason)
}

/// A known difference between runs of logged commands, ours and Redis's.
struct LogDifference {
    /// Why they differ.
    reason: &'static str,
    /// Whether these runs do so for that reason.
    applies: fn(&[&Words], &[&Words]) -> bool,
}

/// All known differences of logs.
const KNOWN_IN_LOGS: &[LogDifference] = &[
    LogDifference {
        reason: "a BITFIELD whose overflow fails makes the string long enough; Redis never tells",
        applies: |ours, theirs| all(ours, "BITFIELD") && theirs.is_empty(),
    },
    LogDifference {
        reason: "7.2 logs SET with PXAT as it came, 7.0 anew without its condition",
        applies: |ours, theirs| match (ours, theirs) {
            ([ours], [theirs]) => {
                let same = |(a, b): (&Vec<u8>, &Vec<u8>)| a.eq_ignore_ascii_case(b);
                name(ours) == "SET" && ours.iter().zip(theirs.iter()).all(same)
            }
            _ => false,
        },
    },
    LogDifference {
        reason: "7.2 logs BLMOVE's directions as they came, 7.0 in small letters",
        applies: |ours, theirs| match (ours, theirs) {
            ([ours], [theirs]) => {
                let same = |(a, b): (&Vec<u8>, &Vec<u8>)| a.eq_ignore_ascii_case(b);
                name(ours) == "LMOVE" && ours.iter().zip(theirs.iter()).all(same)
            }
            _ => false,
        },
    },
];

fn all(run: &[&Words], wanted: &str) -> bool {
    run.iter().all(|words| name(words) == wanted)
}

/// Why two runs of logged commands differ, if the reason is known.
pub(crate) fn known_in_logs(ours: &[&Words], theirs: &[&Words]) -> Option<&'static str> {
    KNOWN_IN_LOGS
        .iter()
        .find(|known| (known.applies)(ours, theirs))
        .map(|known| known.reason)
}
