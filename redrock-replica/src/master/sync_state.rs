//! How a peer that says PSYNC or SYNC is answered. Pure decisions.

use redrock_daemon::handoff::PeerRequest;
use redrock_log::history::{
    Decision, FullResyncReason, ReplicationState, RetainedRange, can_continue,
};
use redrock_proto::model::Role;

/// RDB version that a replica reads that does not tell its own, as none of Redis does: all that we
/// write. `rdb-version` is where the operator says what the others read.
const RDB_VERSION_UNKNOWN: u32 = 12;

/// What an answer depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) role: Role,
    /// As a replica: the link to our own master is up.
    pub(crate) link_is_up: bool,
    pub(crate) state: &'a ReplicationState,
    pub(crate) retained: Option<RetainedRange>,
}

/// The answer to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `line`, then the stream from the offset.
    Continue { from_offset: u64, line: String },
    /// A base, then the stream behind it. A peer that said SYNC gets no
    /// `+FULLRESYNC`.
    Full {
        announced: bool,
        reason: FullResyncReason,
    },
    /// A line, then the end.
    Refuse(&'static str),
}

/// Decides on a request; `capabilities` are those of REPLCONF.
pub(crate) fn decide(view: View<'_>, request: &PeerRequest, capabilities: &[String]) -> Answer {
    if view.role == Role::Replica && !view.link_is_up {
        return Answer::Refuse("-NOMASTERLINK Can't SYNC while not connected with my master\r\n");
    }
    let PeerRequest::Psync { replid, offset, .. } = request else {
        return Answer::Full {
            announced: false,
            reason: FullResyncReason::Asked,
        };
    };
    match can_continue(view.state, view.retained, replid.as_bytes(), *offset) {
        Decision::Continue { from_offset, .. } => {
            let tells_id = capabilities.iter().any(|capability| capability == "psync2");
            let line = match tells_id {
                true => format!("+CONTINUE {}\r\n", id_text(view.state)),
                false => "+CONTINUE\r\n".to_owned(),
            };
            Answer::Continue { from_offset, line }
        }
        Decision::FullResync(reason) => Answer::Full {
            announced: true,
            reason,
        },
    }
}

/// Whether a base made at `(replid, offset)` can be continued with our stream.
pub(crate) fn base_fits(
    state: &ReplicationState,
    retained: Option<RetainedRange>,
    replid: &str,
    offset: u64,
) -> bool {
    let Some(next) = i64::try_from(offset).ok().and_then(|o| o.checked_add(1)) else {
        return false;
    };
    matches!(
        can_continue(state, retained, replid.as_bytes(), next),
        Decision::Continue { .. }
    )
}

/// Highest RDB version that a peer reads, by the version that it told.
pub(crate) fn rdb_version_max(version: &str) -> u32 {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    match (major, minor) {
        (Some(7), Some(2 | 3)) => 11,
        (Some(7), Some(0 | 1)) => 10,
        (Some(7), Some(_)) => 12,
        (Some(major), Some(_)) if major >= 8 => 12,
        (Some(major), Some(_)) if major < 7 => 9,
        _ => RDB_VERSION_UNKNOWN,
    }
}

/// How long a replica may lag behind: what it lacked when it came, and twice
/// the backlog's size. The first part is kept for other reasons anyway.
pub(crate) fn lag_bytes_max(lag_at_start: u64, backlog_bytes: u64) -> u64 {
    backlog_bytes.saturating_mul(2).saturating_add(lag_at_start)
}

fn id_text(state: &ReplicationState) -> String {
    String::from_utf8_lossy(&state.replid).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psync(replid: &str, offset: i64) -> PeerRequest {
        PeerRequest::Psync {
            replid: replid.to_owned(),
            offset,
            failover: false,
        }
    }

    fn answer(
        role: Role,
        link_is_up: bool,
        request: &PeerRequest,
        capabilities: &[&str],
    ) -> Answer {
        let mut state = ReplicationState::new([b'a'; 40], 0, 0);
        state.change_id([b'b'; 40], 300);
        let view = View {
            role,
            link_is_up,
            state: &state,
            retained: Some(RetainedRange {
                start_offset: 100,
                end_offset: 500,
            }),
        };
        let capabilities: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        decide(view, request, &capabilities)
    }

    #[test]
    fn a_known_history_is_continued_and_the_id_told_to_those_who_understand() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let master = |request: &PeerRequest, capabilities: &[&str]| {
            answer(Role::Master, false, request, capabilities)
        };
        assert_eq!(
            master(&psync(&a, 301), &["eof", "psync2"]),
            Answer::Continue {
                from_offset: 300,
                line: format!("+CONTINUE {b}\r\n")
            }
        );
        assert_eq!(
            master(&psync(&b, 501), &[]),
            Answer::Continue {
                from_offset: 500,
                line: "+CONTINUE\r\n".to_owned()
            }
        );
        assert!(matches!(
            master(&psync(&a, 302), &["psync2"]),
            Answer::Full {
                announced: true,
                reason: FullResyncReason::Diverged { .. }
            }
        ));
        assert!(matches!(
            master(&PeerRequest::Sync, &[]),
            Answer::Full {
                announced: false,
                ..
            }
        ));
    }

    #[test]
    fn a_replica_serves_others_only_while_its_own_link_is_up() {
        let ask = psync("?", -1);
        let up = answer(Role::Replica, true, &ask, &[]);
        assert!(matches!(up, Answer::Full { .. }));
        let down = answer(Role::Replica, false, &ask, &[]);
        assert!(matches!(down, Answer::Refuse(line) if line.starts_with("-NOMASTERLINK")));
    }

    #[test]
    fn a_base_fits_only_on_our_stream() {
        let mut state = ReplicationState::new([b'a'; 40], 0, 0);
        state.change_id([b'b'; 40], 300);
        let range = Some(RetainedRange {
            start_offset: 100,
            end_offset: 500,
        });
        let fits = |letter: &str, offset| base_fits(&state, range, &letter.repeat(40), offset);
        assert!(fits("b", 100) && fits("b", 500) && fits("a", 300));
        assert!(!fits("b", 99) && !fits("b", 501) && !fits("a", 301) && !fits("z", 200));
        assert!(!base_fits(&state, None, &"b".repeat(40), 200));
        assert!(!fits("b", u64::MAX));
    }

    #[test]
    fn versions_tell_what_can_be_read() {
        for (version, rdb) in [
            ("", 12),
            ("7.0.15", 10),
            ("7.2.4", 11),
            ("7.4.0", 12),
            ("8.0.1", 12),
            ("6.2.14", 9),
            ("255.255.255", 12),
        ] {
            assert_eq!(rdb_version_max(version), rdb, "{version}");
        }
        assert_eq!(lag_bytes_max(5, 10), 25);
    }
}
