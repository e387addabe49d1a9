//! Large requests on their way: as many at once as the clients' budget has room for, in the order in which
//! they began.
//!
//! Without that, clients that send a few large values at once together pass the budget, and the largest of
//! them is closed although all would fit one after the other.

use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for, bytes.
const UNIT_BYTES: u64 = 4 << 10;
/// Who waits goes on without a place once no other large request has ended for so long, though they needn't
/// wait: their senders stand still, and then it is the budget that decides who is closed.
const STALL: Duration = Duration::from_secs(2);

/// Of a server. See the module.
#[derive(Debug, Default)]
pub struct LargeRequests {
    /// What may be on its way; `None`: as much as they like. Another budget has permits of its own.
    room: Mutex<Option<Room>>,
    /// How many have ended.
    ended: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
struct Room {
    units: u32,
    permits: Arc<Semaphore>,
}

/// A large request that is on its way, until it is dropped.
#[derive(Debug)]
pub struct Place {
    permits: Option<OwnedSemaphorePermit>,
    ended: Arc<AtomicU64>,
}

impl LargeRequests {
    /// Takes over what clients may use, bytes; 0: as much as they like.
    pub fn set_budget(&self, bytes: u64) {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX >> 4);
        let mut room = self.room.lock();
        if room.as_ref().map_or(0, |room| room.units) != units {
            *room = (units > 0).then(|| Room {
                units,
                permits: Arc::new(Semaphore::new(units as usize)),
            });
        }
    }

    /// Waits for the turn of a request of so many bytes. `others_wait`: for memory, for example.
    pub async fn place(&self, bytes: usize, others_wait: impl Fn() -> bool) -> Place {
        self.place_within(bytes, STALL, others_wait).await
    }

    async fn place_within(
        &self,
        bytes: usize,
        stall: Duration,
        others_wait: impl Fn() -> bool,
    ) -> Place {
        let room = self.room.lock().clone();
        let permits = match room {
            Some(room) => self.permits(room, bytes as u64, (stall, others_wait)).await,
            None => None,
        };
        Place {
            permits,
            ended: self.ended.clone(),
        }
    }

    async fn permits(
        &self,
        room: Room,
        bytes: u64,
        (stall, others_wait): (Duration, impl Fn() -> bool),
    ) -> Option<OwnedSemaphorePermit> {
        let units =
            u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_or(room.units, |u| u.min(room.units));
        let mut permits = pin!(room.permits.acquire_many_owned(units));
        let mut ended = self.ended.load(Ordering::Relaxed);
        loop {
            if let Ok(taken) = tokio::time::timeout(stall, &mut permits).await {
                // Nobody closes it.
                return taken.ok();
            }
            let before = std::mem::replace(&mut ended, self.ended.load(Ordering::Relaxed));
            if before == ended && !others_wait() {
                return None;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        drop(self.permits.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    const MB: usize = 1 << 20;

    /// Whether it has its place after one look.
    async fn is_ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn as_many_are_read_at_once_as_fit_and_the_first_one_first() {
        let requests = LargeRequests::default();
        requests.set_budget(16 * MB as u64);
        let first = requests.place(10 * MB, || false).await;
        let mut second = Box::pin(requests.place(8 * MB, || false));
        assert!(!is_ready(&mut second).await);
        // It would fit, but came later.
        let mut third = Box::pin(requests.place(2 * MB, || false));
        assert!(!is_ready(&mut third).await);
        drop(first);
        let second = second.await;
        let third = third.await;
        assert!(second.permits.is_some() && third.permits.is_some());
        // Not even all of the budget would hold it: it is alone.
        drop((second, third));
        assert!(requests.place(100 * MB, || false).await.permits.is_some());
    }

    #[tokio::test]
    async fn who_waits_for_one_that_stands_still_goes_on() {
        let requests = LargeRequests::default();
        requests.set_budget(16 * MB as u64);
        let _stands_still = requests.place(16 * MB, || false).await;
        let soon = Duration::from_millis(1);
        assert!(
            requests
                .place_within(MB, soon, || false)
                .await
                .permits
                .is_none()
        );
        requests.set_budget(0);
        assert!(requests.place(MB, || false).await.permits.is_none());
        // Another budget does not wait for those of the former one.
        requests.set_budget(8 * MB as u64);
        assert!(requests.place(MB, || false).await.permits.is_some());
    }
}
