//! What a master's lines mean: replies of the handshake, the head of a snapshot.

use redrock_proto::model::HexId;

use super::eof_marker::MARKER_BYTES;
use crate::snapshot_id::{Held, SnapshotId};

/// Why a master did not take us. Texts go to the log and to INFO.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It can't at the moment (`-NOMASTERLINK`, `-LOADING`).
    #[error("the master can't serve us now: {0}")]
    Later(String),
    /// It asks for a password, or refuses ours.
    #[error("Unable to AUTH to MASTER: {0}")]
    Credentials(String),
    #[error("the master answered {step} with: {line}")]
    Other { step: &'static str, line: String },
}

/// An error line (`-...`) at a step of the handshake.
pub(crate) fn refusal(step: &'static str, line: &str) -> Refusal {
    let text = line.trim_start_matches('-').to_owned();
    match text.split(' ').next().unwrap_or_default() {
        "NOMASTERLINK" | "LOADING" | "MASTERDOWN" => Refusal::Later(text),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Refusal::Credentials(text),
        _ if step == "AUTH" => Refusal::Credentials(text),
        _ => Refusal::Other { step, line: text },
    }
}

/// Judges the answer to PING. As Redis, errors that only say that we must
/// authenticate are fine here.
pub(crate) fn check_ping(line: &str) -> Result<(), Refusal> {
    let fine = line.starts_with('+')
        || line.starts_with("-NOAUTH")
        || line.starts_with("-NOPERM")
        || line.starts_with("-ERR operation not permitted");
    if fine {
        return Ok(());
    }
    Err(refusal("PING", line))
}

/// Judges the answer to AUTH.
pub(crate) fn check_auth(line: &str) -> Result<(), Refusal> {
    if line.starts_with('+') {
        return Ok(());
    }
    Err(refusal("AUTH", line))
}

/// The answer to PSYNC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PsyncReply {
    /// A snapshot follows, then the stream from `offset`.
    Full { replid: HexId, offset: u64 },
    /// The stream follows from where we are, under this id if one is told.
    Continue { replid: Option<HexId> },
}

/// Reads the answer to PSYNC; `Ok(None)` for the newlines that a master sends
/// while it prepares.
pub(crate) fn parse_psync(line: &str) -> Result<Option<PsyncReply>, Refusal> {
    let line = line.trim_end();
    if line.is_empty() {
        return Ok(None);
    }
    let malformed = || Refusal::Other {
        step: "PSYNC",
        line: line.to_owned(),
    };
    let mut words = line.split(' ');
    match words.next().unwrap_or_default() {
        "+FULLRESYNC" => {
            let replid = words.next().and_then(HexId::parse).ok_or_else(malformed)?;
            let offset = words.next().and_then(|word| word.parse().ok());
            let offset = offset.ok_or_else(malformed)?;
            Ok(Some(PsyncReply::Full { replid, offset }))
        }
        "+CONTINUE" => {
            let replid = match words.next() {
                Some(id) => Some(HexId::parse(id).ok_or_else(malformed)?),
                None => None,
            };
            Ok(Some(PsyncReply::Continue { replid }))
        }
        _ if line.starts_with('-') => Err(refusal("PSYNC", line)),
        _ => Err(malformed()),
    }
}

/// How the end of a snapshot is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotLength {
    Bytes(u64),
    Marker([u8; MARKER_BYTES]),
}

/// The line before a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotHead {
    pub(crate) length: SnapshotLength,
    /// From one of ours: which snapshot it is, and how much of it the master leaves out.
    pub(crate) piece: Option<Held>,
}

/// Reads the line before a snapshot; `Ok(None)` for a newline that only shows
/// that the master lives.
pub(crate) fn parse_snapshot_head(line: &str) -> Result<Option<SnapshotHead>, Refusal> {
    let line = line.trim_end();
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('-') {
        return Err(refusal("SYNC", line));
    }
    let mut words = line.split(' ');
    let length = words.next().and_then(parse_length);
    let piece = words.next().map(|id| parse_piece(id, words.next()));
    match (length, piece, words.next()) {
        (Some(length), None, None) => Ok(Some(SnapshotHead {
            length,
            piece: None,
        })),
        (Some(length), Some(Some(piece)), None) => Ok(Some(SnapshotHead {
            length,
            piece: Some(piece),
        })),
        _ => Err(Refusal::Other {
            step: "SYNC",
            line: line.to_owned(),
        }),
    }
}

