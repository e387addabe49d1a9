//! What no single option can check: contradictions between them.
//!
//! Pure: the same configuration always gets the same answer.

use super::Config;
use super::budget::Budget;

/// Checks a configuration that is about to come in force. Returns what to log, or why the
/// configuration is refused, naming the options.
pub fn check(config: &Config) -> Result<Vec<String>, String> {
    let mut notices = Vec::new();
    if config.cluster {
        return Err("cluster-enabled yes is not supported: start with cluster-enabled no".into());
    }
    if config.port == 0 && config.tls.port == 0 && config.network.unix_socket.is_none() {
        return Err(
            "port and tls-port are 0 and unixsocket is not set: configured to not listen anywhere"
                .into(),
        );
    }
    check_directories(config)?;
    let memory = &config.memory;
    if memory.tiering {
        let budget = Budget::new(memory.bytes_max);
        budget.check()?;
        if memory.hot_bytes_max > memory.bytes_max {
            return Err(format!(
                "maxrockmem ({}) is the hot part of maxmemory ({}): it can't be larger",
                memory.hot_bytes_max, memory.bytes_max
            ));
        }
        if memory.process_bytes_max != 0 && memory.process_bytes_max < memory.hot_bytes_max {
            return Err(format!(
                "maxpsmem ({}) can't be less than maxrockmem ({})",
                memory.process_bytes_max, memory.hot_bytes_max
            ));
        }
        if memory.process_bytes_max != 0 && memory.process_bytes_max < budget.least() {
            return Err(format!(
                "maxpsmem ({}) is too small for maxmemory ({}): its parts need at least {} bytes",
                memory.process_bytes_max,
                memory.bytes_max,
                budget.least()
            ));
        }
    } else if config.asks_for_tiering() {
        notices.push("enable-rocksdb-feature has no effect while maxmemory is 0".into());
    }
    if memory.bytes_max > 0 && memory.bytes_max < 1 << 20 && !memory.tiering {
        notices.push(format!(
            "maxmemory is less than 1MB (current value is {} bytes). Are you sure this is what \
             you really want?",
            memory.bytes_max
        ));
    }
    Ok(notices)
}

/// The tier's directory is wiped at start, so that nothing else may live in it.
fn check_directories(config: &Config) -> Result<(), String> {
    if !config.asks_for_tiering() {
        return Ok(());
    }
    let tier = &config.memory.tier_dir;
    let log = config.dir.join(&config.append_only.dir_name);
    let companions = &config.companions;
    let kept = [
        &*config.dir,
        &log,
        &*companions.socket_dir,
        &*companions.backup_dir,
    ];
    match kept.iter().find(|kept| kept.starts_with(tier)) {
        Some(kept) => Err(format!(
            "rockdbdir '{}' is wiped at start: '{}' can't be inside it",
            tier.display(),
            kept.display()
        )),
        None => Ok(()),
    }
}

/// Checks a change by CONFIG SET from `old` to `new`. Returns the option to blame and why.
pub fn check_change(old: &Config, new: &Config) -> Result<Vec<String>, (&'static str, String)> {
    if old.memory.tiering && new.memory.bytes_max == 0 {
        let why = "maxmemory can't become 0 while enable-rocksdb-feature is in use";
        return Err(("maxmemory", why.into()));
    }
    check(new).map_err(|why| {
        let blamed = ["port", "maxrockmem", "maxpsmem", "maxmemory"];
        let name = blamed
            .into_iter()
            .find(|name| why.starts_with(name))
            .unwrap_or("maxmemory");
        (name, why)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::settings::find;
    use super::*;

    fn config(lines: &[(&str, &str)]) -> Config {
        let mut settings = Settings::new(std::path::Path::new("/data"));
        for (name, value) in lines {
            let (index, _) = find(name.as_bytes()).unwrap();
            let words: Vec<&[u8]> = value.split(' ').map(str::as_bytes).collect();
            settings.set(index, &words, false).unwrap();
        }
        Config::new(settings, None)
    }

    #[test]
    fn defaults_and_a_tiered_128_mb_are_fine() {
        assert_eq!(check(&config(&[])), Ok(vec![]));
        let tiered = [("maxmemory", "128mb"), ("enable-rocksdb-feature", "yes")];
        assert_eq!(check(&config(&tiered)), Ok(vec![]));
        let tls_only = [("port", "0"), ("tls-port", "1")];
        assert_eq!(check(&config(&tls_only)), Ok(vec![]));
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let on = ("enable-rocksdb-feature", "yes");
        for (lines, part) in [
            (
                &[("cluster-enabled", "yes")][..],
                "cluster-enabled yes is not supported",
            ),
            (&[("port", "0")], "configured to not listen anywhere"),
            (
                &[on, ("maxmemory", "64mb")],
                "maxmemory 67108864 is too small",
            ),
            (
                &[on, ("maxmemory", "1gb"), ("maxrockmem", "2gb")],
                "maxrockmem (2147483648)",
            ),
            (
                &[
                    on,
                    ("maxmemory", "1gb"),
                    ("maxrockmem", "2mb"),
                    ("maxpsmem", "1mb"),
                ],
                "maxpsmem (1048576) can't be less",
            ),
            (
                &[on, ("maxmemory", "128mb"), ("maxpsmem", "100mb")],
                "maxpsmem (104857600) is too small",
            ),
            (
                &[on, ("rockdbdir", "/data")],
                "rockdbdir '/data' is wiped at start",
            ),
            (&[on, ("rockdbdir", "/")], "'/data' can't be inside it"),
        ] {
            let error = check(&config(lines)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_feature_that_can_do_nothing_is_told() {
        let notices = check(&config(&[("enable-rocksdb-feature", "yes")])).unwrap();
        assert_eq!(
            notices,
            ["enable-rocksdb-feature has no effect while maxmemory is 0"]
        );
        assert_eq!(check(&config(&[("maxmemory", "1kb")])).unwrap().len(), 1);
    }

    #[test]
    fn maxmemory_stays_above_zero_while_values_are_tiered() {
        let on = ("enable-rocksdb-feature", "yes");
        let old = config(&[on, ("maxmemory", "1gb")]);
        let refused = |new: &[(&str, &str)]| check_change(&old, &config(new)).unwrap_err();
        assert_eq!(refused(&[on]).0, "maxmemory");
        assert_eq!(refused(&[on, ("maxmemory", "1mb")]).0, "maxmemory");
        assert_eq!(
            refused(&[on, ("maxmemory", "1gb"), ("maxrockmem", "2gb")]).0,
            "maxrockmem"
        );
        assert!(check_change(&old, &config(&[on, ("maxmemory", "2gb")])).is_ok());
    }
}
