//! Damaged files: an error or a value, never a panic, and never an allocation
//! that the file's size does not justify.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{corpus, entries_of, read_items};
use redrock_rdb::file::ReaderOptions;
use redrock_rdb::object::{Target, decode, transcode};

/// Counts live bytes and their peak.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A small generator (SplitMix64), so that a seed tells the whole run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn damage(rdb: &mut Vec<u8>, random: &mut Random) {
    // Mostly near the front, where the structure of small files is.
    for _ in 0..=random.below(4) {
        let reach = if random.below(2) == 0 { 128 } else { rdb.len() };
        let at = 9 + random.below(reach.min(rdb.len()).saturating_sub(9));
        if let Some(byte) = rdb.get_mut(at) {
            *byte = match random.below(4) {
                0 => random.next() as u8,
                1 => *byte ^ 1 << random.below(8),
                2 => 0xff,
                _ => 0x81,
            };
        }
    }
    if random.below(4) == 0 {
        let cut = random.below(rdb.len());
        rdb.truncate(cut);
    }
}

/// Everything that is done with a file. Gives whether it was read to its end.
fn exercise(rdb: &[u8], normalize: bool) -> bool {
    let options = ReaderOptions {
        normalize,
        verify_checksum: false,
        ..ReaderOptions::default()
    };
    let Ok(items) = read_items(rdb, options) else {
        return false;
    };
    for (_, entry) in entries_of(items) {
        let _ = decode(entry.object_type, &entry.payload);
        let target = Target {
            version: 10,
            compress: true,
        };
        let _ = transcode(entry.object_type, &entry.payload, target, &mut Vec::new());
    }
    true
}

#[test]
fn damaged_files_neither_panic_nor_inflate() {
    let Some(cases) = corpus() else { return };
    let seed = std::env::var("RR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("seed {seed} (set RR_SEED to change it)");
    let mut random = Random(seed);
    let (mut read, mut refused) = (0, 0);
    for case in &cases {
        let rounds = if case.rdb.len() > 10_000 { 40 } else { 1500 };
        for round in 0..rounds {
            let mut rdb = case.rdb.clone();
            damage(&mut rdb, &mut random);
            let before = LIVE_BYTES.load(Ordering::Relaxed);
            PEAK_BYTES.store(before, Ordering::Relaxed);
            match exercise(&rdb, round % 2 == 0) {
                true => read += 1,
                false => refused += 1,
            }
            let peak = PEAK_BYTES.load(Ordering::Relaxed).saturating_sub(before);
            // Buffers, and what LZF (88 times) and small vectors can make of a byte.
            let allowed = (1 << 20) + 400 * rdb.len();
            assert!(peak <= allowed, "{} round {round}: {peak} bytes", case.name);
        }
    }
    println!("{read} files read, {refused} refused");
    // Both ways out must have been taken, or the damage was of one kind only.
    assert!(read > 100 && refused > 100);
}
