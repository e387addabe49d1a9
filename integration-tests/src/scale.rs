//! How large a test is: `RR_SCALE` from 1 (the default, what CI runs) to 100 (the full sizes).

use std::time::Duration;

/// How long a state or a reply may take that comes in the end: there are disks whose syncs take seconds
/// while others write to them.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The scale; an unreadable one counts as 1.
pub fn scale() -> u64 {
    let text = std::env::var("RR_SCALE").unwrap_or_default();
    text.parse().unwrap_or(1).clamp(1, 100)
}

/// A size between its smallest (at scale 1) and its full one (at scale 100).
pub fn between(small: u64, full: u64) -> u64 {
    small + full.saturating_sub(small) * (scale() - 1) / 99
}

/// The seed of a run: `RR_SEED`, or a fixed one. It is printed.
pub fn seed() -> u64 {
    let text = std::env::var("RR_SEED").unwrap_or_default();
    let seed = text.parse().unwrap_or(20_260_701);
    println!("RR_SEED={seed} RR_SCALE={}", scale());
    seed
}
