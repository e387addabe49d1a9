//! The latency monitor: spikes per event above `latency-monitor-threshold` (Redis's `latency.c`).

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Samples kept of each event, at most one a second.
pub const SAMPLES_MAX: usize = 160;

/// One second's worst spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spike {
    /// Unix seconds; 0: no sample.
    pub time_s: i64,
    /// Milliseconds.
    pub latency_ms: u64,
}

/// An event's last spikes, oldest first, and its worst ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Series {
    /// At most [`SAMPLES_MAX`].
    pub spikes: Vec<Spike>,
    /// Milliseconds.
    pub max_ms: u64,
}

/// What LATENCY DOCTOR tells of an event.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Analysis {
    /// Number of spikes.
    pub samples: u64,
    /// Mean, milliseconds.
    pub mean_ms: u64,
    /// Mean absolute deviation, milliseconds.
    pub deviation_ms: u64,
    /// Seconds since the oldest.
    pub period_s: i64,
}

impl Series {
    /// Mean, deviation and period.
    pub fn analyse(&self, now_s: i64) -> Analysis {
        let samples = self.spikes.len() as u64;
        let Some(oldest) = self.spikes.iter().map(|spike| spike.time_s).min() else {
            return Analysis::default();
        };
        let mean_ms = self
            .spikes
            .iter()
            .map(|spike| spike.latency_ms)
            .sum::<u64>()
            / samples;
        let deviations = self
            .spikes
            .iter()
            .map(|spike| spike.latency_ms.abs_diff(mean_ms));
        Analysis {
            samples,
            mean_ms,
            deviation_ms: deviations.sum::<u64>() / samples,
            period_s: (now_s - oldest).max(1),
        }
    }
}

/// See the module. The events' names are fixed in the code, so their number is bounded.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    /// `latency-monitor-threshold`; 0: off.
    threshold_ms: AtomicU64,
    events: Mutex<BTreeMap<&'static str, Series>>,
}

impl LatencyMonitor {
    /// Takes the threshold over.
    pub fn configure(&self, threshold_ms: u64) {
        self.threshold_ms.store(threshold_ms, Ordering::Relaxed);
    }

    /// Whether latencies are recorded.
    pub fn is_on(&self) -> bool {
        self.threshold_ms.load(Ordering::Relaxed) > 0
    }

    /// The start of something that may take long; `None` while nothing is recorded.
    pub fn begin(&self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }

    /// The end of what began.
    pub fn end(&self, event: &'static str, began: Option<Instant>) {
        if let Some(began) = began {
            self.record(event, began.elapsed().as_millis() as u64);
        }
    }

    /// Records a latency if it reaches the threshold.
    pub fn record(&self, event: &'static str, latency_ms: u64) {
        let threshold_ms = self.threshold_ms.load(Ordering::Relaxed);
        if threshold_ms > 0 && latency_ms >= threshold_ms {
            self.add(event, latency_ms, crate::clock::unix_ms() / 1000);
        }
    }

    fn add(&self, event: &'static str, latency_ms: u64, now_s: i64) {
        let mut events = self.events.lock();
        let series = events.entry(event).or_default();
        series.max_ms = series.max_ms.max(latency_ms);
        match series.spikes.last_mut() {
            Some(last) if last.time_s == now_s => last.latency_ms = last.latency_ms.max(latency_ms),
            _ => {
                if series.spikes.len() >= SAMPLES_MAX {
                    series.spikes.remove(0);
                }
                series.spikes.push(Spike {
                    time_s: now_s,
                    latency_ms,
                });
            }
        }
    }

    /// One event.
    pub fn event(&self, name: &[u8]) -> Option<(&'static str, Series)> {
        let events = self.events.lock();
        let found = events.iter().find(|(event, _)| event.as_bytes() == name);
        found.map(|(event, series)| (*event, series.clone()))
    }

    /// All events.
    pub fn all(&self) -> Vec<(&'static str, Series)> {
        self.events
            .lock()
            .iter()
            .map(|(event, series)| (*event, series.clone()))
            .collect()
    }

    /// Forgets events whose names are given, in any case, or all; says how many.
    pub fn reset(&self, names: Option<&[&[u8]]>) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        match names {
            None => events.clear(),
            Some(names) => {
                events.retain(|event, _| {
                    !names
                        .iter()
                        .any(|name| name.eq_ignore_ascii_case(event.as_bytes()))
                });
            }
        }
        before - events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_worst_spike_of_a_second_and_a_bounded_number() {
        let monitor = LatencyMonitor::default();
        monitor.record("command", 9);
        monitor.configure(10);
        monitor.record("command", 9);
        assert!(monitor.all().is_empty());
        for second in 0..200 {
            monitor.add("command", 10, second);
            monitor.add("command", 20, second);
            monitor.add("command", 15, second);
        }
        let (_, series) = monitor.event(b"command").expect("recorded");
        assert_eq!(series.spikes.len(), SAMPLES_MAX);
        assert_eq!(
            series.spikes[0],
            Spike {
                time_s: 40,
                latency_ms: 20
            }
        );
        let analysis = series.analyse(200);
        assert_eq!(
            (analysis.mean_ms, analysis.deviation_ms, analysis.period_s),
            (20, 0, 160)
        );
        assert_eq!(monitor.reset(Some(&[b"nope"])), 0);
        assert_eq!(monitor.reset(Some(&[b"COMMAND"])), 1);
    }
}
