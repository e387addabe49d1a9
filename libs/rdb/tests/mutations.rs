//! Damaged files: an error or a value, never a panic, and never an allocation
//! that the file's size does not justify.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{corpus, entries_of, read_items, server_files};
use redrock_rdb::dump;
use redrock_rdb::file::{Item, ModuleTally, ReaderOptions};
use redrock_rdb::object::{Target, decode, pipe_value, piped_type, transcode, walk};

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
    let mut modules = ModuleTally::default();
    for item in &items {
        match item {
            Item::ModuleKey(skipped) => modules.add_key(0, skipped),
            Item::ModuleAux(module) => modules.add_piece(module),
            _ => {}
        }
    }
    assert!(modules.to_string().len() < 32 << 10);
    for (_, entry) in entries_of(items) {
        let _ = decode(entry.object_type, &entry.payload);
        for version in [10, 11, 12] {
            let target = Target {
                version,
                compress: version != 11,
            };
            let _ = transcode(entry.object_type, &entry.payload, target, &mut Vec::new());
        }
        if piped_type(entry.object_type, 10).is_some() {
            let _ = pipe_value(&entry.payload[..], entry.object_type, 10, |_| Ok(()));
        }
    }
    true
}

fn seed() -> u64 {
    let seed = std::env::var("RR_SEED");
    let seed = seed.ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed} (set RR_SEED to change it)");
    seed
}

/// Runs what must not allocate more than `bytes` of input justify.
fn within_bounds<T>(bytes: usize, what: &str, run: impl FnOnce() -> T) -> T {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = run();
    let peak = PEAK_BYTES.load(Ordering::Relaxed).saturating_sub(before);
    // Buffers, and what LZF (88 times) and small vectors can make of a byte.
    let allowed = (1 << 20) + 400 * bytes;
    assert!(peak <= allowed, "{what}: {peak} bytes");
    result
}

/// The tests of this file count the allocations of the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The corpus, if it is there, and the fixtures.
fn files() -> Vec<(String, Vec<u8>)> {
    let cases = corpus().unwrap_or_default().into_iter();
    let cases = cases.map(|case| (case.name, case.rdb));
    cases.chain(server_files()).collect()
}

#[test]
fn damaged_files_neither_panic_nor_inflate() {
    let _alone = ALONE.lock();
    let mut random = Random(seed());
    let (mut read, mut refused) = (0, 0);
    for (name, original) in files() {
        let rounds = match original.len() {
            0..=10_000 => 1500,
            10_001..=30_000 => 300,
            _ => 40,
        };
        for round in 0..rounds {
            let mut rdb = original.clone();
            damage(&mut rdb, &mut random);
            let what = format!("{name} round {round}");
            match within_bounds(rdb.len(), &what, || exercise(&rdb, round % 2 == 0)) {
                true => read += 1,
                false => refused += 1,
            }
        }
    }
    println!("{read} files read, {refused} refused");
    // Both ways out must have been taken, or the damage was of one kind only.
    assert!(read > 100 && refused > 100);
}

/// Each value of the servers' files as a payload of RESTORE, damaged behind its type byte: what is
/// accepted can be written again, and gives the same.
#[test]
fn damaged_payloads_neither_panic_nor_inflate() {
    let _alone = ALONE.lock();
    let mut random = Random(seed());
    let (mut accepted, mut refused) = (0, 0);
    let as_stored = ReaderOptions {
        normalize: false,
        ..ReaderOptions::default()
    };
    for (name, rdb) in server_files() {
        for (_, entry) in entries_of(read_items(&rdb, as_stored).unwrap()) {
            for round in 0..60 {
                let mut body = entry.payload.clone();
                for _ in 0..=random.below(3) {
                    let reach = if random.below(2) == 0 { 64 } else { body.len() };
                    let at = random.below(reach.min(body.len()));
                    body[at] = random.next() as u8;
                }
                let mut payload = Vec::new();
                let version = 1 + random.below(12) as u16;
                dump::write(&mut payload, entry.object_type, &body, version);
                let what = format!("{name} {} round {round}", entry.key.escape_ascii());
                let is_good = within_bounds(payload.len(), &what, || restored(&payload));
                *(if is_good { &mut accepted } else { &mut refused }) += 1;
            }
        }
    }
    println!("{accepted} payloads accepted, {refused} refused");
    assert!(accepted > 100 && refused > 100);
}

/// Whether a payload is accepted; if so it is written and read again.
fn restored(payload: &[u8]) -> bool {
    let (object_type, body) = dump::verify(payload).unwrap();
    let _ = walk(object_type, body);
    let Ok(object) = decode(object_type, body) else {
        return false;
    };
    let mut encoded = Vec::new();
    object.encode(&mut encoded);
    assert_eq!(decode(object.object_type(), &encoded).unwrap(), object);
    true
}
