//! LATENCY DOCTOR: what was observed and what may help.

use crate::config::Config;
use crate::latency::Series;
use std::fmt::Write as _;

/// What may help against an event, by its name.
fn advice(event: &str, config: &Config) -> Vec<&'static str> {
    const DISK: &str = "use local and fast disks for persistence, and keep other work off them";
    const LARGE: &str = "deleting, expiring or evicting very large values takes time: split them";
    match event {
        "command" if config.observation.slow_us_min < 0 => {
            vec![
                "enable the slow log (slowlog-log-slower-than) to see which commands are slow",
                LARGE,
            ]
        }
        "command" => vec!["see SLOWLOG GET for the commands that are slow", LARGE],
        "fast-command" => {
            vec!["the process does not get enough processor time: lower the load of the machine"]
        }
        "expire-cycle" => vec!["raise 'hz' so that expiry works in smaller steps", LARGE],
        "eviction-del" => vec![LARGE],
        "eviction-cycle" => vec!["avoid lowering 'maxmemory' suddenly and storing huge results"],
        "aof-fsync-always" => vec!["relax 'appendfsync always' if the data allows", DISK],
        _ if event.starts_with("aof-") || event.starts_with("rdb-") => vec![DISK],
        _ => Vec::new(),
    }
}

/// The report.
pub(super) fn report(events: &[(&'static str, Series)], config: &Config) -> String {
    if events.is_empty() && config.observation.latency_ms_min == 0 {
        return "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis \
                instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in \
                order to enable it. If we weren't in a deep space mission I'd suggest to take a \
                look at https://redis.io/topics/latency-monitor.\n"
            .into();
    }
    if events.is_empty() {
        return "Dave, no latency spike was observed during the lifetime of this Redis instance, \
                not in the slightest bit. I honestly think you ought to sit down calmly, take a \
                stress pill, and think things over.\n"
            .into();
    }
    let now_s = crate::clock::unix_ms() / 1000;
    let mut text = "Dave, I have observed latency spikes in this Redis instance. You don't mind \
                    talking about it, do you Dave?\n\n"
        .to_owned();
    let mut advices: Vec<&'static str> = Vec::new();
    for (i, (event, series)) in events.iter().enumerate() {
        let analysis = series.analyse(now_s);
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "{}. {event}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). \
             Worst all time event {}ms.",
            i + 1,
            analysis.samples,
            analysis.mean_ms,
            analysis.deviation_ms,
            analysis.period_s as f64 / analysis.samples.max(1) as f64,
            series.max_ms
        );
        for line in advice(event, config) {
            if !advices.contains(&line) {
                advices.push(line);
            }
        }
    }
    if advices.is_empty() {
        text.push_str(
            "\nWhile there are latency events logged, I'm not able to suggest any easy fix.\n",
        );
        return text;
    }
    text.push_str("\nI have a few advices for you:\n\n");
    for line in advices {
        let _ = writeln!(text, "- {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Spike;

    #[test]
    fn names_events_and_gives_each_advice_once() {
        let config = Config::default();
        assert!(report(&[], &config).starts_with("I'm sorry, Dave"));
        let spikes = vec![
            Spike {
                time_s: 1,
                latency_ms: 30,
            },
            Spike {
                time_s: 2,
                latency_ms: 10,
            },
        ];
        let series = Series { spikes, max_ms: 30 };
        let text = report(
            &[("command", series.clone()), ("eviction-del", series)],
            &config,
        );
        assert!(text.contains("1. command: 2 latency spikes (average 20ms, mean deviation 10ms"));
        assert_eq!(text.matches("split them").count(), 1);
    }
}
