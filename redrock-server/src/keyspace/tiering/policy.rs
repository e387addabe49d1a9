//! What the governor decides, as plain functions of what it measured (DESIGN 7).

use std::time::Duration;

/// Memory as measured, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The bound.
    pub maxmemory_bytes: u64,
    /// `maxpsmem`: a bound on this process alone; 0: none.
    pub process_bytes_max: u64,
    /// What this process occupies.
    pub own_resident_bytes: u64,
    /// `maxrockmem`: what values may take; 0: what the bound leaves.
    pub hot_bytes_max: u64,
    /// Of what is allocated: for anything but values.
    pub other_bytes: u64,
    /// What the allocator has handed out in this process: hot entries, the tier's cache and
    /// memtables, buffers.
    pub allocated_bytes: u64,
    /// What all our processes occupy: this one's resident set and the companions'.
    pub resident_bytes: u64,
    /// Of what the allocator has not handed out: gaps in pages that hold allocations. Dropping values
    /// makes them, new values fill them.
    pub gap_bytes: u64,
    /// Of what the allocator has not handed out: whole pages, which it can give back.
    pub purgeable_bytes: u64,
    /// Memory of stubs.
    pub stub_bytes: u64,
    /// What commands may have allocated since the measurement.
    pub charged_bytes: u64,
    /// The most that a command waits for which found no room.
    pub wanted_bytes: u64,
    /// No value is left that could leave.
    pub is_exhausted: bool,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Bytes of values to move out of memory now.
    pub release_bytes: u64,
    /// Stubs go altogether instead of staying behind.
    pub drop_stubs: bool,
    /// Dirty values are written to the tier ahead of need.
    pub write_back: bool,
    /// There is no room to spare for cold values that are read for the first time.
    pub lend: bool,
    /// How far memory is from where commands that grow it are slowed down to where they wait: 0
    /// to 1000.
    pub overrun_permille: u64,
    /// Commands that grow memory wait.
    pub hold_writers: bool,
    /// The allocator should give unused pages back.
    pub purge: bool,
}

/// Above this share of the budget dirty values are written back ahead of need, percent.
const WRITE_BACK_PERCENT: u64 = 70;
/// Above this share cold values that are read once don't come into memory: a little below where it
/// stays when it is full.
const LEND_PERCENT: u64 = 80;
/// Above this share values leave.
const RELEASE_PERCENT: u64 = 90;
/// Down to this share.
const RELEASE_TARGET_PERCENT: u64 = 87;
/// Values that take more than `maxrockmem` leave down to this share of it.
const HOT_TARGET_PERCENT: u64 = 97;
/// Above this share writers are slowed down, the more the further.
const SLOW_PERCENT: u64 = 93;
/// Above this share writers wait.
const HOLD_PERCENT: u64 = 97;
/// Stubs may take this share of the budget.
const STUB_PERCENT: u64 = 20;
/// The same where no value is left.
const STUB_PERCENT_EXHAUSTED: u64 = 5;
/// Where no value is left, what fills the bound can't leave: clients' buffers, and companions in the
/// middle of a save. Writers who waited would wait for those. So they go on for this part of the bound, but
/// no more bytes, into what I7 leaves beyond it: their values leave as soon as they are in.
const RESERVE_PART: u64 = 8;
const RESERVE_BYTES_MAX: u64 = 24 << 20;

/// Pages that could be given back are, once they take this part of the bound.
const PURGE_PART: u64 = 16;

/// A tier that takes nothing for this long makes no room.
pub const STALL_MIN: Duration = Duration::from_secs(1);
/// Evictions go down to this share: a little below where writers wait.
const EVICT_TARGET_PERCENT: u64 = 95;

/// Bytes of values to evict, where that is allowed, since the tier has taken nothing for
/// `stalled` (SEMANTICS `maxmemory-only-for-rocksdb no`): values leave by tiering as long as it
/// works.
pub fn evict_bytes(sample: &Sample, stalled: Duration) -> u64 {
    let used = sample.allocated_bytes + sample.charged_bytes;
    let line = |percent: u64| budget_bytes(sample) / 100 * percent;
    if stalled < STALL_MIN || used <= line(HOLD_PERCENT) {
        return 0;
    }
    used - line(EVICT_TARGET_PERCENT)
}

/// Share of the gaps that new values are expected to fill, percent: most are of the same few sizes.
const GAPS_FILLED_PERCENT: u64 = 85;
/// They count for this share of the bound at most, percent.
const GAPS_COUNTED_PERCENT: u64 = 30;
/// Beyond the bound they count less and less, and at this part of it beyond, or so many bytes, no more.
const GAPS_BEYOND_PART: u64 = 10;
const GAPS_BEYOND_BYTES_MAX: u64 = 32 << 20;

