//! From the values by name to the typed configuration.
//!
//! Defaults stand in the table of options only; a name that is not in the table does not compile.

use super::kind::{OutputLimit, Value};
use super::settings::Settings;
use super::table::index_of;
use super::typed::*;
use crate::value::Limits;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The value of an option, by a name that is checked when this compiles.
macro_rules! value {
    ($settings:expr, $name:literal) => {
        $settings.value(const { index_of($name) })
    };
}

/// Reads typed values of one set of settings.
struct Reader<'a>(&'a Settings);

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
        match value!(self.0, "dir") {
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

impl Config {
    /// Gives types to settings. `file` is what CONFIG REWRITE rewrites.
    pub fn new(settings: Settings, file: Option<PathBuf>) -> Self {
        let s = &settings;
        let read = Reader(s);
        Self {
            limits: limits(s),
            streams: StreamLimits {
                node_bytes_max: number(value!(s, "stream-node-max-bytes")),
                node_entries_max: number(value!(s, "stream-node-max-entries")),
                hll_sparse_bytes_max: number(value!(s, "hll-sparse-max-bytes")),
            },
            databases: number(value!(s, "databases")),
            port: number(value!(s, "port")),
            proto_bulk_bytes_max: number(value!(s, "proto-max-bulk-len")),
            workers: number(value!(s, "workers")),
            dir: read.dir(),
            daemonize: yes(value!(s, "daemonize")),
            hz: number(value!(s, "hz")),
            busy_ms: number(value!(s, "busy-reply-threshold")),
            shutdown_timeout_s: number(value!(s, "shutdown-timeout")),
            on_sigint: shutdown_mode(value!(s, "shutdown-on-sigint")),
            on_sigterm: shutdown_mode(value!(s, "shutdown-on-sigterm")),
            cluster: yes(value!(s, "cluster-enabled")),
            network: network(&read),
            tls: tls(&read),
            security: security(&read),
            memory: memory(&read),
            snapshot: snapshot(s),
            append_only: append_only(s),
            replication: replication(s),
            companions: Companions {
                spawn: chosen(value!(s, "companions")) == 0,
                socket_dir: read
                    .path_in_dir(value!(s, "socket-dir"))
                    .unwrap_or_else(|| read.dir().join("run")),
                admin_address: text(value!(s, "admin-addr")),
                backups_kept: number(value!(s, "backup-keep")),
                backup_schedule: text(value!(s, "backup-schedule")),
            },
            observation: observation(&read),
            settings: Arc::new(settings),
            file,
        }
    }
}

impl Config {
    /// Whether the yes-no option of this name is on.
    pub(super) fn is_yes(&self, name: &str) -> bool {
        super::settings::find(name.as_bytes()).is_some_and(|(i, _)| yes(self.settings.value(i)))
    }
}

impl Default for Config {
    /// All defaults, with the working directory as `dir`.
    fn default() -> Self {
        let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self::new(Settings::new(&dir), None)
    }
}

fn limits(s: &Settings) -> Limits {
    Limits {
        hash_listpack_entries_max: number(value!(s, "hash-max-listpack-entries")),
        hash_listpack_value_bytes_max: number(value!(s, "hash-max-listpack-value")),
        list_listpack_size: number(value!(s, "list-max-listpack-size")),
        list_compress_depth: number(value!(s, "list-compress-depth")),
        set_intset_entries_max: number(value!(s, "set-max-intset-entries")),
        set_listpack_entries_max: number(value!(s, "set-max-listpack-entries")),
        set_listpack_value_bytes_max: number(value!(s, "set-max-listpack-value")),
        zset_listpack_entries_max: number(value!(s, "zset-max-listpack-entries")),
        zset_listpack_value_bytes_max: number(value!(s, "zset-max-listpack-value")),
    }
}

fn network(read: &Reader<'_>) -> Network {
    let s = read.0;
    let limits = match value!(s, "client-output-buffer-limit") {
        Value::OutputLimits(limits) => *limits,
        _ => [OutputLimit::default(); 3],
    };
    Network {
        bind: match value!(s, "bind") {
            Value::Bind(addresses) => addresses.clone(),
            _ => Vec::new(),
        },
        source_address: text(value!(s, "bind-source-addr")),
        protected_mode: yes(value!(s, "protected-mode")),
        backlog: number(value!(s, "tcp-backlog")),
        unix_socket: read.path_in_dir(value!(s, "unixsocket")),
        unix_socket_mode: number(value!(s, "unixsocketperm")),
        idle_timeout_s: number(value!(s, "timeout")),
        keepalive_s: number(value!(s, "tcp-keepalive")),
        clients_max: number(value!(s, "maxclients")),
        normal_limit: limits[0],
        replica_limit: limits[1],
        pubsub_limit: limits[2],
        query_buffer_bytes_max: number(value!(s, "client-query-buffer-limit")),
        clients_memory: number(value!(s, "maxmemory-clients")),
    }
}

fn tls(read: &Reader<'_>) -> Tls {
    let s = read.0;
    Tls {
        port: number(value!(s, "tls-port")),
        cert_file: read.path_in_dir(value!(s, "tls-cert-file")),
        key_file: read.path_in_dir(value!(s, "tls-key-file")),
        key_file_pass: text(value!(s, "tls-key-file-pass")),
        client_cert_file: read.path_in_dir(value!(s, "tls-client-cert-file")),
        client_key_file: read.path_in_dir(value!(s, "tls-client-key-file")),
        ca_cert_file: read.path_in_dir(value!(s, "tls-ca-cert-file")),
        ca_cert_dir: read.path_in_dir(value!(s, "tls-ca-cert-dir")),
        auth_clients: match chosen(value!(s, "tls-auth-clients")) {
            0 => TlsClients::No,
            1 => TlsClients::Yes,
            _ => TlsClients::Optional,
        },
        replication: yes(value!(s, "tls-replication")),
        protocols: text(value!(s, "tls-protocols")),
        ciphers: text(value!(s, "tls-ciphers")),
        cipher_suites: text(value!(s, "tls-ciphersuites")),
    }
}

fn security(read: &Reader<'_>) -> Security {
    let s = read.0;
    Security {
        password: bytes(value!(s, "requirepass")),
        acl_file: read.path_in_dir(value!(s, "aclfile")),
        acl_log_entries_max: number(value!(s, "acllog-max-len")),
        all_channels_by_default: chosen(value!(s, "acl-pubsub-default")) == 1,
        debug_command: allowed(value!(s, "enable-debug-command")),
        directives: s.directives.clone(),
    }
}

fn memory(read: &Reader<'_>) -> Memory {
    let s = read.0;
    let bytes_max = number(value!(s, "maxmemory"));
    Memory {
        bytes_max,
        policy: match chosen(value!(s, "maxmemory-policy")) {
            0 => Policy::VolatileLru,
            1 => Policy::VolatileLfu,
            2 => Policy::VolatileRandom,
            3 => Policy::VolatileTtl,
            4 => Policy::AllKeysLru,
            5 => Policy::AllKeysLfu,
            6 => Policy::AllKeysRandom,
            _ => Policy::NoEviction,
        },
        samples: number(value!(s, "maxmemory-samples")),
        tenacity: number(value!(s, "maxmemory-eviction-tenacity")),
        tiering: bytes_max > 0 && yes(value!(s, "enable-rocksdb-feature")),
        strict: yes(value!(s, "maxmemory-only-for-rocksdb")),
        tier_dir: read
            .path_in_dir(value!(s, "rockdbdir"))
            .unwrap_or_else(|| read.dir().join("tier")),
        hot_keys_min: number(value!(s, "max-hope-hot-keys")),
        hot_bytes_max: number(value!(s, "maxrockmem")),
        process_bytes_max: number(value!(s, "maxpsmem")),
        paged_entries_min: number(value!(s, "hash-max-rock-entries")),
        lfu_log_factor: number(value!(s, "lfu-log-factor")),
        lfu_decay_min: number(value!(s, "lfu-decay-time")),
        expire_effort: number(value!(s, "active-expire-effort")),
        lazy_eviction: yes(value!(s, "lazyfree-lazy-eviction")),
        lazy_expire: yes(value!(s, "lazyfree-lazy-expire")),
        lazy_server_delete: yes(value!(s, "lazyfree-lazy-server-del")),
        tracking_keys_max: number(value!(s, "tracking-table-max-keys")),
        oom_score_mode: chosen(value!(s, "oom-score-adj")),
        oom_scores: match value!(s, "oom-score-adj-values") {
            Value::OomScores(scores) => *scores,
            _ => [0; 3],
        },
    }
}

fn snapshot(s: &Settings) -> Snapshot {
    let rate = text(value!(s, "snapshot-rate")).filter(|rate| rate != "auto");
    Snapshot {
        file_name: text(value!(s, "dbfilename")).unwrap_or_default(),
        points: match value!(s, "save") {
            Value::Save(points) => points.clone(),
            _ => Vec::new(),
        },
        stop_writes_on_error: yes(value!(s, "stop-writes-on-bgsave-error")),
        compress: yes(value!(s, "rdbcompression")),
        checksum: yes(value!(s, "rdbchecksum")),
        rdb_version: number(value!(s, "rdb-version")),
        delete_sync_files: yes(value!(s, "rdb-del-sync-files")),
        rate_bytes: rate.and_then(|rate| super::kind::parse_memory(rate.as_bytes())),
        load_anyway: yes(value!(s, "load-anyway")),
    }
}

fn append_only(s: &Settings) -> AppendOnly {
    AppendOnly {
        enabled: yes(value!(s, "appendonly")),
        fsync: match chosen(value!(s, "appendfsync")) {
            1 => Fsync::Always,
            2 => Fsync::No,
            _ => Fsync::EverySecond,
        },
        file_name: text(value!(s, "appendfilename")).unwrap_or_default(),
        dir_name: text(value!(s, "appenddirname")).unwrap_or_default(),
        no_fsync_on_rewrite: yes(value!(s, "no-appendfsync-on-rewrite")),
        rewrite_percentage: number(value!(s, "auto-aof-rewrite-percentage")),
        rewrite_bytes_min: number(value!(s, "auto-aof-rewrite-min-size")),
        load_truncated: yes(value!(s, "aof-load-truncated")),
        keep_history: yes(value!(s, "aof-disable-auto-gc")),
    }
}

fn replication(s: &Settings) -> Replication {
    Replication {
        master: match value!(s, "replicaof") {
            Value::ReplicaOf(master) => master.clone(),
            _ => None,
        },
        master_user: text(value!(s, "masteruser")),
        master_password: bytes(value!(s, "masterauth")),
        serve_stale_data: yes(value!(s, "replica-serve-stale-data")),
        read_only: yes(value!(s, "replica-read-only")),
        ignore_memory_limit: yes(value!(s, "replica-ignore-maxmemory")),
        ignore_disk_errors: yes(value!(s, "replica-ignore-disk-write-errors")),
        announced: yes(value!(s, "replica-announced")),
        announce_ip: text(value!(s, "replica-announce-ip")),
        announce_port: number(value!(s, "replica-announce-port")),
        priority: number(value!(s, "replica-priority")),
        disable_nodelay: yes(value!(s, "repl-disable-tcp-nodelay")),
        timeout_s: number(value!(s, "repl-timeout")),
        ping_period_s: number(value!(s, "repl-ping-replica-period")),
        backlog_bytes_max: number(value!(s, "repl-backlog-disk-size")),
        backlog_ttl_s: number(value!(s, "repl-backlog-disk-ttl")),
        spool_bytes_max: number(value!(s, "repl-spool-disk-size")),
        replicas_to_write_min: number(value!(s, "min-replicas-to-write")),
        lag_s_max: number(value!(s, "min-replicas-max-lag")),
    }
}

fn observation(read: &Reader<'_>) -> Observation {
    let s = read.0;
    Observation {
        log_level: match chosen(value!(s, "loglevel")) {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            3 => LogLevel::Warning,
            _ => LogLevel::Nothing,
        },
        log_file: read.path_in_dir(value!(s, "logfile")),
        set_title: yes(value!(s, "set-proc-title")),
        title_template: text(value!(s, "proc-title-template")).unwrap_or_default(),
        show_logo: yes(value!(s, "always-show-logo")),
        pid_file: read.path_in_dir(value!(s, "pidfile")),
        metrics_port: number(value!(s, "metrics-port")),
        statsd: text(value!(s, "statsd")),
        slow_us_min: number(value!(s, "slowlog-log-slower-than")),
        slow_entries_max: number(value!(s, "slowlog-max-len")),
        latency_ms_min: number(value!(s, "latency-monitor-threshold")),
        latency_tracking: yes(value!(s, "latency-tracking")),
        latency_percentiles: match value!(s, "latency-tracking-info-percentiles") {
            Value::Percentiles(percentiles) => percentiles.clone(),
            _ => Vec::new(),
        },
        events: match value!(s, "notify-keyspace-events") {
            Value::Events(mask) => *mask,
            _ => 0,
        },
    }
}
