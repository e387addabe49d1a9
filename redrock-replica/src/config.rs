//! Arguments of the daemon, and the server's settings that concern it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use redrock_daemon::companion_args::CompanionArgs;
use redrock_daemon::disk::{automatic_backlog, automatic_share};
use redrock_daemon::logging::Level;

/// Replication agent of a RedRock server: keeps the links to its replicas and
/// to its master.
#[derive(Debug, Clone, Parser)]
#[command(name = "redrock-replica", version)]
pub struct Arguments {
    #[command(flatten)]
    pub companion: CompanionArgs,

    /// Port of /metrics, /healthz and /readyz on 127.0.0.1; 0: none.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub metrics_port: u16,
}

/// Settings as in redis.conf, as far as they concern the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub repl_timeout: Duration,
    /// `None`: off.
    pub tcp_keepalive: Option<Duration>,
    pub repl_disable_tcp_nodelay: bool,
    /// `repl-backlog-size` in bytes: the least where the next one is automatic.
    pub backlog_bytes_min: u64,
    /// `repl-backlog-disk-size` in bytes; `None`: by the size of the disk.
    pub backlog_disk_bytes: Option<u64>,
    /// `repl-spool-disk-size`, likewise.
    pub spool_disk_bytes: Option<u64>,
    pub appenddirname: String,
    pub masteruser: String,
    pub masterauth: Vec<u8>,
    pub port: u16,
    pub replica_announce_port: u16,
    pub replica_announce_ip: String,
    /// `bind-source-addr`; empty: the system's choice.
    pub bind_source_addr: String,
    /// Links to masters are encrypted, and ours are told `tls_port`.
    pub tls_replication: bool,
    pub tls_port: u16,
    /// How; paths may be relative to the data directory.
    pub tls: redrock_tls::Options,
    pub log_level: Option<Level>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            repl_timeout: Duration::from_secs(60),
            tcp_keepalive: Some(Duration::from_secs(300)),
            repl_disable_tcp_nodelay: false,
            backlog_bytes_min: 1 << 20,
            backlog_disk_bytes: None,
            spool_disk_bytes: None,
            appenddirname: "appendonlydir".to_owned(),
            masteruser: String::new(),
            masterauth: Vec::new(),
            port: 6379,
            replica_announce_port: 0,
            replica_announce_ip: String::new(),
            bind_source_addr: String::new(),
            tls_replication: false,
            tls_port: 0,
            tls: redrock_tls::Options::default(),
            log_level: None,
        }
    }
}

impl Settings {
    /// Takes one setting as CONFIG GET shows it. The server has checked it, so
    /// what can't be read (a newer form) is told and the former value stays.
    pub fn apply(&mut self, name: &str, value: &str) {
        if self.try_apply(name, value).is_none() {
            tracing::warn!(name, "a setting's value isn't understood");
        }
    }

    fn try_apply(&mut self, name: &str, value: &str) -> Option<()> {
        match READ.iter().find(|(known, _)| *known == name) {
            Some((_, read)) => read(self, value),
            None => Some(()),
        }
    }

    /// The names of the settings that concern the agent: all it asks the server for.
    pub fn names() -> impl Iterator<Item = &'static str> {
        READ.iter().map(|(name, _)| *name)
    }

    /// The port that we tell our master.
    pub fn listening_port(&self) -> u16 {
        match (self.replica_announce_port, self.tls_port) {
            (0, 0) => self.port,
            (0, port) if self.tls_replication => port,
            (0, _) => self.port,
            (port, _) => port,
        }
    }

    /// Disk for what replicas still need.
    pub fn backlog_bytes(&self, data_dir: &Path) -> u64 {
        self.backlog_disk_bytes
            .unwrap_or_else(|| automatic_backlog(data_dir, self.backlog_bytes_min))
    }

    /// Disk for what our master sent and the server has not applied.
    pub fn spool_bytes(&self, data_dir: &Path) -> u64 {
        self.spool_disk_bytes
            .unwrap_or_else(|| automatic_share(data_dir))
    }
}

/// Reads the text of one setting.
type Read = fn(&mut Settings, &str) -> Option<()>;