/// What of the gaps is as good as free. If they counted as used, each value that is dropped would
/// lower the budget by what it frees, and most of memory would have to go for a little room. What is
/// not filled after all shows in the resident sets: beyond the bound they are trusted less and less.
fn gap_credit_bytes(sample: &Sample, bound: u64, resident: u64) -> u64 {
    let share = |percent: u64| bound / 100 * percent;
    let filled = sample.gap_bytes / 100 * GAPS_FILLED_PERCENT;
    let counted = filled.min(share(GAPS_COUNTED_PERCENT));
    let beyond_max = (bound / GAPS_BEYOND_PART).clamp(1024, GAPS_BEYOND_BYTES_MAX);
    let beyond = resident.saturating_sub(bound);
    counted / 1024 * (beyond_max.saturating_sub(beyond) * 1024 / beyond_max)
}

/// What the allocator may hand out so that the resident sets stay within the bound: the bound
/// less what is resident and not handed out (fragmentation, code, stacks, companions), but for gaps
/// that new values fill.
pub fn budget_bytes(sample: &Sample) -> u64 {
    let within = |bound: u64, resident: u64| {
        let overhead = resident
            .saturating_sub(sample.allocated_bytes)
            .saturating_sub(gap_credit_bytes(sample, bound, resident));
        // However large the overhead is measured, something must be left to work with.
        bound.saturating_sub(overhead).max(bound / 4)
    };
    let of_all = within(sample.maxmemory_bytes, sample.resident_bytes);
    match sample.process_bytes_max {
        0 => of_all,
        bound => of_all.min(within(bound, sample.own_resident_bytes)),
    }
}

/// What writers may take beyond the lines at which they are slowed down and wait.
pub fn reserve_bytes(sample: &Sample) -> u64 {
    match sample.is_exhausted {
        true => (sample.maxmemory_bytes / RESERVE_PART).min(RESERVE_BYTES_MAX),
        false => 0,
    }
}

/// From here on writers wait.
pub fn hold_bytes(sample: &Sample) -> u64 {
    budget_bytes(sample) / 100 * HOLD_PERCENT + reserve_bytes(sample)
}

/// Bytes by which values are beyond a part of what they may take (`maxrockmem`), percent.
fn hot_beyond_bytes(sample: &Sample, percent: u64) -> u64 {
    match sample.hot_bytes_max {
        0 => 0,
        max => sample
            .allocated_bytes
            .saturating_sub(sample.other_bytes)
            .saturating_sub(max / 100 * percent),
    }
}

