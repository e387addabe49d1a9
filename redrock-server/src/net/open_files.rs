//! The limit of open files, and how many clients it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for all that is not a client: listeners, log and tier files, companions.
const RESERVED: u64 = 512;

/// Descriptors reserved where the limit allows no more (Redis's own figure).
const RESERVED_MIN: u64 = 32;

/// Makes room for `clients` by raising the process's limit as far as the system allows. The
/// error is the number of clients that are possible.
pub fn make_room(clients: usize) -> Result<(), usize> {
    let wanted = (clients as u64).saturating_add(RESERVED);
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else {
        return Ok(());
    };
    if current >= wanted {
        return Ok(());
    }
    // A privileged process may raise the hard limit too.
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let tries = [
        Rlimit {
            current: Some(wanted),
            maximum: Some(hard.max(wanted)),
        },
        Rlimit {
            current: Some(wanted.min(hard)),
            maximum: limit.maximum,
        },
    ];
    let reached = tries
        .into_iter()
        .find(|new| setrlimit(Resource::Nofile, *new).is_ok());
    let reached = reached.and_then(|new| new.current).unwrap_or(current);
    if reached >= wanted {
        tracing::info!(
            from = current,
            to = reached,
            "Increased maximum number of open files"
        );
        return Ok(());
    }
    match possible(reached) {
        possible if possible >= clients => Ok(()),
        possible => Err(possible),
    }
}

/// How many clients fit under a limit of open files.
fn possible(limit: u64) -> usize {
    usize::try_from(limit.saturating_sub(RESERVED_MIN)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_not_for_clients() {
        assert_eq!(possible(1024), 992);
        assert_eq!(possible(10), 0);
        assert_eq!(make_room(1), Ok(()));
    }
}
