//! What the server's state refuses, as bits that the hot path reads with one load.
//!
//! The bits are made anew whenever something that they depend on changes: the configuration, the
//! outcome of a save, the replicas' acknowledgements, the role, the link to the master. Whether syncs
//! of the log are held back (`no-appendfsync-on-rewrite`) follows from the same.

use crate::command::error::CommandError;
use crate::command::table::{Spec, flag};
use crate::log::state::LogKind;
use crate::server::Server;
use crate::state::LinkState;
use redrock_proto::v1::Activity;
use std::sync::atomic::Ordering;

/// Writes are refused: the last save failed (`stop-writes-on-bgsave-error`).
const SAVE_FAILED: u32 = 1 << 0;
/// Writes are refused: too few good replicas (`min-replicas-to-write`).
const FEW_REPLICAS: u32 = 1 << 1;
/// Writes are refused: a replica (`replica-read-only`).
const READ_ONLY: u32 = 1 << 2;
/// Most is refused: a replica without its master (`replica-serve-stale-data no`).
const STALE: u32 = 1 << 3;
/// Writes are refused: a master whose append-only file is wanted and not there.
pub(crate) const NO_LOG: u32 = 1 << 4;

const SAVE_FAILED_TEXT: &str = "MISCONF Redis is configured to save RDB snapshots, but it's \
currently unable to persist to disk. Commands that may modify the data set are disabled, because \
this instance is configured to report errors during writes if RDB snapshotting fails \
(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
const FEW_REPLICAS_TEXT: &str = "NOREPLICAS Not enough good replicas to write.";
const READ_ONLY_TEXT: &str = "READONLY You can't write against a read only replica.";
const STALE_TEXT: &str =
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";

const OWN_WRITES_TEXT: &str = "this replica takes writes of its own clients (replica-read-only no): \
they are applied, and neither logged nor passed on. A restart and a full sync undo them; set \
replica-read-only yes to refuse them";

/// What the bits follow from.
#[derive(Debug, Clone, Copy, Default)]
struct Inputs {
    save_points: bool,
    stop_on_save_error: bool,
    save_failed: bool,
    replica: bool,
    ignore_disk_errors: bool,
    replicas_min: usize,
    lag_s_max: u64,
    good_replicas: usize,
    read_only: bool,
    serve_stale: bool,
    linked: bool,
    log_wanted: bool,
    log_there: bool,
}

fn bits(inputs: Inputs) -> u32 {
    let mut bits = 0;
    let mut set = |on: bool, bit: u32| bits |= if on { bit } else { 0 };
    let Inputs { replica, .. } = inputs;
    set(
        inputs.stop_on_save_error
            && inputs.save_points
            && inputs.save_failed
            && !(replica && inputs.ignore_disk_errors),
        SAVE_FAILED,
    );
    set(
        !replica
            && inputs.replicas_min > 0
            && inputs.lag_s_max > 0
            && inputs.good_replicas < inputs.replicas_min,
        FEW_REPLICAS,
    );
    set(replica && inputs.read_only, READ_ONLY);
    set(replica && !inputs.serve_stale && !inputs.linked, STALE);
    // What a replica's own clients change is in no log anyway.
    set(!replica && inputs.log_wanted && !inputs.log_there, NO_LOG);
    bits
}

/// What the bits refuse; the order is that of Redis's `processCommand`.
fn refusal(bits: u32, spec: &Spec) -> Option<&'static str> {
    let write = spec.has(flag::WRITE);
    // As in Redis PING tells of a disk that can't be written too.
    if bits & SAVE_FAILED != 0 && (write || spec.name == "ping") {
        return Some(SAVE_FAILED_TEXT);
    }
    if bits & FEW_REPLICAS != 0 && write {
        return Some(FEW_REPLICAS_TEXT);
    }
    if bits & READ_ONLY != 0 && write {
        return Some(READ_ONLY_TEXT);
    }
    (bits & STALE != 0 && !spec.has(flag::STALE)).then_some(STALE_TEXT)
}

