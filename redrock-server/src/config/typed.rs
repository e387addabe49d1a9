//! The configuration with types: what the rest of the server reads.
//!
//! Made by [`super::build`] from [`Settings`] whenever one of them changes. Relative paths have
//! become absolute: they count from `dir`.

use super::kind::{OutputLimit, SavePoint};
use super::section::Section;
use super::settings::{Directive, Settings};
use crate::value::Limits;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `appendfsync`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Once a second.
    EverySecond,
    /// Before each reply.
    Always,
    /// When the kernel likes.
    No,
}

/// `maxmemory-policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `volatile-lru`
    VolatileLru,
    /// `volatile-lfu`
    VolatileLfu,
    /// `volatile-random`
    VolatileRandom,
    /// `volatile-ttl`
    VolatileTtl,
    /// `allkeys-lru`
    AllKeysLru,
    /// `allkeys-lfu`
    AllKeysLfu,
    /// `allkeys-random`
    AllKeysRandom,
    /// `noeviction`
    NoEviction,
}

/// `loglevel`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// `debug`
    Debug,
    /// `verbose`
    Verbose,
    /// `notice`
    Notice,
    /// `warning`
    Warning,
    /// `nothing`
    Nothing,
}

/// Who may do something dangerous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Loopback and Unix socket clients.
    Local,
}

/// What happens on SIGTERM or SIGINT (`shutdown-on-sigterm`, `shutdown-on-sigint`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownMode {
    /// Save even without save points.
    pub save: bool,
    /// Don't save.
    pub nosave: bool,
    /// Don't wait for replicas.
    pub now: bool,
    /// Go even if the save fails.
    pub force: bool,
}

/// Listening and limits of connections.
#[derive(Debug, Clone)]
pub struct Network {
    /// `bind`; a leading `-` marks an address that may be missing.
    pub bind: Vec<String>,
    /// `bind-source-addr`
    pub source_address: Option<String>,
    /// `protected-mode`
    pub protected_mode: bool,
    /// `tcp-backlog`
    pub backlog: u32,
    /// `unixsocket`, absolute
    pub unix_socket: Option<PathBuf>,
    /// `unixsocketperm`; 0 leaves what the umask gives
    pub unix_socket_mode: u32,
    /// `timeout`; 0 is never
    pub idle_timeout_s: u64,
    /// `tcp-keepalive`; 0 is off
    pub keepalive_s: u32,
    /// `maxclients`
    pub clients_max: usize,
    /// `client-output-buffer-limit normal`
    pub normal_limit: OutputLimit,
    /// `client-output-buffer-limit replica`
    pub replica_limit: OutputLimit,
    /// `client-output-buffer-limit pubsub`
    pub pubsub_limit: OutputLimit,
    /// `client-query-buffer-limit`
    pub query_buffer_bytes_max: usize,
    /// `maxmemory-clients`: 0 none, negative a percentage of `maxmemory`, else bytes
    pub clients_memory: i64,
}

/// TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// `tls-port`; 0 is off
    pub port: u16,
    /// `tls-replication`
    pub replication: bool,
    /// `tls-cluster`: for MIGRATE
    pub cluster: bool,
    /// The options that make up a context.
    pub context: redrock_tls::Options,
}

impl Tls {
    /// Whether anything needs a context.
    pub fn is_used(&self) -> bool {
        self.port != 0 || self.replication || self.cluster
    }
}

/// Passwords, users, dangerous commands.
#[derive(Debug, Clone)]
pub struct Security {
    /// `requirepass`; `None` is no password
    pub password: Option<Vec<u8>>,
    /// `aclfile`
    pub acl_file: Option<PathBuf>,
    /// `acllog-max-len`
    pub acl_log_entries_max: usize,
    /// `acl-pubsub-default allchannels`
    pub all_channels_by_default: bool,
    /// `enable-debug-command`
    pub debug_command: Allowed,
    /// `rename-command` and `user` lines
    pub directives: Arc<Vec<Directive>>,
}

