//! From the values by name to the typed configuration.
//!
//! Defaults stand in the table of options only; a name that is not in the table does not compile.
//! A change builds only the sections whose options changed and shares the others.

use super::kind::{OutputLimit, Value};
use super::option_set::OptionSet;
use super::section::{Reader, Section};
use super::settings::Settings;
use super::table::index_of;
use super::typed::*;
use crate::value::Limits;
use redrock_tls::AuthClients;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The value of an option, by a name that is checked when this compiles.
macro_rules! value {
    ($reader:expr, $name:literal) => {
        $reader.value(const { index_of($name) })
    };
}

impl Reader<'_> {
    fn path_in_dir(&self, value: &Value) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt as _;
        let Value::Text(text) = value else {
            return None;
        };
        let text = Path::new(std::ffi::OsStr::from_bytes(text));
        (!text.as_os_str().is_empty()).then(|| self.dir().join(text))
    }

    fn dir(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        match value!(self, "dir") {
            Value::Text(dir) => std::ffi::OsStr::from_bytes(dir).into(),
            _ => PathBuf::new(),
        }
    }
}

fn yes(value: &Value) -> bool {
    *value == Value::Bool(true)
}

fn number<T: TryFrom<i128> + Default>(value: &Value) -> T {
    match value {
        Value::Number(n) => T::try_from(*n).unwrap_or_default(),
        _ => T::default(),
    }
}