impl Server {
    /// What the services' state refuses. One load where nothing is refused.
    pub fn service_gate(&self, spec: &Spec) -> Result<(), CommandError> {
        match self.gates.load(Ordering::Relaxed) {
            0 => Ok(()),
            bits => {
                // PING does not tell of it, as it does of a log that can't be written: a base is being
                // made most of the time, and who looks after us need not put another in our place.
                if bits & NO_LOG != 0 && spec.has(flag::WRITE) {
                    return Err(self.no_log_error());
                }
                refusal(bits, spec).map_or(Ok(()), |text| Err(CommandError::fixed(text)))
            }
        }
    }

    /// Whether writes are refused for lack of the append-only file: nothing would bring them back.
    pub fn lacks_log(&self) -> bool {
        self.gates.load(Ordering::Relaxed) & NO_LOG != 0
    }

    /// What they are refused with.
    pub fn no_log_error(&self) -> CommandError {
        let services = self.services.get();
        let cause = services.map(|services| services.log_trouble.lock().clone());
        let cause = match cause.as_deref() {
            Some("") | None => "it is being begun anew",
            Some(cause) => cause,
        };
        CommandError::text(format!(
            "MISCONF The append only file is off since a full sync or an error, and is not on again: \
             {cause}. Commands that may modify the data set are disabled until it is. CONFIG SET \
             appendonly no goes on without it."
        ))
    }

    /// Whether the append-only file is there, as far as it is to be: one that is being begun is not
    /// before its base is. While data are loaded, and while CONFIG SET turns it off, nobody asks.
    fn has_its_log(&self) -> bool {
        let is_on = self.log.state().kind == LogKind::AppendOnly;
        self.loading.is_active()
            || self.services.get().is_none_or(|services| {
                let begins = services.enabling.load(Ordering::Acquire);
                services.log_turned_off.load(Ordering::Acquire) || (is_on && !begins)
            })
    }

    /// Whether writes of clients are refused because we are a replica. Looked at once more under
    /// the lock: the role may have changed since the gate.
    pub fn is_read_only(&self) -> bool {
        self.gates.load(Ordering::Relaxed) & READ_ONLY != 0
    }

    /// Whether we are a replica whose data are stale and not to be served.
    pub fn is_stale(&self) -> bool {
        self.gates.load(Ordering::Relaxed) & STALE != 0
    }

    /// Whether writes are refused because the last save failed.
    pub fn has_failed_save(&self) -> bool {
        self.gates.load(Ordering::Relaxed) & SAVE_FAILED != 0
    }

    /// What writes are refused with if there are too few good replicas.
    pub fn few_replicas_error(&self) -> Option<CommandError> {
        let few = self.gates.load(Ordering::Relaxed) & FEW_REPLICAS != 0;
        few.then_some(CommandError::fixed(FEW_REPLICAS_TEXT))
    }

    /// Makes the bits anew.
    pub fn refresh_gates(&self) {
        let config = self.config();
        let read_only = config.replication.read_only;
        let (replica, linked, is_to_be_warned) = {
            let mut replication = self.state.replication.lock();
            let link = replication.master.as_ref();
            let replica = link.is_some();
            let linked = link.is_some_and(|link| link.state == LinkState::Connected);
            let takes_own_writes = replica && !read_only;
            let before = std::mem::replace(&mut replication.takes_own_writes, takes_own_writes);
            (replica, linked, takes_own_writes && !before)
        };
        if is_to_be_warned {
            tracing::warn!("{OWN_WRITES_TEXT}");
        }
        let lag_s_max = config.replication.lag_s_max;
        let good_replicas = self.services.get().map_or(0, |services| {
            services.replicas.good(lag_s_max, crate::clock::unix_ms())
        });
        let inputs = Inputs {
            save_points: !config.snapshot.points.is_empty(),
            stop_on_save_error: config.snapshot.stop_writes_on_error,
            save_failed: !self.state.snapshot.lock().last_ok,
            replica,
            ignore_disk_errors: config.replication.ignore_disk_errors,
            replicas_min: config.replication.replicas_to_write_min,
            lag_s_max,
            good_replicas,
            read_only,
            serve_stale: config.replication.serve_stale_data,
            linked,
            log_wanted: config.append_only.enabled,
            log_there: self.has_its_log(),
        };
        self.gates.store(bits(inputs), Ordering::Relaxed);
        let hold = config.append_only.no_fsync_on_rewrite && self.is_persister_at_work();
        self.log.hold_sync(hold);
    }

