//! How wanted a value is: what tiering goes by when it chooses what leaves memory.

use super::{Entry, FLAG_FRESH, FLAG_PROBATION, LENGTH_BITS};
use crate::keyspace::access::AccessPolicy;

/// Most that [`Entry::heat`] can be.
pub const HEAT_MAX: u32 = u8::MAX as u32;

impl Entry {
    /// Whether the value came lately, from a client or from the tier, and was not wanted again.
    pub fn is_on_probation(&self) -> bool {
        self.flags() & FLAG_PROBATION != 0
    }

    /// Sets or ends the probation.
    pub fn set_probation(&mut self, on: bool) {
        self.set_flag(FLAG_PROBATION, on);
    }

    /// Whether the value was read from the tier and not touched at all yet.
    pub fn is_fresh(&self) -> bool {
        self.flags() & FLAG_FRESH != 0
    }

    /// Sets or ends freshness.
    pub fn set_fresh(&mut self, on: bool) {
        self.set_flag(FLAG_FRESH, on);
    }

    /// Rounds of tiering's hand that the value outlives without being touched again.
    pub fn heat(&self) -> u32 {
        self.read_u32(12) >> LENGTH_BITS
    }

    /// Sets the heat, at most [`HEAT_MAX`].
    pub fn set_heat(&mut self, heat: u32) {
        let length = self.length_field();
        self.write_u32(12, heat.min(HEAT_MAX) << LENGTH_BITS | length);
    }

    /// Records a touch, for the policy's recency or frequency and for tiering.
    pub fn touch(&mut self, access: &AccessPolicy) {
        self.set_access(access.touched(self.access()));
        let heat = self.heat();
        if self.is_fresh() {
            // That of the command that waited for the load.
            self.set_fresh(false);
        } else if self.is_on_probation() {
            self.set_probation(false);
            self.set_heat(1);
        } else if heat < access.heat_max {
            self.set_heat(heat + 1);
        }
    }

    /// Admits a value that came just now: at once, or on probation.
    pub fn admit(&mut self, known: bool) {
        self.set_probation(!known);
        self.set_heat(u32::from(known));
    }
}