fn chosen(value: &Value) -> u32 {
    if let Value::Choice(bits) = value {
        *bits
    } else {
        0
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    bytes(value).map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn shutdown_mode(value: &Value) -> ShutdownMode {
    let bits = chosen(value);
    ShutdownMode {
        save: bits & 1 != 0,
        nosave: bits & 2 != 0,
        now: bits & 4 != 0,
        force: bits & 8 != 0,
    }
}

fn allowed(value: &Value) -> Allowed {
    match chosen(value) {
        1 => Allowed::Yes,
        2 => Allowed::Local,
        _ => Allowed::No,
    }
}

/// What a configuration is built from.
struct Builder<'a> {
    settings: &'a Arc<Settings>,
    /// The configuration before, and what changed since.
    before: Option<(&'a Config, OptionSet)>,
}

impl Builder<'_> {
    /// A section: as it was, or new because an option that it reads changed.
    fn section<T>(
        &self,
        of: fn(&Config) -> &Section<T>,
        build: fn(&Reader<'_>) -> T,
    ) -> Section<T> {
        match &self.before {
            Some((config, changed)) => of(config).after(changed, self.settings, build),
            None => Section::new(self.settings, build),
        }
    }

    fn dir(&self, read: &Reader<'_>) -> Arc<Path> {
        match &self.before {
            Some((config, changed)) if !changed.contains(const { index_of("dir") }) => {
                config.dir.clone()
            }
            _ => read.dir().into(),
        }
    }

    fn build(&self, file: Option<Arc<Path>>) -> Config {
        let read = &Reader::new(self.settings);
        Config {
            limits: limits(read),
            streams: StreamLimits {
                node_bytes_max: number(value!(read, "stream-node-max-bytes")),
                node_entries_max: number(value!(read, "stream-node-max-entries")),
                hll_sparse_bytes_max: number(value!(read, "hll-sparse-max-bytes")),
            },
            databases: number(value!(read, "databases")),
            port: number(value!(read, "port")),
            proto_bulk_bytes_max: number(value!(read, "proto-max-bulk-len")),
            workers: number(value!(read, "workers")),
            dir: self.dir(read),
            daemonize: yes(value!(read, "daemonize")),
            hz: number(value!(read, "hz")),
            busy_ms: number(value!(read, "busy-reply-threshold")),
            shutdown_timeout_s: number(value!(read, "shutdown-timeout")),
            on_sigint: shutdown_mode(value!(read, "shutdown-on-sigint")),
            on_sigterm: shutdown_mode(value!(read, "shutdown-on-sigterm")),
            cluster: yes(value!(read, "cluster-enabled")),
            network: self.section(|config| &config.network, network),
            tls: self.section(|config| &config.tls, tls),
            security: self.section(|config| &config.security, security),
            memory: self.section(|config| &config.memory, memory),
            snapshot: self.section(|config| &config.snapshot, snapshot),
            append_only: self.section(|config| &config.append_only, append_only),
            replication: self.section(|config| &config.replication, replication),
            companions: self.section(|config| &config.companions, companions),
            observation: self.section(|config| &config.observation, observation),
            settings: self.settings.clone(),
            file,
        }
    }
}

impl Config {
    /// Gives types to settings. `file` is what CONFIG REWRITE rewrites.
    pub fn new(settings: Settings, file: Option<PathBuf>) -> Self {
        let settings = Arc::new(settings);
        let before = None;
        Builder {
            settings: &settings,
            before,
        }
        .build(file.map(Arc::from))
    }

    /// This configuration with settings of which `changed` differ.
    pub fn with(&self, settings: Settings, changed: OptionSet) -> Self {
        let settings = Arc::new(settings);
        let before = Some((self, changed));
        Builder {
            settings: &settings,
            before,
        }
        .build(self.file.clone())
    }
}

fn companions(read: &Reader<'_>) -> Companions {
    Companions {
        spawn: chosen(value!(read, "companions")) == 0,
        socket_dir: read
            .path_in_dir(value!(read, "socket-dir"))
            .unwrap_or_else(|| read.dir().join("run")),
        admin_address: text(value!(read, "admin-addr")),
        backups_kept: number(value!(read, "backup-keep")),
        backup_schedule: text(value!(read, "backup-schedule")),
        backup_dir: read
            .path_in_dir(value!(read, "backup-dir"))
            .unwrap_or_else(|| read.dir().join("backup")),
    }
}

impl Config {
    /// Whether tiering is on, provided that there is a `maxmemory`.
    pub fn asks_for_tiering(&self) -> bool {
        yes(value!(self.settings, "enable-rocksdb-feature"))
    }

    /// The port that stands for the server where one is shown: `port`, else `tls-port`.
    pub fn shown_port(&self) -> u16 {
        match self.port {
            0 => self.tls.port,
            port => port,
        }
    }

    /// The port that our master is told.
    pub fn announced_port(&self) -> u16 {
        match (self.replication.announce_port, self.tls.port) {
            (0, 0) => self.port,
            (0, port) if self.tls.replication => port,
            (0, _) => self.port,
            (port, _) => port,
        }
    }
}

impl Default for Config {
    /// All defaults, with the working directory as `dir`.
    fn default() -> Self {
        let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self::new(Settings::new(&dir), None)
    }
}

fn limits(read: &Reader<'_>) -> Limits {
    Limits {
        hash_listpack_entries_max: number(value!(read, "hash-max-listpack-entries")),
        hash_listpack_value_bytes_max: number(value!(read, "hash-max-listpack-value")),
        list_listpack_size: number(value!(read, "list-max-listpack-size")),
        list_compress_depth: number(value!(read, "list-compress-depth")),
        set_intset_entries_max: number(value!(read, "set-max-intset-entries")),
        set_listpack_entries_max: number(value!(read, "set-max-listpack-entries")),
        set_listpack_value_bytes_max: number(value!(read, "set-max-listpack-value")),
        zset_listpack_entries_max: number(value!(read, "zset-max-listpack-entries")),
        zset_listpack_value_bytes_max: number(value!(read, "zset-max-listpack-value")),
    }
}

fn network(read: &Reader<'_>) -> Network {
    let limits = match value!(read, "client-output-buffer-limit") {
        Value::OutputLimits(limits) => *limits,
        _ => [OutputLimit::default(); 3],
    };
    Network {
        bind: match value!(read, "bind") {
            Value::Bind(addresses) => addresses.clone(),
            _ => Vec::new(),
        },
        source_address: text(value!(read, "bind-source-addr")),
        protected_mode: yes(value!(read, "protected-mode")),
        backlog: number(value!(read, "tcp-backlog")),
        unix_socket: read.path_in_dir(value!(read, "unixsocket")),
        unix_socket_mode: number(value!(read, "unixsocketperm")),
        idle_timeout_s: number(value!(read, "timeout")),
        keepalive_s: number(value!(read, "tcp-keepalive")),
        clients_max: number(value!(read, "maxclients")),
        normal_limit: limits[0],
        replica_limit: limits[1],
        pubsub_limit: limits[2],
        query_buffer_bytes_max: number(value!(read, "client-query-buffer-limit")),
        clients_memory: number(value!(read, "maxmemory-clients")),
    }
}

fn tls(read: &Reader<'_>) -> Tls {
    let context = redrock_tls::Options {
        cert_file: read.path_in_dir(value!(read, "tls-cert-file")),
        key_file: read.path_in_dir(value!(read, "tls-key-file")),
        key_file_pass: text(value!(read, "tls-key-file-pass")),
        client_cert_file: read.path_in_dir(value!(read, "tls-client-cert-file")),
        client_key_file: read.path_in_dir(value!(read, "tls-client-key-file")),
        client_key_file_pass: text(value!(read, "tls-client-key-file-pass")),
        ca_cert_file: read.path_in_dir(value!(read, "tls-ca-cert-file")),
        ca_cert_dir: read.path_in_dir(value!(read, "tls-ca-cert-dir")),
        auth_clients: match chosen(value!(read, "tls-auth-clients")) {
            0 => AuthClients::No,
            1 => AuthClients::Yes,
            _ => AuthClients::Optional,
        },
        protocols: text(value!(read, "tls-protocols")),
        ciphers: text(value!(read, "tls-ciphers")),
        cipher_suites: text(value!(read, "tls-ciphersuites")),
        prefer_server_ciphers: yes(value!(read, "tls-prefer-server-ciphers")),
        session_caching: yes(value!(read, "tls-session-caching")),
        session_cache_size: number(value!(read, "tls-session-cache-size")),
        session_cache_timeout_s: number(value!(read, "tls-session-cache-timeout")),
    };
    Tls {
        port: number(value!(read, "tls-port")),
        replication: yes(value!(read, "tls-replication")),
        cluster: yes(value!(read, "tls-cluster")),
        context,
    }
}

fn security(read: &Reader<'_>) -> Security {
    Security {
        password: bytes(value!(read, "requirepass")),
        acl_file: read.path_in_dir(value!(read, "aclfile")),
        acl_log_entries_max: number(value!(read, "acllog-max-len")),
        all_channels_by_default: chosen(value!(read, "acl-pubsub-default")) == 1,
        debug_command: allowed(value!(read, "enable-debug-command")),
        directives: read.directives(),
    }
}

fn memory(read: &Reader<'_>) -> Memory {
    let bytes_max = number(value!(read, "maxmemory"));
    Memory {
        bytes_max,
        policy: match chosen(value!(read, "maxmemory-policy")) {
            0 => Policy::VolatileLru,
            1 => Policy::VolatileLfu,
            2 => Policy::VolatileRandom,
            3 => Policy::VolatileTtl,
            4 => Policy::AllKeysLru,
            5 => Policy::AllKeysLfu,
            6 => Policy::AllKeysRandom,
            _ => Policy::NoEviction,
        },
        samples: number(value!(read, "maxmemory-samples")),
        tenacity: number(value!(read, "maxmemory-eviction-tenacity")),
        tiering: bytes_max > 0 && yes(value!(read, "enable-rocksdb-feature")),
        strict: yes(value!(read, "maxmemory-only-for-rocksdb")),
        tier_dir: read
            .path_in_dir(value!(read, "rockdbdir"))
            .unwrap_or_else(|| read.dir().join("tier")),
        hot_keys_min: number(value!(read, "max-hope-hot-keys")),
        hot_bytes_max: number(value!(read, "maxrockmem")),
        process_bytes_max: number(value!(read, "maxpsmem")),
        paged_entries_min: number(value!(read, "hash-max-rock-entries")),
        lfu_log_factor: number(value!(read, "lfu-log-factor")),
        lfu_decay_min: number(value!(read, "lfu-decay-time")),
        expire_effort: number(value!(read, "active-expire-effort")),
        lazy_eviction: yes(value!(read, "lazyfree-lazy-eviction")),
        lazy_expire: yes(value!(read, "lazyfree-lazy-expire")),
        lazy_server_delete: yes(value!(read, "lazyfree-lazy-server-del")),
        tracking_keys_max: number(value!(read, "tracking-table-max-keys")),
        without_huge_pages: yes(value!(read, "disable-thp")),
        oom_score_mode: chosen(value!(read, "oom-score-adj")),
        oom_scores: match value!(read, "oom-score-adj-values") {
            Value::OomScores(scores) => *scores,
            _ => [0; 3],
        },
    }
}

fn snapshot(read: &Reader<'_>) -> Snapshot {
    let rate = text(value!(read, "snapshot-rate")).filter(|rate| rate != "auto");
    Snapshot {
        file_name: text(value!(read, "dbfilename")).unwrap_or_default(),
        points: match value!(read, "save") {
            Value::Save(points) => points.clone(),
            _ => Vec::new(),
        },
        stop_writes_on_error: yes(value!(read, "stop-writes-on-bgsave-error")),
        compress: yes(value!(read, "rdbcompression")),
        checksum: yes(value!(read, "rdbchecksum")),
        rdb_version: number(value!(read, "rdb-version")),
        delete_sync_files: yes(value!(read, "rdb-del-sync-files")),
        rate_bytes: rate.and_then(|rate| super::kind::parse_memory(rate.as_bytes())),
        load_anyway: yes(value!(read, "load-anyway")),
        warm_restart: yes(value!(read, "warm-restart")),
    }
}

fn append_only(read: &Reader<'_>) -> AppendOnly {
    AppendOnly {
        enabled: yes(value!(read, "appendonly")),
        fsync: match chosen(value!(read, "appendfsync")) {
            1 => Fsync::Always,
            2 => Fsync::No,
            _ => Fsync::EverySecond,
        },
        file_name: text(value!(read, "appendfilename")).unwrap_or_default(),
        dir_name: text(value!(read, "appenddirname")).unwrap_or_default(),
        no_fsync_on_rewrite: yes(value!(read, "no-appendfsync-on-rewrite")),
        rewrite_percentage: number(value!(read, "auto-aof-rewrite-percentage")),
        rewrite_bytes_min: number(value!(read, "auto-aof-rewrite-min-size")),
        load_truncated: yes(value!(read, "aof-load-truncated")),
        keep_history: yes(value!(read, "aof-disable-auto-gc")),
    }
}

fn replication(read: &Reader<'_>) -> Replication {
    Replication {
        master: match value!(read, "replicaof") {
            Value::ReplicaOf(master) => master.clone(),
            _ => None,
        },
        master_user: text(value!(read, "masteruser")),
        master_password: bytes(value!(read, "masterauth")),
        serve_stale_data: yes(value!(read, "replica-serve-stale-data")),
        read_only: yes(value!(read, "replica-read-only")),
        ignore_memory_limit: yes(value!(read, "replica-ignore-maxmemory")),
        ignore_disk_errors: yes(value!(read, "replica-ignore-disk-write-errors")),
        announced: yes(value!(read, "replica-announced")),
        announce_ip: text(value!(read, "replica-announce-ip")),
        announce_port: number(value!(read, "replica-announce-port")),
        priority: number(value!(read, "replica-priority")),
        disable_nodelay: yes(value!(read, "repl-disable-tcp-nodelay")),
        timeout_s: number(value!(read, "repl-timeout")),
        ping_period_s: number(value!(read, "repl-ping-replica-period")),
        backlog_bytes_min: number(value!(read, "repl-backlog-size")),
        backlog_bytes_max: number(value!(read, "repl-backlog-disk-size")),
        backlog_ttl_s: number(value!(read, "repl-backlog-disk-ttl")),
        spool_bytes_max: number(value!(read, "repl-spool-disk-size")),
        replicas_to_write_min: number(value!(read, "min-replicas-to-write")),
        lag_s_max: number(value!(read, "min-replicas-max-lag")),
    }
}

fn observation(read: &Reader<'_>) -> Observation {
    Observation {
        log_level: match chosen(value!(read, "loglevel")) {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            3 => LogLevel::Warning,
            _ => LogLevel::Nothing,
        },
        log_file: read.path_in_dir(value!(read, "logfile")),
        set_title: yes(value!(read, "set-proc-title")),
        title_template: text(value!(read, "proc-title-template")).unwrap_or_default(),
        show_logo: yes(value!(read, "always-show-logo")),
        pid_file: read.path_in_dir(value!(read, "pidfile")),
        metrics_port: number(value!(read, "metrics-port")),
        statsd: text(value!(read, "statsd")),
        slow_us_min: number(value!(read, "slowlog-log-slower-than")),
        slow_entries_max: number(value!(read, "slowlog-max-len")),
        latency_ms_min: number(value!(read, "latency-monitor-threshold")),
        latency_tracking: yes(value!(read, "latency-tracking")),
        latency_percentiles: match value!(read, "latency-tracking-info-percentiles") {
            Value::Percentiles(percentiles) => percentiles.clone(),
            _ => Vec::new(),
        },
        events: match value!(read, "notify-keyspace-events") {
            Value::Events(mask) => *mask,
            _ => 0,
        },
    }
}
