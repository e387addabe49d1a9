//! What the calling thread has allocated: how much a command has made memory grow, whatever it did.

use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};

thread_local! {
    /// Counters of the allocator; `None` if it was built without statistics.
    static COUNTERS: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> =
        allocatedp::read().ok().zip(deallocatedp::read().ok());
}

/// Bytes that this thread has allocated less those that it has freed; wraps around. Only
/// differences say something.
pub fn net_bytes() -> u64 {
    COUNTERS.with(|counters| {
        let counters = counters.as_ref();
        counters.map_or(0, |(allocated, freed)| {
            allocated.get().wrapping_sub(freed.get())
        })
    })
}

/// By how much memory grew on this thread since [`net_bytes`] was `before`.
pub fn grown_since(before: u64) -> u64 {
    let change = net_bytes().wrapping_sub(before).cast_signed();
    u64::try_from(change).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_was_allocated_and_is_still_there() {
        let before = net_bytes();
        let kept = vec![1u8; 100_000];
        drop(vec![1u8; 200_000]);
        let grown = grown_since(before);
        // The test program may have another allocator, which does not count.
        assert!(grown == 0 || (100_000..150_000).contains(&grown), "{grown}");
        let before = net_bytes();
        drop(kept);
        assert_eq!(grown_since(before), 0);
    }
}