fn parse_length(word: &str) -> Option<SnapshotLength> {
    let text = word.strip_prefix('$')?;
    match text.strip_prefix("EOF:") {
        Some(marker) => {
            let marker = marker.as_bytes().try_into().ok();
            marker.map(SnapshotLength::Marker)
        }
        None => text.parse().ok().map(SnapshotLength::Bytes),
    }
}

fn parse_piece(id: &str, bytes: Option<&str>) -> Option<Held> {
    let held = Held {
        id: SnapshotId::parse(id)?,
        bytes: bytes?.parse().ok()?,
    };
    (held.bytes <= held.id.bytes).then_some(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_psync_are_told_apart() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let replid = HexId::parse(id).unwrap();
        let parse = |line: &str| parse_psync(line);
        assert_eq!(
            parse(&format!("+FULLRESYNC {id} 1234\r")),
            Ok(Some(PsyncReply::Full {
                replid,
                offset: 1234
            }))
        );
        assert_eq!(
            parse(&format!("+CONTINUE {id}")),
            Ok(Some(PsyncReply::Continue {
                replid: Some(replid)
            }))
        );
        assert_eq!(
            parse("+CONTINUE"),
            Ok(Some(PsyncReply::Continue { replid: None }))
        );
        assert_eq!(parse(""), Ok(None));
        for (line, later) in [
            ("-NOMASTERLINK Can't SYNC while not connected", true),
            ("-LOADING Redis is loading", true),
            ("-ERR unknown command", false),
            ("+FULLRESYNC short 1", false),
            ("+CONTINUE short", false),
            ("+OK", false),
        ] {
            let refusal = parse(line).unwrap_err();
            assert_eq!(matches!(refusal, Refusal::Later(_)), later, "{line}");
        }
        assert!(matches!(
            parse("-NOAUTH Authentication required."),
            Err(Refusal::Credentials(_))
        ));
    }

    #[test]
    fn snapshots_come_with_a_length_or_a_marker() {
        let whole = |length| {
            Ok(Some(SnapshotHead {
                length,
                piece: None,
            }))
        };
        assert_eq!(parse_snapshot_head("$88"), whole(SnapshotLength::Bytes(88)));
        assert_eq!(
            parse_snapshot_head(&format!("$EOF:{}", "a".repeat(40))),
            whole(SnapshotLength::Marker([b'a'; 40]))
        );
        assert_eq!(parse_snapshot_head("\r"), Ok(None));
        for bad in ["$-1", "$EOF:short", "x", "-ERR no"] {
            assert!(parse_snapshot_head(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_of_ours_says_which_snapshot_it_is_and_what_it_leaves_out() {
        let head = parse_snapshot_head("$88 7-88-00000000000000ff 44\r").unwrap();
        let id = SnapshotId {
            offset: 7,
            bytes: 88,
            crc64: 255,
        };
        assert_eq!(
            head,
            Some(SnapshotHead {
                length: SnapshotLength::Bytes(88),
                piece: Some(Held { id, bytes: 44 })
            })
        );
        for bad in [
            "$88 7-88-00000000000000ff",
            "$88 7-88-00000000000000ff 89",
            "$88 7-88-00000000000000ff -1",
            "$88 7-88-00000000000000ff 1 2",
            "$88 nonsense 1",
            "$88  1",
        ] {
            assert!(parse_snapshot_head(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ping_that_only_lacks_a_password_goes_on_and_a_wrong_one_stops() {
        assert!(check_ping("+PONG").is_ok());
        assert!(check_ping("-NOAUTH Authentication required.").is_ok());
        assert!(check_ping("-LOADING").is_err());
        assert!(matches!(
            check_auth("-ERR invalid password"),
            Err(Refusal::Credentials(_))
        ));
    }
}
