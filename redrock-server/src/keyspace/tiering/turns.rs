//! Who waits for room in memory, in the order in which they came.
//!
//! All are woken when there is room, and who finds none left after all waits again, in its old place: else
//! those in front, who have been served and wait with their next command already, would be in front of it
//! each time.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// A place among those who wait. Lower ones came earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: BTreeMap<Turn, oneshot::Sender<()>>,
}

/// See the module. At most one a client.
#[derive(Debug, Default)]
pub struct Turns(Mutex<State>);

/// Somebody who waits; no more when it is dropped.
#[derive(Debug)]
pub struct Waiting<'t> {
    turns: &'t Turns,
    turn: Turn,
    woken: oneshot::Receiver<()>,
}

impl Turns {
    /// A place behind all others.
    pub fn take(&self) -> Turn {
        let mut state = self.0.lock();
        state.next += 1;
        Turn(state.next)
    }

    /// Waits from now on.
    pub fn wait(&self, turn: Turn) -> Waiting<'_> {
        let (wake, woken) = oneshot::channel();
        self.0.lock().waiting.insert(turn, wake);
        Waiting {
            turns: self,
            turn,
            woken,
        }
    }

    /// Wakes all of them, the first one first.
    pub fn wake_all(&self) {
        let waiting = std::mem::take(&mut self.0.lock().waiting);
        for wake in waiting.into_values() {
            // Who is gone needs no room.
            let _ = wake.send(());
        }
    }
}

impl Waiting<'_> {
    /// Until it is woken.
    pub async fn woken(&mut self) {
        // The sender is dropped only after it has sent.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.0.lock().waiting.remove(&self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    /// Notes who was woken.
    struct Note(Turn, Arc<Mutex<Vec<Turn>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn who_waits_again_keeps_its_place_and_who_is_gone_has_none() {
        let (turns, woken) = (Turns::default(), Arc::new(Mutex::new(Vec::new())));
        let [first, second, third] = [(); 3].map(|()| turns.take());
        let mut waiting: Vec<_> = [third, first, second].map(|turn| turns.wait(turn)).into();
        for one in &mut waiting {
            let waker = Waker::from(Arc::new(Note(one.turn, woken.clone())));
            let polled = pin!(one.woken()).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(waiting.pop());
        woken.lock().clear();
        turns.wake_all();
        assert_eq!(*woken.lock(), [first, third]);
        assert!(turns.0.lock().waiting.is_empty());
    }
}
