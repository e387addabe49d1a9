//! What gives way to the threads that serve clients.
//!
//! RocksDB's flushes and compactions run at a lower priority: they use what processor time the others
//! leave, and what they don't get done slows down who loads data, not who reads hot keys. Threads that
//! take the keyspace's lock or its queues give way a little, and don't interrupt others as soon as they
//! have something to do: a worker is kept from its processor by them far longer than from the lock.
//!
//! A thread without privileges can't raise its priority again, so each kind has one for good.

use std::cell::Cell;
use std::time::Duration;

/// For what moves values to the tier: governor and applier.
pub const SPILL: i32 = 5;
/// For the walk over what a snapshot finds in memory.
pub const WALK: i32 = 5;
/// For flushes: until one is done its memory is not free.
pub const FLUSH: i32 = 5;
/// For compactions. At 19 a load beside builds that took both processors came to 10,000 keys a second where
/// it comes to 60,000 on a quiet machine, and hot keys' p99 during a load was no better.
pub const COMPACTION: i32 = 10;

thread_local! {
    static NICE: Cell<i32> = const { Cell::new(0) };
}

/// Gives the calling thread this niceness, once.
pub fn lower(nice: i32) {
    if NICE.replace(nice) != nice {
        // As it was: a system that has no priorities for threads.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
    }
}

/// How long a thread that serves clients runs at a time while others want its processor.
const SERVING_SLICE: Duration = Duration::from_micros(200);

/// `struct sched_attr`
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The calling thread runs for a short time at a time, and so it runs soon after it wakes up: what it
/// gets in all is the same. Linux since 6.12 can do that.
pub fn prompt() {
    let thread = rustix::thread::gettid();
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: rustix::process::getpriority_process(Some(thread)).unwrap_or(0),
        priority: 0,
        runtime: SERVING_SLICE.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the attributes live as long as the call and say their size; 0 is the calling thread. If
    // the system refuses, all is as it was.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// The calling thread does not interrupt others when it wakes up.
pub fn patient() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live as long as the call; 0 is the calling thread. If the system refuses,
    // all is as it was.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_lowered_thread_stays_low_and_others_are_left_alone() {
        let nice = || {
            let thread = rustix::thread::gettid();
            rustix::process::getpriority_process(Some(thread)).expect("priority")
        };
        let before = nice();
        let lowered = std::thread::spawn(move || {
            super::lower(before + 3);
            super::lower(before + 3);
            nice()
        });
        assert_eq!(lowered.join().expect("thread"), (before + 3).min(19));
        assert_eq!(nice(), before);
    }
}
