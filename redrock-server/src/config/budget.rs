//! How `maxmemory` is shared when values are tiered (DESIGN, the memory bound).
//!
//! The fixed parts scale with the bound, within limits; what is left is for hot values.

/// Hot values have at least this.
const HOT_BYTES_MIN: u64 = 32 << 20;

/// What the processes need before they hold any data.
const PROCESS_BYTES: u64 = 48 << 20;

/// The parts of the bound, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// `maxmemory`
    pub total: u64,
    /// RocksDB's cache, with index, filters and memtables charged to it.
    pub tier_cache: u64,
    /// Snapshot pre-images on their way to the persister.
    pub snapshot_ring: u64,
    /// Log buffers.
    pub log: u64,
    /// Buffers of all clients together.
    pub clients: u64,
    /// The processes themselves.
    pub processes: u64,
}

impl Budget {
    /// Shares `total` bytes.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            tier_cache: (total / 8).clamp(8 << 20, 4 << 30),
            snapshot_ring: (total / 16).clamp(2 << 20, 64 << 20),
            log: (total / 32).clamp(1 << 20, 64 << 20),
            clients: (total / 8).clamp(4 << 20, 1 << 30),
            processes: PROCESS_BYTES,
        }
    }

    /// All but hot values.
    pub fn fixed(&self) -> u64 {
        self.tier_cache + self.snapshot_ring + self.log + self.clients + self.processes
    }

    /// What is left for hot values.
    pub fn hot(&self) -> u64 {
        self.total.saturating_sub(self.fixed())
    }

    /// The least that there must be.
    pub fn least(&self) -> u64 {
        self.fixed() + HOT_BYTES_MIN
    }

    /// Refuses a bound that leaves too little, with the sum.
    pub fn check(&self) -> Result<(), String> {
        if self.hot() >= HOT_BYTES_MIN {
            return Ok(());
        }
        Err(format!(
            "maxmemory {} is too small with enable-rocksdb-feature: it needs at least {} bytes \
             (cache {}, snapshots {}, log {}, clients {}, processes {}, hot values {})",
            self.total,
            self.least(),
            self.tier_cache,
            self.snapshot_ring,
            self.log,
            self.clients,
            self.processes,
            HOT_BYTES_MIN
        ))
    }
}

/// All parts and their sum, as the start prints them.
impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "maxmemory {} (cache {}, snapshots {}, log {}, clients {}, processes {}: {} in all; \
             hot values {})",
            self.total,
            self.tier_cache,
            self.snapshot_ring,
            self.log,
            self.clients,
            self.processes,
            self.fixed(),
            self.hot()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stay_within_the_bound_and_an_eighth_each() {
        for total in [128 << 20, 1 << 30, 64 << 30] {
            let budget = Budget::new(total);
            assert_eq!(budget.check(), Ok(()));
            assert_eq!(budget.fixed() + budget.hot(), total);
            let Budget {
                tier_cache,
                snapshot_ring,
                log,
                clients,
                ..
            } = budget;
            assert!(
                [tier_cache, snapshot_ring, log, clients]
                    .iter()
                    .all(|p| *p <= total / 8)
            );
        }
        assert!(
            Budget::new(100 << 20)
                .check()
                .unwrap_err()
                .contains("needs at least")
        );
        assert!(Budget::new(0).check().is_err());
    }
}
