//! The parser beside `redis-protocol`'s decoder, on valid requests, on damaged ones and on noise,
//! in pieces of any size. `RR_SCALE` multiplies the number of cases.
//!
//! Ours follows Redis, which looks at neither of the two bytes behind an argument and takes
//! fewer spellings of a number; so the two are compared where a request's bytes are the canonical
//! ones, and where they are not it is checked that only the bytes that Redis skips differ.

use super::{Parser, RequestLimits, Step, split_quoted};
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

const LIMITS: RequestLimits = RequestLimits {
    bulk_bytes_max: 512 << 20,
    request_bytes_max: usize::MAX,
    authenticated: true,
};

type Command = Vec<Vec<u8>>;

fn config(cases: u32) -> ProptestConfig {
    let scale: u32 = std::env::var("RR_SCALE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    ProptestConfig::with_cases(cases.saturating_mul(scale.max(1)))
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// One request at the start of `buffer`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Command(Command, usize),
    Empty(usize),
    Incomplete,
    Error(String),
}

fn outcome(parser: &Parser, step: Step, buffer: &[u8]) -> Outcome {
    match step {
        Step::Command { consumed } => {
            let mut argv: Vec<&[u8]> = Vec::new();
            parser.arguments(buffer, &mut argv);
            Outcome::Command(argv.iter().map(|a| a.to_vec()).collect(), consumed)
        }
        Step::Empty { consumed } => Outcome::Empty(consumed),
        Step::Incomplete { needed } => {
            assert!(needed > buffer.len(), "it needs what it has");
            Outcome::Incomplete
        }
        Step::TooLarge { .. } => panic!("there is no limit"),
        Step::Error(text) => Outcome::Error(String::from_utf8_lossy(&text).into_owned()),
    }
}

fn whole(buffer: &[u8]) -> Outcome {
    let mut parser = Parser::default();
    let step = parser.next(buffer, LIMITS);
    outcome(&parser, step, buffer)
}

/// The same in pieces: what is needed is never more than what ends the request.
fn in_pieces(buffer: &[u8], pieces: &[usize]) -> Outcome {
    let mut parser = Parser::default();
    let mut pieces = pieces.iter().copied().chain(std::iter::repeat(7));
    let (mut len, mut needed) = (0, 1);
    loop {
        let step = parser.next(&buffer[..len], LIMITS);
        if let Step::Incomplete { needed: more } = &step
            && len < buffer.len()
        {
            needed = *more;
            len = (len + pieces.next().unwrap_or(1)).min(buffer.len());
            continue;
        }
        let outcome = outcome(&parser, step, &buffer[..len]);
        if let Outcome::Command(_, consumed) | Outcome::Empty(consumed) = &outcome {
            assert!(
                needed <= (*consumed).max(1),
                "more was asked for than was there"
            );
        }
        return outcome;
    }
}

/// What the other decoder finds, if it is a command.
fn theirs(buffer: &[u8]) -> Option<(Command, usize)> {
    let (frame, consumed) = decode(buffer).ok()??;
    let OwnedFrame::Array(elements) = frame else {
        return None;
    };
    let arguments = elements.into_iter().map(|element| match element {
        OwnedFrame::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    Some((arguments.collect::<Option<Command>>()?, consumed))
}

/// Compares the two on all requests of `buffer`; the number of commands that both found.
fn compare(buffer: &[u8], pieces: &[usize]) -> Result<usize, TestCaseError> {
    let (mut rest, mut both) = (buffer, 0);
    loop {
        let ours = whole(rest);
        prop_assert_eq!(&in_pieces(rest, pieces), &ours);
        let theirs = theirs(rest);
        if let Some((command, consumed)) = &theirs
            && !command.is_empty()
            && encode(command) == rest[..*consumed]
        {
            prop_assert_eq!(&Outcome::Command(command.clone(), *consumed), &ours);
        }
        let consumed = match ours {
            Outcome::Command(command, consumed) => {
                let bytes = &rest[..consumed];
                if bytes[0] == b'*' {
                    let canonical = encode(&command);
                    prop_assert_eq!(canonical.len(), bytes.len());
                    let differing = canonical.iter().zip(bytes).filter(|(a, b)| a != b);
                    for (expected, _) in differing {
                        prop_assert!(matches!(expected, b'\r' | b'\n'));
                    }
                    if canonical == bytes {
                        both += 1;
                        prop_assert_eq!(theirs, Some((command, consumed)));
                    }
                }
                consumed
            }
            Outcome::Empty(consumed) => consumed,
            Outcome::Incomplete | Outcome::Error(_) => return Ok(both),
        };
        prop_assert!(consumed > 0);
        rest = &rest[consumed..];
    }
}

fn command() -> impl Strategy<Value = Command> {
    let argument = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        2 => "[A-Za-z]{1,12}".prop_map(String::into_bytes),
        1 => Just(b"\r\n$1\r\n*1\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..3000),
    ];
    prop::collection::vec(argument, 1..8)
}

/// A change of one place.
#[derive(Debug, Clone)]
enum Damage {
    Set(u8),
    Insert(u8),
    Remove,
    Cut,
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, Damage)> {
    // Mostly bytes that mean something in the protocol.
    let byte = prop_oneof![
        3 => prop::sample::select(&b"\r\n*$:+-0123456789 \"'"[..]),
        1 => any::<u8>(),
    ];
    let kind = (0..10, byte).prop_map(|(kind, byte)| match kind {
        0..5 => Damage::Set(byte),
        5..7 => Damage::Insert(byte),
        7..9 => Damage::Remove,
        _ => Damage::Cut,
    });
    (any::<prop::sample::Index>(), kind)
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn whole_commands_are_read_as_the_other_decoder_does(
        commands in prop::collection::vec(command(), 1..5),
        pieces in prop::collection::vec(1_usize..40, 0..20),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        prop_assert_eq!(compare(&bytes, &pieces)?, commands.len());
    }

    #[test]
    fn damaged_commands_are_read_as_the_other_decoder_does_or_only_more_leniently(
        commands in prop::collection::vec(command(), 1..4),
        damages in prop::collection::vec(damage(), 1..4),
        pieces in prop::collection::vec(1_usize..40, 0..20),
    ) {
        let mut bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        for (at, damage) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match damage {
                Damage::Set(byte) => bytes[at] = byte,
                Damage::Insert(byte) => bytes.insert(at, byte),
                Damage::Remove => drop(bytes.remove(at)),
                Damage::Cut => bytes.truncate(at),
            }
        }
        compare(&bytes, &pieces)?;
    }

    #[test]
    fn noise_is_read_the_same_in_pieces(
        bytes in prop::collection::vec(prop_oneof![
            3 => prop::sample::select(&b"\r\n*$:+-0123456789 \"'\\xGETSET"[..]),
            1 => any::<u8>(),
        ], 0..200),
        pieces in prop::collection::vec(1_usize..40, 0..20),
    ) {
        compare(&bytes, &pieces)?;
    }

    #[test]
    fn quoted_words_come_back(words in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..12), 0..6,
    )) {
        let mut line = Vec::new();
        for word in &words {
            line.extend_from_slice(b" \"");
            for byte in word {
                line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
            line.push(b'"');
        }
        prop_assert_eq!(split_quoted(&line), Some(words));
    }
}