    /// Whether the persister writes a file, as far as is known: a save, a rewrite, a base for
    /// replicas, a backup. One that does not answer is at nothing.
    fn is_persister_at_work(&self) -> bool {
        let told = self.services.get().is_some_and(|services| {
            // What was asked for counts before the next status tells of it.
            let asked = [&services.saving, &services.rewriting];
            if asked.iter().any(|flag| flag.load(Ordering::Acquire)) {
                return true;
            }
            let heard = services.heard.lock();
            let activity = heard.persist.as_ref().map(|status| status.activity());
            !matches!(
                activity,
                None | Some(Activity::Idle | Activity::Unspecified)
            )
        });
        told || self.state.snapshot.lock().running_since_s.is_some()
            || self.state.append_only.lock().rewrite_since_s.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::registry::find;

    fn refused(inputs: Inputs, command: &str) -> Option<&'static str> {
        let text = refusal(bits(inputs), find(command.as_bytes()).unwrap())?;
        text.split(' ').next()
    }

    #[test]
    fn a_failed_save_refuses_writes_and_ping_only_where_saving_is_configured() {
        let failed = Inputs {
            save_points: true,
            stop_on_save_error: true,
            save_failed: true,
            serve_stale: true,
            ..Inputs::default()
        };
        assert_eq!(refused(failed, "set"), Some("MISCONF"));
        assert_eq!(refused(failed, "ping"), Some("MISCONF"));
        assert_eq!(refused(failed, "get"), None);
        assert_eq!(
            refused(
                Inputs {
                    save_points: false,
                    ..failed
                },
                "set"
            ),
            None
        );
        let replica = Inputs {
            replica: true,
            ignore_disk_errors: true,
            ..failed
        };
        assert_eq!(refused(replica, "ping"), None);
    }

    #[test]
    fn a_master_without_the_log_that_it_is_to_have_takes_no_writes() {
        let without = Inputs {
            log_wanted: true,
            serve_stale: true,
            ..Inputs::default()
        };
        assert_eq!(bits(without), NO_LOG);
        for fine in [
            Inputs {
                replica: true,
                ..without
            },
            Inputs {
                log_there: true,
                ..without
            },
            Inputs {
                log_wanted: false,
                ..without
            },
        ] {
            assert_eq!(bits(fine), 0, "{fine:?}");
        }
    }

    #[test]
    fn too_few_good_replicas_refuse_writes_on_a_master_only() {
        let few = Inputs {
            replicas_min: 2,
            lag_s_max: 10,
            good_replicas: 1,
            serve_stale: true,
            ..Inputs::default()
        };
        assert_eq!(refused(few, "set"), Some("NOREPLICAS"));
        assert_eq!(refused(few, "get"), None);
        assert_eq!(
            refused(
                Inputs {
                    good_replicas: 2,
                    ..few
                },
                "set"
            ),
            None
        );
        assert_eq!(
            refused(
                Inputs {
                    lag_s_max: 0,
                    ..few
                },
                "set"
            ),
            None
        );
        assert_eq!(
            refused(
                Inputs {
                    replica: true,
                    ..few
                },
                "set"
            ),
            None
        );
    }

    #[test]
    fn replicas_refuse_writes_and_without_their_master_stale_reads() {
        let replica = Inputs {
            replica: true,
            read_only: true,
            ..Inputs::default()
        };
        assert_eq!(refused(replica, "set"), Some("READONLY"));
        assert_eq!(refused(replica, "get"), Some("MASTERDOWN"));
        assert_eq!(
            refused(
                Inputs {
                    serve_stale: true,
                    ..replica
                },
                "get"
            ),
            None
        );
        assert_eq!(
            refused(
                Inputs {
                    linked: true,
                    ..replica
                },
                "get"
            ),
            None
        );
        assert_eq!(refused(replica, "role"), None);
    }
}
