//! Access data of an entry: Redis's 24-bit LRU clock or LFU counter (`evict.c`).

use crate::config::{Memory, Policy};
use rand::RngExt as _;

/// How accesses are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessPolicy {
    /// True for the `*-lfu` policies.
    pub lfu: bool,
    /// `lfu-log-factor`
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`, minutes
    pub lfu_decay_minutes: u32,
    /// What RDB files keep.
    pub recorded: Recorded,
    /// Touches of a value that tiering counts: few of them follow the latest ones (LRU), many the
    /// frequency (LFU).
    pub heat_max: u32,
    /// Current time in seconds, 24 bits, refreshed with the clock.
    pub clock_seconds: u32,
    /// Current time in minutes, 16 bits.
    pub clock_minutes: u32,
}

/// What RDB files keep of accesses: what `maxmemory-policy` goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Neither.
    Nothing,
    /// Seconds since the last access (the `*-lru` policies).
    Idle,
    /// The LFU counter (the `*-lfu` policies).
    Frequency,
}

/// LFU counter of a new key, so that it is not the first to go.
pub const LFU_INIT: u32 = 5;

/// `heat_max` under an LRU policy: one round of grace since the last touch.
const HEAT_LRU: u32 = 1;
/// Under an LFU policy.
const HEAT_LFU: u32 = 15;
/// Where the policy says nothing of either.
const HEAT_DEFAULT: u32 = 3;

impl Default for AccessPolicy {
    fn default() -> Self {
        Self {
            lfu: false,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            recorded: Recorded::Nothing,
            heat_max: HEAT_DEFAULT,
            clock_seconds: 0,
            clock_minutes: 0,
        }
    }
}

impl AccessPolicy {
    /// Takes over what the configuration says of recency and frequency.
    pub fn configure(&mut self, memory: &Memory) {
        self.lfu = matches!(memory.policy, Policy::AllKeysLfu | Policy::VolatileLfu);
        self.recorded = match memory.policy {
            Policy::AllKeysLru | Policy::VolatileLru => Recorded::Idle,
            _ if self.lfu => Recorded::Frequency,
            _ => Recorded::Nothing,
        };
        self.heat_max = match self.recorded {
            Recorded::Idle => HEAT_LRU,
            Recorded::Frequency => HEAT_LFU,
            Recorded::Nothing => HEAT_DEFAULT,
        };
        self.lfu_log_factor = memory.lfu_log_factor;
        self.lfu_decay_minutes = memory.lfu_decay_min;
    }

    /// Sets the clocks from unix ms.
    pub fn set_clock(&mut self, now_ms: i64) {
        let seconds = now_ms / 1000;
        self.clock_seconds = (seconds & 0xff_ffff) as u32;
        self.clock_minutes = ((seconds / 60) & 0xffff) as u32;
    }

    /// Access data of a new key.
    pub fn initial(&self) -> u32 {
        if self.lfu {
            self.clock_minutes << 8 | LFU_INIT
        } else {
            self.clock_seconds
        }
    }

    /// Access data after one more access.
    pub fn touched(&self, access: u32) -> u32 {
        if !self.lfu {
            return self.clock_seconds;
        }
        let counter = self.decayed(access);
        self.clock_minutes << 8 | self.incremented(counter)
    }

    /// The LFU counter after decay (`LFUDecrAndReturn`).
    pub fn decayed(&self, access: u32) -> u32 {
        let (then, counter) = (access >> 8, access & 0xff);
        let elapsed = self.clock_minutes.wrapping_sub(then) & 0xffff;
        match elapsed.checked_div(self.lfu_decay_minutes) {
            Some(periods) => counter.saturating_sub(periods),
            None => counter,
        }
    }

    fn incremented(&self, counter: u32) -> u32 {
        if counter >= 255 {
            return 255;
        }
        let base = f64::from(counter.saturating_sub(LFU_INIT));
        let chance = 1.0 / (base * f64::from(self.lfu_log_factor) + 1.0);
        if rand::rng().random::<f64>() < chance {
            counter + 1
        } else {
            counter
        }
    }

    /// Seconds since the last access (LRU).
    pub fn idle_seconds(&self, access: u32) -> u32 {
        self.clock_seconds.wrapping_sub(access) & 0xff_ffff
    }

    /// How little an entry deserves to stay, larger first to go.
    pub fn coldness(&self, access: u32) -> u32 {
        if self.lfu {
            255 - self.decayed(access)
        } else {
            self.idle_seconds(access)
        }
    }
}