/// The settings that concern the agent.
const READ: &[(&str, Read)] = &[
    ("repl-timeout", |s, text| {
        set(
            &mut s.repl_timeout,
            seconds(text).filter(|time| !time.is_zero()),
        )
    }),
    ("tcp-keepalive", |s, text| {
        let time = seconds(text)?;
        s.tcp_keepalive = Some(time).filter(|time| !time.is_zero());
        Some(())
    }),
    ("repl-disable-tcp-nodelay", |s, text| {
        set(&mut s.repl_disable_tcp_nodelay, Some(text == "yes"))
    }),
    ("repl-backlog-size", |s, text| {
        set(
            &mut s.backlog_bytes_min,
            redrock_daemon::size::parse_size(text.as_bytes()),
        )
    }),
    ("repl-backlog-disk-size", |s, text| {
        set(&mut s.backlog_disk_bytes, parse_size(text))
    }),
    ("repl-spool-disk-size", |s, text| {
        set(&mut s.spool_disk_bytes, parse_size(text))
    }),
    ("appenddirname", |s, text| {
        set(&mut s.appenddirname, Some(text.to_owned()))
    }),
    ("masteruser", |s, text| {
        set(&mut s.masteruser, Some(text.to_owned()))
    }),
    ("masterauth", |s, text| {
        set(&mut s.masterauth, Some(text.as_bytes().to_vec()))
    }),
    ("port", |s, text| set(&mut s.port, text.parse().ok())),
    ("replica-announce-port", |s, text| {
        set(&mut s.replica_announce_port, text.parse().ok())
    }),
    ("replica-announce-ip", |s, text| {
        set(&mut s.replica_announce_ip, Some(text.to_owned()))
    }),
    ("bind-source-addr", |s, text| {
        set(&mut s.bind_source_addr, Some(text.to_owned()))
    }),
    ("tls-replication", |s, text| {
        set(&mut s.tls_replication, Some(text == "yes"))
    }),
    ("tls-port", |s, text| {
        set(&mut s.tls_port, text.parse().ok())
    }),
    ("tls-cert-file", |s, text| path(&mut s.tls.cert_file, text)),
    ("tls-key-file", |s, text| path(&mut s.tls.key_file, text)),
    ("tls-key-file-pass", |s, text| {
        set(&mut s.tls.key_file_pass, Some(filled(text)))
    }),
    ("tls-client-cert-file", |s, text| {
        path(&mut s.tls.client_cert_file, text)
    }),
    ("tls-client-key-file", |s, text| {
        path(&mut s.tls.client_key_file, text)
    }),
    ("tls-client-key-file-pass", |s, text| {
        set(&mut s.tls.client_key_file_pass, Some(filled(text)))
    }),
    ("tls-ca-cert-file", |s, text| {
        path(&mut s.tls.ca_cert_file, text)
    }),
    ("tls-ca-cert-dir", |s, text| {
        path(&mut s.tls.ca_cert_dir, text)
    }),
    ("tls-protocols", |s, text| {
        set(&mut s.tls.protocols, Some(filled(text)))
    }),
    ("tls-ciphers", |s, text| {
        set(&mut s.tls.ciphers, Some(filled(text)))
    }),
    ("tls-ciphersuites", |s, text| {
        set(&mut s.tls.cipher_suites, Some(filled(text)))
    }),
    ("loglevel", |s, text| {
        set(&mut s.log_level, text.parse().ok().map(Some))
    }),
];

fn set<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
}

/// An option that is not set while it is empty.
fn filled(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn path(slot: &mut Option<PathBuf>, text: &str) -> Option<()> {
    *slot = filled(text).map(PathBuf::from);
    Some(())
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

/// Bytes with Redis's units; `Some(None)` for an automatic size.
fn parse_size(value: &str) -> Option<Option<u64>> {
    let value = value.trim().to_ascii_lowercase();
    if matches!(value.as_str(), "" | "0" | "auto" | "automatic") {
        return Some(None);
    }
    redrock_daemon::size::parse_size(value.as_bytes()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_as_config_get_shows_them() {
        let mut settings = Settings::default();
        for (name, value) in [
            ("repl-timeout", "7"),
            ("tcp-keepalive", "0"),
            ("repl-spool-disk-size", "3mb"),
            ("repl-backlog-disk-size", "0"),
            ("port", "7000"),
            ("masterauth", "secret"),
            ("tls-replication", "yes"),
            ("tls-key-file", "k.pem"),
            ("tls-ca-cert-file", ""),
            ("unknown-option", "x"),
        ] {
            settings.apply(name, value);
        }
        assert_eq!(settings.repl_timeout, Duration::from_secs(7));
        assert_eq!(settings.tcp_keepalive, None);
        assert!(settings.tls_replication);
        assert_eq!(settings.tls.key_file, Some("k.pem".into()));
        assert_eq!(settings.tls.ca_cert_file, None);
        assert_eq!(settings.spool_bytes(Path::new("/")), 3 << 20);
        assert!(settings.backlog_bytes(Path::new("/")) >= 1 << 30);
        settings.apply("repl-backlog-size", "102400gb");
        assert_eq!(settings.backlog_bytes(Path::new("/")), 100 << 40);
        settings.apply("repl-backlog-disk-size", "2mb");
        assert_eq!(settings.backlog_bytes(Path::new("/")), 2 << 20);
        assert_eq!(settings.listening_port(), 7000);
        settings.apply("tls-port", "7443");
        assert_eq!(settings.listening_port(), 7443);
        settings.apply("tls-replication", "no");
        assert_eq!(settings.listening_port(), 7000);
        settings.apply("replica-announce-port", "7001");
        assert_eq!(settings.listening_port(), 7001);
        settings.apply("repl-timeout", "0");
        assert_eq!(settings.repl_timeout, Duration::from_secs(7));
    }
}
