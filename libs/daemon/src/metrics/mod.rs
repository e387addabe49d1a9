//! Counters, gauges and histograms in Prometheus's text format.
//!
//! Metrics are made once at the start and updated with atomics, without locks
//! and without allocation. Figures that are kept elsewhere anyway are added at
//! each scrape by a collector. [`http`] serves them.

pub mod http;

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A figure that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a latency histogram's buckets, in microseconds: powers of
/// two from 1 µs to 8.4 s.
const BUCKETS: usize = 24;

/// Latencies, in buckets that double.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<HistogramCells>);

#[derive(Debug, Default)]
struct HistogramCells {
    /// The last one counts what is longer than all bounds.
    buckets: [AtomicU64; BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // Smallest n with micros <= 2^n.
        let bucket = (u64::BITS - micros.saturating_sub(1).leading_zeros()) as usize;
        if let Some(cell) = self.0.buckets.get(bucket.min(BUCKETS)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0
            .buckets
            .iter()
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum()
    }

    /// Upper bound in microseconds of the bucket that holds the quantile (0 to
    /// 1); 0 without observations. Off by a factor of two at most.
    pub fn quantile_micros(&self, quantile: f64) -> u64 {
        let wanted = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (power, cell) in self.0.buckets.iter().enumerate() {
            seen += cell.load(Ordering::Relaxed);
            if seen >= wanted && seen > 0 {
                return 1 << power;
            }
        }
        0
    }
}

enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

struct Family {
    name: &'static str,
    help: &'static str,
    /// Label sets, as rendered (`kind="hot"`), each with its metric.
    members: Vec<(String, Metric)>,
}

type Collector = Box<dyn Fn(&mut Page) + Send + Sync>;

/// All metrics of a daemon. Clones are the same.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    families: Vec<Family>,
    collectors: Vec<Collector>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("families", &self.lock().families.len())
            .finish()
    }
}

impl Registry {
    pub fn new() -> Registry {
        Registry::default()
    }

    /// `name` should end with `_total`.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Counter {
        let counter = Counter::default();
        self.add(name, help, labels, Metric::Counter(counter.clone()));
        counter
    }

    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        let gauge = Gauge::default();
        self.add(name, help, labels, Metric::Gauge(gauge.clone()));
        gauge
    }

    /// `name` should end with `_seconds`.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Histogram {
        let histogram = Histogram::default();
        self.add(name, help, labels, Metric::Histogram(histogram.clone()));
        histogram
    }

    /// Called at each scrape; should be quick and must not use the registry.
    pub fn collect_with(&self, collector: impl Fn(&mut Page) + Send + Sync + 'static) {
        self.lock().collectors.push(Box::new(collector));
    }

    /// The page that Prometheus reads.
    pub fn render(&self) -> String {
        let inner = self.lock();
        let mut page = Page {
            text: String::with_capacity(4096),
        };
        for family in &inner.families {
            page.family(family);
        }
        for collector in &inner.collectors {
            collector(&mut page);
        }
        page.text
    }

    fn add(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)], metric: Metric) {
        let labels = render_labels(labels);
        let mut inner = self.lock();
        match inner.families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.members.push((labels, metric)),
            None => {
                inner.families.push(Family {
                    name,
                    help,
                    members: vec![(labels, metric)],
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page being written. All samples of one name must be added together.
#[derive(Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// A counter kept elsewhere.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.sample(name, "", value);
    }

    /// A gauge kept elsewhere.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.sample(name, "", value);
    }

    fn family(&mut self, family: &Family) {
        let kind = match family.members.first() {
            Some((_, Metric::Counter(_))) => "counter",
            Some((_, Metric::Gauge(_))) => "gauge",
            Some((_, Metric::Histogram(_))) => "histogram",
            None => return,
        };
        self.head(family.name, family.help, kind);
        for (labels, metric) in &family.members {
            match metric {
                Metric::Counter(counter) => self.sample(family.name, labels, counter.get()),
                Metric::Gauge(gauge) => self.sample(family.name, labels, gauge.get()),
                Metric::Histogram(histogram) => self.histogram(family.name, labels, histogram),
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket_name = format!("{name}_bucket");
        let mut seen = 0;
        for (power, cell) in histogram.0.buckets.iter().enumerate() {
            seen += cell.load(Ordering::Relaxed);
            let bound = match power {
                BUCKETS => "+Inf".to_owned(),
                _ => (2_f64.powi(power as i32) / 1e6).to_string(),
            };
            self.sample(
                &bucket_name,
                &format!("{labels}{comma}le=\"{bound}\""),
                seen,
            );
        }
        let sum = histogram.0.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, seen);
    }

    // Writing into a string can't fail, hence the results that are let go.

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }
}

fn render_labels(labels: &[(&str, &str)]) -> String {
    let escape = |value: &str| {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let rendered: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    rendered.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_all_samples_of_a_name_under_one_head() {
        let registry = Registry::new();
        let hot = registry.counter("redrock_reads_total", "Reads.", &[("tier", "hot")]);
        let keys = registry.gauge("redrock_keys", "Keys.", &[]);
        let cold = registry.counter("redrock_reads_total", "Reads.", &[("tier", "co\"ld")]);
        registry.collect_with(|page| page.gauge("redrock_up", "Up.", 1));
        hot.add(3);
        cold.add(1);
        keys.add(-2);
        assert_eq!(
            registry.render(),
            "# HELP redrock_reads_total Reads.\n# TYPE redrock_reads_total counter\n\
             redrock_reads_total{tier=\"hot\"} 3\nredrock_reads_total{tier=\"co\\\"ld\"} 1\n\
             # HELP redrock_keys Keys.\n# TYPE redrock_keys gauge\nredrock_keys -2\n\
             # HELP redrock_up Up.\n# TYPE redrock_up gauge\nredrock_up 1\n"
        );
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_bounds_inclusive() {
        let registry = Registry::new();
        let histogram = registry.histogram("redrock_get_seconds", "GET.", &[]);
        for micros in [0, 1, 2, 3, 4, 20_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let page = registry.render();
        for line in [
            "redrock_get_seconds_bucket{le=\"0.000001\"} 2",
            "redrock_get_seconds_bucket{le=\"0.000002\"} 3",
            "redrock_get_seconds_bucket{le=\"0.000004\"} 5",
            "redrock_get_seconds_bucket{le=\"8.388608\"} 5",
            "redrock_get_seconds_bucket{le=\"+Inf\"} 6",
            "redrock_get_seconds_sum 20.00001",
            "redrock_get_seconds_count 6",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} in\n{page}");
        }
        assert_eq!(histogram.quantile_micros(0.5), 2);
        assert_eq!(Histogram::default().quantile_micros(0.99), 0);
    }
}