/// Decides.
pub fn plan(sample: &Sample) -> Plan {
    let budget = budget_bytes(sample);
    let used = sample.allocated_bytes + sample.charged_bytes;
    let line = |percent: u64| budget / 100 * percent;
    // A command that needs much at once needs more free than what suffices for small ones.
    let wanted = sample.wanted_bytes.min(budget / 2);
    let for_wanted = match wanted {
        0 => 0,
        wanted => (used + wanted).saturating_sub(line(EVICT_TARGET_PERCENT)),
    };
    let for_all = match used > line(RELEASE_PERCENT) {
        true => used - line(RELEASE_TARGET_PERCENT),
        false => 0,
    };
    let for_hot = match hot_beyond_bytes(sample, 100) {
        0 => 0,
        _ => hot_beyond_bytes(sample, HOT_TARGET_PERCENT),
    };
    let overrun = used.saturating_sub(line(SLOW_PERCENT) + reserve_bytes(sample));
    let stub_percent = match sample.is_exhausted {
        true => STUB_PERCENT_EXHAUSTED,
        false => STUB_PERCENT,
    };
    Plan {
        release_bytes: for_all.max(for_wanted).max(for_hot),
        overrun_permille: (overrun * 1000 / line(HOLD_PERCENT - SLOW_PERCENT).max(1)).min(1000),
        drop_stubs: sample.stub_bytes > line(stub_percent),
        lend: used > line(LEND_PERCENT) || hot_beyond_bytes(sample, LEND_PERCENT) > 0,
        write_back: used > line(WRITE_BACK_PERCENT)
            || hot_beyond_bytes(sample, WRITE_BACK_PERCENT) > 0,
        hold_writers: used > hold_bytes(sample),
        purge: sample.purgeable_bytes > sample.maxmemory_bytes / PURGE_PART,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn sample(allocated: u64, resident: u64) -> Sample {
        Sample {
            maxmemory_bytes: 200 * MB,
            process_bytes_max: 0,
            own_resident_bytes: resident * MB,
            hot_bytes_max: 0,
            other_bytes: 0,
            allocated_bytes: allocated * MB,
            resident_bytes: resident * MB,
            gap_bytes: 0,
            purgeable_bytes: 0,
            stub_bytes: 0,
            charged_bytes: 0,
            wanted_bytes: 0,
            is_exhausted: false,
        }
    }

    #[test]
    fn leaves_memory_alone_while_there_is_room() {
        assert_eq!(plan(&sample(50, 70)), Plan::default());
    }

    #[test]
    fn counts_what_is_resident_and_not_allocated_against_the_budget() {
        assert_eq!(budget_bytes(&sample(100, 140)), 160 * MB);
        let plan = plan(&sample(150, 190));
        assert!(plan.release_bytes > 0 && plan.write_back && !plan.hold_writers);
    }

    #[test]
    fn a_bound_on_the_process_alone_counts_where_it_is_nearer() {
        let mut alone = sample(100, 160);
        // The companions take 20.
        alone.own_resident_bytes = 140 * MB;
        assert_eq!(budget_bytes(&alone), 140 * MB);
        alone.process_bytes_max = 190 * MB;
        assert_eq!(budget_bytes(&alone), 140 * MB);
        alone.process_bytes_max = 130 * MB;
        assert_eq!(budget_bytes(&alone), 90 * MB);
        assert!(plan(&alone).hold_writers);
    }

    #[test]
    fn values_leave_when_they_take_more_than_they_may() {
        let mut hot = sample(90, 100);
        (hot.other_bytes, hot.hot_bytes_max) = (30 * MB, 61 * MB);
        assert_eq!(plan(&hot).release_bytes, 0);
        assert!(plan(&hot).write_back);
        hot.hot_bytes_max = 50 * MB;
        let bytes = plan(&hot).release_bytes;
        assert!((11 * MB..12 * MB).contains(&bytes), "{bytes}");
        assert!(!plan(&hot).hold_writers);
    }

    #[test]
    fn what_dropping_values_leaves_open_is_room_for_others() {
        // Nine tenths are used and a little more.
        let full = sample(145, 185);
        let release = plan(&full).release_bytes;
        assert!(release > 0);
        // That much has been dropped, and nothing could be given back.
        let dropped = Sample {
            allocated_bytes: full.allocated_bytes - release,
            gap_bytes: release,
            ..full
        };
        assert_eq!(plan(&dropped).release_bytes, 0);
        let untrusted = Sample {
            resident_bytes: 221 * MB,
            ..dropped
        };
        assert_eq!(
            budget_bytes(&untrusted),
            budget_bytes(&Sample {
                gap_bytes: 0,
                ..untrusted
            })
        );
    }

    #[test]
    fn gaps_count_for_a_part_of_the_bound_only() {
        let mut some = sample(100, 180);
        some.gap_bytes = 80 * MB;
        assert_eq!(budget_bytes(&some), 120 * MB + 60 * MB);
    }

    #[test]
    fn evicts_only_near_the_bound_and_when_the_tier_has_stood_still() {
        let (full, room) = (sample(158, 198), sample(150, 190));
        assert_eq!(evict_bytes(&full, STALL_MIN / 2), 0);
        assert_eq!(evict_bytes(&room, STALL_MIN), 0);
        let bytes = evict_bytes(&full, STALL_MIN);
        assert!((5 * MB..7 * MB).contains(&bytes), "{bytes}");
    }

    #[test]
    fn makes_room_for_a_command_that_needs_much() {
        let mut waiting = sample(130, 170);
        assert_eq!(plan(&waiting).release_bytes, 0);
        waiting.wanted_bytes = 40 * MB;
        let bytes = plan(&waiting).release_bytes;
        assert!((17 * MB..19 * MB).contains(&bytes), "{bytes}");
        waiting.wanted_bytes = u64::MAX;
        assert!(plan(&waiting).release_bytes < 80 * MB);
    }

    #[test]
    fn slows_writers_in_proportion_before_it_holds_them() {
        let overrun = |allocated| plan(&sample(allocated, allocated + 40)).overrun_permille;
        assert_eq!([overrun(120), overrun(148)], [0, 0]);
        assert!((100..500).contains(&overrun(150)) && (600..1000).contains(&overrun(154)));
        assert_eq!([overrun(156), overrun(199)], [1000, 1000]);
    }

    #[test]
    fn holds_writers_only_near_the_bound() {
        let mut at_line = sample(155, 195);
        assert!(!plan(&at_line).hold_writers);
        at_line.charged_bytes = 2 * MB;
        assert!(plan(&at_line).hold_writers);
    }

    #[test]
    fn writers_go_on_into_the_reserve_where_no_value_is_left() {
        let mut full = sample(160, 205);
        full.stub_bytes = 12 * MB;
        let before = plan(&full);
        assert!(before.hold_writers && before.overrun_permille == 1000 && !before.drop_stubs);
        full.is_exhausted = true;
        let after = plan(&full);
        assert!(!after.hold_writers && after.overrun_permille == 0 && after.drop_stubs);
        assert_eq!(after.release_bytes, before.release_bytes);
        // It is the companions that have grown: there is an end to it.
        full.resident_bytes += 24 * MB;
        assert!(plan(&full).hold_writers);
        full.maxmemory_bytes = 8 * MB;
        assert_eq!(reserve_bytes(&full), MB);
    }
}