/// Memory, eviction, tiering.
#[derive(Debug, Clone)]
pub struct Memory {
    /// `maxmemory`; 0 is no limit
    pub bytes_max: u64,
    /// `maxmemory-policy`
    pub policy: Policy,
    /// `maxmemory-samples`
    pub samples: usize,
    /// `maxmemory-eviction-tenacity`, 0 to 100
    pub tenacity: u32,
    /// `maxmemory` > 0 and `enable-rocksdb-feature yes`: values are tiered
    pub tiering: bool,
    /// `maxmemory-only-for-rocksdb`: the bound holds in every phase
    pub strict: bool,
    /// `rockdbdir`, absolute
    pub tier_dir: PathBuf,
    /// `max-hope-hot-keys`
    pub hot_keys_min: u64,
    /// `maxrockmem`: the hot budget inside the bound; 0 is automatic
    pub hot_bytes_max: u64,
    /// `maxpsmem`: writes are refused above this process memory; 0 is automatic
    pub process_bytes_max: u64,
    /// `hash-max-rock-entries`: collections of more elements are tiered in pages; 0 is automatic
    pub paged_entries_min: usize,
    /// `lfu-log-factor`
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`, minutes
    pub lfu_decay_min: u32,
    /// `active-expire-effort`, 1 to 10
    pub expire_effort: u32,
    /// `lazyfree-lazy-eviction`: what is evicted leaves the log as UNLINK
    pub lazy_eviction: bool,
    /// `lazyfree-lazy-expire`, likewise for what expires
    pub lazy_expire: bool,
    /// `lazyfree-lazy-server-del`, likewise for what commands delete on their way
    pub lazy_server_delete: bool,
    /// `tracking-table-max-keys`; 0 is no limit
    pub tracking_keys_max: usize,
    /// `disable-thp`: no huge pages for us, whatever the system hands out
    pub without_huge_pages: bool,
    /// `oom-score-adj`: 0 no, 1 relative, 2 absolute
    pub oom_score_mode: u32,
    /// `oom-score-adj-values`: master, replica, companions
    pub oom_scores: [i32; 3],
}

/// Snapshots and where they live.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// `dbfilename`
    pub file_name: String,
    /// `save`
    pub points: Vec<SavePoint>,
    /// `stop-writes-on-bgsave-error`
    pub stop_writes_on_error: bool,
    /// `rdbcompression`
    pub compress: bool,
    /// `rdbchecksum`
    pub checksum: bool,
    /// `rdb-version`
    pub rdb_version: u32,
    /// `rdb-del-sync-files`
    pub delete_sync_files: bool,
    /// `snapshot-rate`, bytes per second of the cold part; `None` is automatic, 0 no limit
    pub rate_bytes: Option<u64>,
    /// `load-anyway`: start even if the data needs more memory than is free
    pub load_anyway: bool,
    /// `warm-restart`: keep what a start needs to go on with the tier as it was
    pub warm_restart: bool,
}

/// The append-only log.
#[derive(Debug, Clone)]
pub struct AppendOnly {
    /// `appendonly`
    pub enabled: bool,
    /// `appendfsync`
    pub fsync: Fsync,
    /// `appendfilename`
    pub file_name: String,
    /// `appenddirname`
    pub dir_name: String,
    /// `no-appendfsync-on-rewrite`
    pub no_fsync_on_rewrite: bool,
    /// `auto-aof-rewrite-percentage`; 0 is off
    pub rewrite_percentage: u64,
    /// `auto-aof-rewrite-min-size`
    pub rewrite_bytes_min: u64,
    /// `aof-load-truncated`
    pub load_truncated: bool,
    /// `aof-disable-auto-gc`
    pub keep_history: bool,
}

/// Replication.
#[derive(Debug, Clone)]
pub struct Replication {
    /// `replicaof`
    pub master: Option<(String, u16)>,
    /// `masteruser`
    pub master_user: Option<String>,
    /// `masterauth`
    pub master_password: Option<Vec<u8>>,
    /// `replica-serve-stale-data`
    pub serve_stale_data: bool,
    /// `replica-read-only`
    pub read_only: bool,
    /// `replica-ignore-maxmemory`
    pub ignore_memory_limit: bool,
    /// `replica-ignore-disk-write-errors`
    pub ignore_disk_errors: bool,
    /// `replica-announced`
    pub announced: bool,
    /// `replica-announce-ip`
    pub announce_ip: Option<String>,
    /// `replica-announce-port`; 0 is the port
    pub announce_port: u16,
    /// `replica-priority`
    pub priority: u32,
    /// `repl-disable-tcp-nodelay`
    pub disable_nodelay: bool,
    /// `repl-timeout`
    pub timeout_s: u64,
    /// `repl-ping-replica-period`
    pub ping_period_s: u64,
    /// `repl-backlog-size`: what an automatic backlog has at least
    pub backlog_bytes_min: u64,
    /// `repl-backlog-disk-size`; 0 is automatic
    pub backlog_bytes_max: u64,
    /// `repl-backlog-disk-ttl`; 0 is forever
    pub backlog_ttl_s: u64,
    /// `repl-spool-disk-size`; 0 is automatic
    pub spool_bytes_max: u64,
    /// `min-replicas-to-write`; 0 is off
    pub replicas_to_write_min: usize,
    /// `min-replicas-max-lag`
    pub lag_s_max: u64,
}

/// Companions, administration, backups.
#[derive(Debug, Clone)]
pub struct Companions {
    /// `companions spawn`: the server starts and supervises them
    pub spawn: bool,
    /// `socket-dir`, absolute
    pub socket_dir: PathBuf,
    /// `admin-addr`
    pub admin_address: Option<String>,
    /// `backup-keep`
    pub backups_kept: usize,
    /// `backup-schedule`
    pub backup_schedule: Option<String>,
    /// `backup-dir`, absolute
    pub backup_dir: PathBuf,
}

/// Logging, statistics, slow log.
#[derive(Debug, Clone)]
pub struct Observation {
    /// `loglevel`
    pub log_level: LogLevel,
    /// `logfile`, absolute; `None` is standard output
    pub log_file: Option<PathBuf>,
    /// `set-proc-title`
    pub set_title: bool,
    /// `proc-title-template`
    pub title_template: String,
    /// `always-show-logo`
    pub show_logo: bool,
    /// `pidfile`, absolute
    pub pid_file: Option<PathBuf>,
    /// `metrics-port`; 0 is off
    pub metrics_port: u16,
    /// `statsd`
    pub statsd: Option<String>,
    /// `slowlog-log-slower-than`, microseconds; negative is off
    pub slow_us_min: i64,
    /// `slowlog-max-len`
    pub slow_entries_max: usize,
    /// `latency-monitor-threshold`, milliseconds; 0 is off
    pub latency_ms_min: u64,
    /// `latency-tracking`
    pub latency_tracking: bool,
    /// `latency-tracking-info-percentiles`
    pub latency_percentiles: Vec<f64>,
    /// `notify-keyspace-events`, see [`crate::notify::Class`]
    pub events: u32,
}

/// Limits of streams and HyperLogLogs.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// `stream-node-max-bytes`; 0 is no limit
    pub node_bytes_max: usize,
    /// `stream-node-max-entries`; 0 is no limit
    pub node_entries_max: usize,
    /// `hll-sparse-max-bytes`
    pub hll_sparse_bytes_max: usize,
}

/// The configuration in force. Immutable: CONFIG SET makes a new one.
#[derive(Debug, Clone)]
pub struct Config {
    /// Encoding thresholds.
    pub limits: Limits,
    /// More of them.
    pub streams: StreamLimits,
    /// `databases`
    pub databases: usize,
    /// `port`; 0 is off
    pub port: u16,
    /// `proto-max-bulk-len`
    pub proto_bulk_bytes_max: usize,
    /// `workers`: threads that serve clients; 0 is automatic
    pub workers: usize,
    /// `dir`, absolute
    pub dir: Arc<Path>,
    /// `daemonize`
    pub daemonize: bool,
    /// `hz`, 1 to 500
    pub hz: u32,
    /// `busy-reply-threshold`: how long a script may run before others get `-BUSY`; 0 is forever
    pub busy_ms: u64,
    /// `shutdown-timeout`
    pub shutdown_timeout_s: u64,
    /// `shutdown-on-sigint`
    pub on_sigint: ShutdownMode,
    /// `shutdown-on-sigterm`
    pub on_sigterm: ShutdownMode,
    /// `cluster-enabled`; refused at start for now
    pub cluster: bool,
    /// Listening and connections.
    pub network: Section<Network>,
    /// TLS.
    pub tls: Section<Tls>,
    /// Passwords and users.
    pub security: Section<Security>,
    /// Memory and tiering.
    pub memory: Section<Memory>,
    /// Snapshots.
    pub snapshot: Section<Snapshot>,
    /// The append-only log.
    pub append_only: Section<AppendOnly>,
    /// Replication.
    pub replication: Section<Replication>,
    /// Companions.
    pub companions: Section<Companions>,
    /// Logging and statistics.
    pub observation: Section<Observation>,
    /// All values by name.
    pub settings: Arc<Settings>,
    /// The file that CONFIG REWRITE rewrites, absolute.
    pub file: Option<Arc<Path>>,
}
