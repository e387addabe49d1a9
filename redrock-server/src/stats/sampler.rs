//! Rates over the last samples (`instantaneous_ops_per_sec` and its relatives).

const SAMPLES: usize = 16;

/// What is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Commands.
    Commands = 0,
    /// Received bytes.
    Input = 1,
    /// Sent bytes.
    Output = 2,
    /// Times that a thread woke up to work.
    Cycles = 3,
    /// Microseconds of work.
    CycleUsec = 4,
}

const METRICS: usize = 5;

/// See the module. Redis averages 16 samples taken every 100 ms; so does this.
#[derive(Debug, Default)]
pub struct Sampler {
    last: Option<(i64, [u64; METRICS])>,
    rates: [[u64; SAMPLES]; METRICS],
    next: usize,
}

impl Sampler {
    /// Takes the counters' values at a time (unix µs).
    pub fn sample(&mut self, now_us: i64, values: [u64; METRICS]) {
        if let Some((then_us, before)) = self.last {
            let elapsed_us = now_us.saturating_sub(then_us).max(0) as u64;
            let pairs = values.iter().zip(before);
            for (rates, (now, then)) in self.rates.iter_mut().zip(pairs) {
                let added = now.saturating_sub(then).saturating_mul(1_000_000);
                if let Some(rate) = rates.get_mut(self.next) {
                    *rate = added.checked_div(elapsed_us).unwrap_or(0);
                }
            }
            self.next = (self.next + 1) % SAMPLES;
        }
        self.last = Some((now_us, values));
    }

    /// The average rate per second.
    pub fn per_second(&self, metric: Metric) -> u64 {
        self.rates
            .get(metric as usize)
            .map_or(0, |rates| rates.iter().sum::<u64>() / SAMPLES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_the_last_samples() {
        let mut sampler = Sampler::default();
        for i in 0..=40u64 {
            sampler.sample(i as i64 * 100_000, [i * 10, i * 1000, 0, 0, 0]);
        }
        assert_eq!(sampler.per_second(Metric::Commands), 100);
        assert_eq!(sampler.per_second(Metric::Input), 10_000);
        assert_eq!(sampler.per_second(Metric::Output), 0);
    }
}
