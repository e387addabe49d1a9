//! Reads for several clients that one thread makes together.

use super::bench::Bench;
use crate::command::dispatch::Outcome;
use crate::keyspace::tiering::direct::together::Together;
use crate::keyspace::tiering::one_read::PoolRead;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Keys in the tier, and a thread whose wake-ups had many reads of late.
fn busy(count: usize) -> (Bench, Rc<Together>) {
    let mut bench = Bench::connected();
    for n in 0..count {
        bench.run(&format!("SET key:{n} of-{n}"));
        bench.evict(0, &[&format!("key:{n}")], n % 2 == 0);
    }
    bench.server.keyspace.lock().set_lending(true);
    bench.server.readers.direct.note_pool(1 << 24, None);
    let together = Rc::new(Together::default());
    for _ in 0..20 {
        (0..20).for_each(|_| _ = together.pays());
        together.end_wake_up();
    }
    bench.serve_with(together.clone());
    (bench, together)
}

/// The reads that as many commands wait for.
fn begin(bench: &mut Bench, count: usize) -> Vec<PoolRead> {
    (0..count)
        .map(|n| bench.begin(&format!("GET key:{n}")))
        .collect()
}

#[tokio::test]
async fn what_clients_of_a_thread_wait_for_is_read_together() {
    const KEYS: usize = 20;
    let (mut bench, together) = busy(KEYS);
    let reads = begin(&mut bench, KEYS);
    let batches = bench.cold.stats.batches.load(Ordering::Relaxed);
    let server = bench.server.clone();
    let answer_all = async {
        for (n, read) in reads.into_iter().enumerate() {
            let read = read.done().await.expect("a read");
            let (outcome, reply) = bench.run_with(&format!("GET key:{n}"), read);
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            let value = format!("of-{n}");
            assert_eq!(reply, format!("${} {value}", value.len()));
        }
    };
    tokio::select! {
        () = together.serve(server) => {}
        () = answer_all => {}
    }
    assert_eq!(
        bench.cold.stats.batches.load(Ordering::Relaxed) - batches,
        2
    );
    let keyspace = bench.server.keyspace.lock();
    let stats = &keyspace.tiering.as_ref().expect("tiering").stats;
    assert_eq!((stats.lent, stats.waits), (KEYS as u64, KEYS as u64));
}

#[tokio::test]
async fn a_read_ends_though_its_command_is_gone() {
    let (mut bench, together) = busy(3);
    let mut reads = begin(&mut bench, 3);
    drop(reads.remove(1));
    let last = reads.remove(1);
    tokio::select! {
        () = together.serve(bench.server.clone()) => {}
        read = last.done() => assert!(read.is_some()),
    }
    // Nobody took it, so it came into memory; a command that comes for it does not wait for ever.
    assert_eq!(bench.run("GET key:1"), "$4 of-1");
}

#[tokio::test]
async fn a_command_reads_alone_where_few_come_at_once_or_others_wait_behind_it() {
    let (mut bench, together) = busy(4);
    bench.is_alone(false);
    assert_eq!(bench.run("GET key:0"), "$4 of-0");
    bench.is_alone(true);
    drop(bench.begin("GET key:1"));
    for _ in 0..100 {
        together.pays();
        together.end_wake_up();
    }
    assert_eq!(bench.run("GET key:2"), "$4 of-2");
}
