//! Whether a thread has one client only of late: while it waits for a disk nobody else waits with it.

use std::cell::Cell;

/// Requests in succession of one client after which the others are taken for idle. One of them that
/// comes then waits for the read under way, and is company from then on.
const ALONE_AFTER: u32 = 64;

thread_local! {
    /// The client that sent something last, and how often in succession.
    static LAST: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// The calling thread has received something of this client.
pub fn note_input(client: u64) {
    let (last, times) = LAST.get();
    let times = if last == client {
        times.saturating_add(1)
    } else {
        0
    };
    LAST.set((client, times));
}

/// Whether the calling thread has served one client only for a while.
pub fn is_alone() -> bool {
    LAST.get().1 >= ALONE_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_many_times_in_succession_is_alone_until_another_comes() {
        assert!(!is_alone());
        for _ in 0..ALONE_AFTER {
            note_input(1);
            assert!(!is_alone());
        }
        note_input(1);
        assert!(is_alone());
        note_input(2);
        assert!(!is_alone());
        for client in [1, 2].repeat(ALONE_AFTER as usize) {
            note_input(client);
        }
        assert!(!is_alone());
    }
}
