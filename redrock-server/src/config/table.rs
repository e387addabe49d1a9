//! The one table of options: every option of Redis 7.2's redis.conf, and RedRock's own.
//!
//! Names, bounds and defaults are Redis's. Parsing, CONFIG GET, SET and REWRITE, the environment
//! and the command line read these records; [`super::Config`] gives them types.

use super::kind::{Kind, Unit};
use super::option::{OptionSpec, bytes, choice, flag, number, special, text, unset, yes_no};
use redrock_daemon::schedule::Schedule;

const INT: i128 = i32::MAX as i128;
const LONG: i128 = i64::MAX as i128;
const UINT: i128 = u32::MAX as i128;
const ULONG: i128 = u64::MAX as i128;
const MIB: i128 = 1 << 20;

/// Names of `loglevel`.
pub const LOG_LEVELS: &[(&str, u32)] = &[
    ("debug", 0),
    ("verbose", 1),
    ("notice", 2),
    ("warning", 3),
    ("nothing", 4),
];
const POLICIES: &[(&str, u32)] = &[
    ("volatile-lru", 0),
    ("volatile-lfu", 1),
    ("volatile-random", 2),
    ("volatile-ttl", 3),
    ("allkeys-lru", 4),
    ("allkeys-lfu", 5),
    ("allkeys-random", 6),
    ("noeviction", 7),
];
const FSYNC: &[(&str, u32)] = &[("everysec", 0), ("always", 1), ("no", 2)];
const SUPERVISED: &[(&str, u32)] = &[("upstart", 0), ("systemd", 1), ("auto", 2), ("no", 3)];
const FACILITIES: &[(&str, u32)] = &[
    ("user", 8),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const SHUTDOWN: &[(&str, u32)] = &[
    ("default", 0),
    ("save", 1),
    ("nosave", 2),
    ("now", 4),
    ("force", 8),
];
const DISKLESS_LOAD: &[(&str, u32)] = &[("disabled", 0), ("on-empty-db", 1), ("swapdb", 2)];
const NO_YES_OPTIONAL: &[(&str, u32)] = &[("no", 0), ("yes", 1), ("optional", 2)];
const OOM_SCORE: &[(&str, u32)] = &[("no", 0), ("yes", 1), ("relative", 1), ("absolute", 2)];
const PUBSUB_DEFAULT: &[(&str, u32)] = &[("allchannels", 1), ("resetchannels", 0)];
const SANITIZE: &[(&str, u32)] = &[("no", 0), ("yes", 1), ("clients", 2)];
const PROTECTED_ACTION: &[(&str, u32)] = &[("no", 0), ("yes", 1), ("local", 2)];
const ENDPOINT: &[(&str, u32)] = &[("ip", 0), ("hostname", 1), ("unknown-endpoint", 2)];
const PROPAGATION: &[(&str, u32)] = &[("ignore", 0), ("panic", 1), ("panic-on-replicas", 2)];
const COMPANIONS: &[(&str, u32)] = &[("spawn", 0), ("external", 1)];

/// All options.
pub const OPTIONS: &[OptionSpec] = &[
    // Network.
    special("bind", Kind::Bind, "* -::*").with(flag::MULTI),
    unset("bind-source-addr"),
    yes_no("protected-mode", true),
    choice("enable-protected-configs", "no", PROTECTED_ACTION).start_only(),
    choice("enable-debug-command", "no", PROTECTED_ACTION).start_only(),
    choice("enable-module-command", "no", PROTECTED_ACTION)
        .start_only()
        .no_effect(),
    number("port", "6379", 0, 65535),
    number("tcp-backlog", "511", 0, INT).start_only(),
    unset("unixsocket").start_only(),
    special(
        "unixsocketperm",
        Kind::Number {
            min: 0,
            max: 0o777,
            unit: Unit::Octal,
        },
        "0",
    )
    .start_only(),
    number("timeout", "0", 0, INT),
    number("tcp-keepalive", "300", 0, INT),
    number("socket-mark-id", "0", 0, UINT)
        .start_only()
        .no_effect(),
    number("maxclients", "10000", 1, UINT),
    special(
        "client-output-buffer-limit",
        Kind::OutputLimits,
        OUTPUT_LIMITS,
    )
    .with(flag::MULTI),
    bytes("client-query-buffer-limit", "1gb", MIB, LONG),
    bytes("proto-max-bulk-len", "512mb", MIB, LONG),
    special(
        "maxmemory-clients",
        Kind::Number {
            min: -100,
            max: LONG,
            unit: Unit::MemoryOrPercent,
        },
        "0",
    ),
    number("workers", "0", 0, 256).ours(),
    // TLS.
    number("tls-port", "0", 0, 65535),
    unset("tls-cert-file").with(flag::VOLATILE),
    unset("tls-key-file").with(flag::VOLATILE),
    unset("tls-key-file-pass").with(flag::SENSITIVE),
    unset("tls-client-cert-file").with(flag::VOLATILE),
    unset("tls-client-key-file").with(flag::VOLATILE),
    unset("tls-client-key-file-pass").with(flag::SENSITIVE),
    // All keys are exchanged on elliptic curves.
    unset("tls-dh-params-file").no_effect(),
    unset("tls-ca-cert-file").with(flag::VOLATILE),
    unset("tls-ca-cert-dir").with(flag::VOLATILE),
    choice("tls-auth-clients", "yes", NO_YES_OPTIONAL),
    yes_no("tls-replication", false),
    yes_no("tls-cluster", false),
    unset("tls-protocols"),
    unset("tls-ciphers"),
    unset("tls-ciphersuites"),
    yes_no("tls-prefer-server-ciphers", false),
    yes_no("tls-session-caching", true),
    number("tls-session-cache-size", "20480", 0, INT),
    number("tls-session-cache-timeout", "300", 0, INT),
    // General.
    yes_no("daemonize", false).start_only(),
    choice("supervised", "no", SUPERVISED)
        .start_only()
        .no_effect(),
    unset("pidfile").start_only(),
    choice("loglevel", "notice", LOG_LEVELS),
    text("logfile", "").start_only(),
    yes_no("syslog-enabled", false).start_only().no_effect(),
    text("syslog-ident", "redis").start_only().no_effect(),
    choice("syslog-facility", "local0", FACILITIES)
        .start_only()
        .no_effect(),
    yes_no("crash-log-enabled", true).no_effect(),
    yes_no("crash-memcheck-enabled", true).no_effect(),
    number("databases", "16", 1, INT).start_only(),
    yes_no("always-show-logo", false).start_only(),
    yes_no("set-proc-title", true).start_only(),
    text("proc-title-template", "{title} {listen-addr} {server-mode}")
        .check(crate::process_title::check),
    text("locale-collate", "").no_effect(),
    text("ignore-warnings", "").no_effect(),
    yes_no("use-exit-on-panic", false)
        .with(flag::HIDDEN)
        .no_effect(),
    number("watchdog-period", "0", 0, INT)
        .with(flag::HIDDEN)
        .no_effect(),
    // Snapshots.
    special("save", Kind::Save, "3600 1 300 100 60 10000").with(flag::MULTI),
    yes_no("stop-writes-on-bgsave-error", true),
    yes_no("rdbcompression", true),
    yes_no("rdbchecksum", true).start_only(),
    number("rdb-version", "10", 10, 12),
    choice("sanitize-dump-payload", "no", SANITIZE).no_effect(),
    text("dbfilename", "dump.rdb")
        .with(flag::PROTECTED)
        .check(is_snapshot_name),
    // What a full sync needs of files is removed in any case.
    yes_no("rdb-del-sync-files", false).no_effect(),
    yes_no("rdb-save-incremental-fsync", true),
    special("dir", Kind::Dir, "").with(flag::PROTECTED | flag::NOT_LOADING),
    number("rdb-key-save-delay", "0", -INT - 1, INT).with(flag::HIDDEN),
    number("key-load-delay", "0", -INT - 1, INT)
        .with(flag::HIDDEN)
        .no_effect(),
    number(
        "loading-process-events-interval-bytes",
        "2097152",
        1024,
        INT,
    )
    .with(flag::HIDDEN)
    .no_effect(),
    text("snapshot-rate", "auto").check(is_rate),
    yes_no("load-anyway", false).ours(),
    yes_no("warm-restart", true).ours(),
    // The append-only log.
    yes_no("appendonly", false).with(flag::NOT_LOADING),
    text("appendfilename", "appendonly.aof")
        .start_only()
        .check(is_log_name),
    text("appenddirname", "appendonlydir")
        .start_only()
        .check(is_log_dir),
    choice("appendfsync", "everysec", FSYNC),
    yes_no("no-appendfsync-on-rewrite", false),
    number("auto-aof-rewrite-percentage", "100", 0, INT),
    bytes("auto-aof-rewrite-min-size", "64mb", 0, LONG),
    yes_no("aof-load-truncated", true),
    yes_no("aof-use-rdb-preamble", true).no_effect(),
    yes_no("aof-timestamp-enabled", false).no_effect(),
    yes_no("aof-rewrite-incremental-fsync", true),
    yes_no("aof-disable-auto-gc", false).with(flag::HIDDEN),
    // Replication.
    special("replicaof", Kind::ReplicaOf, "no one")
        .alias("slaveof")
        .with(flag::MULTI)
        .start_only(),
    unset("masterauth").with(flag::SENSITIVE),
    unset("masteruser").with(flag::SENSITIVE),
    yes_no("replica-serve-stale-data", true).alias("slave-serve-stale-data"),
    yes_no("replica-read-only", true).alias("slave-read-only"),
    yes_no("replica-lazy-flush", false)
        .alias("slave-lazy-flush")
        .no_effect(),
    yes_no("replica-ignore-maxmemory", true).alias("slave-ignore-maxmemory"),
    yes_no("replica-ignore-disk-write-errors", false),
    yes_no("replica-announced", true),
    unset("replica-announce-ip").alias("slave-announce-ip"),
    number("replica-announce-port", "0", 0, 65535).alias("slave-announce-port"),
    number("replica-priority", "100", 0, INT).alias("slave-priority"),
    yes_no("repl-diskless-sync", true).no_effect(),
    number("repl-diskless-sync-delay", "5", 0, INT).no_effect(),
    number("repl-diskless-sync-max-replicas", "0", 0, INT).no_effect(),
    choice("repl-diskless-load", "disabled", DISKLESS_LOAD)
        .with(flag::NOT_LOADING)
        .no_effect(),
    yes_no("repl-disable-tcp-nodelay", false),
    number("repl-timeout", "60", 1, INT),
    number("repl-ping-replica-period", "10", 1, INT).alias("repl-ping-slave-period"),
    bytes("repl-backlog-size", "1mb", 1, LONG),
    // What it frees in Redis is memory; here that is the disk's, for which there is one of its own.
    number("repl-backlog-ttl", "3600", 0, LONG).no_effect(),
    bytes("repl-backlog-disk-size", "0", 0, LONG),
    number("repl-backlog-disk-ttl", "3600", 0, LONG),
    bytes("repl-spool-disk-size", "0", 0, LONG),
    number("min-replicas-to-write", "0", 0, INT).alias("min-slaves-to-write"),
    number("min-replicas-max-lag", "10", 0, INT).alias("min-slaves-max-lag"),
    choice("propagation-error-behavior", "ignore", PROPAGATION).no_effect(),
    // Security.
    text("aclfile", "").start_only(),
    number("acllog-max-len", "128", 0, LONG),
    choice("acl-pubsub-default", "resetchannels", PUBSUB_DEFAULT),
    unset("requirepass").with(flag::SENSITIVE),
    // Memory and tiering.
    bytes("maxmemory", "0", 0, ULONG),
    choice("maxmemory-policy", "noeviction", POLICIES),
    number("maxmemory-samples", "5", 1, INT),
    number("maxmemory-eviction-tenacity", "10", 0, 100),
    yes_no("enable-rocksdb-feature", false).ours(),
    yes_no("maxmemory-only-for-rocksdb", true).ours(),
    unset("rockdbdir").alias("rocksdb_folder").ours(),
    number("max-hope-hot-keys", "1000", 0, LONG),
    bytes("maxrockmem", "0", 0, ULONG),
    bytes("maxpsmem", "0", 0, ULONG),
    number("hash-max-rock-entries", "0", 0, LONG).no_effect(),
    number("lfu-log-factor", "10", 0, INT),
    number("lfu-decay-time", "1", 0, INT),
    number("active-expire-effort", "1", 1, 10),
    yes_no("lazyfree-lazy-eviction", false),
    yes_no("lazyfree-lazy-expire", false),
    yes_no("lazyfree-lazy-server-del", false),
    yes_no("lazyfree-lazy-user-del", false).no_effect(),
    yes_no("lazyfree-lazy-user-flush", false).no_effect(),
    number("tracking-table-max-keys", "1000000", 0, LONG),
    yes_no("jemalloc-bg-thread", true).no_effect(),
    yes_no("activedefrag", false).no_effect(),
    bytes("active-defrag-ignore-bytes", "100mb", 1, LONG).no_effect(),
    number("active-defrag-threshold-lower", "10", 0, 1000).no_effect(),
    number("active-defrag-threshold-upper", "100", 0, 1000).no_effect(),
    number("active-defrag-cycle-min", "1", 1, 99).no_effect(),
    number("active-defrag-cycle-max", "25", 1, 99).no_effect(),
    number("active-defrag-max-scan-fields", "1000", 1, LONG).no_effect(),
    yes_no("disable-thp", true).start_only(),
    choice("oom-score-adj", "no", OOM_SCORE),
    special("oom-score-adj-values", Kind::OomScores, "0 200 800").with(flag::MULTI),
    // Threads and pace.
    number("io-threads", "1", 1, 128).start_only().no_effect(),
    yes_no("io-threads-do-reads", false)
        .start_only()
        .no_effect(),
    unset("server_cpulist").start_only().no_effect(),
    unset("bio_cpulist").start_only().no_effect(),
    unset("aof_rewrite_cpulist").start_only().no_effect(),
    unset("bgsave_cpulist").start_only().no_effect(),
    number("hz", "10", 0, INT),
    yes_no("dynamic-hz", true).no_effect(),
    yes_no("activerehashing", true).no_effect(),
    number("shutdown-timeout", "10", 0, INT),
    choice("shutdown-on-sigint", "default", SHUTDOWN)
        .with(flag::MULTI)
        .check(is_shutdown),
    choice("shutdown-on-sigterm", "default", SHUTDOWN)
        .with(flag::MULTI)
        .check(is_shutdown),
    // Scripts.
    number("busy-reply-threshold", "5000", 0, LONG).alias("lua-time-limit"),
    // Observation.
    number("slowlog-log-slower-than", "10000", -1, LONG),
    number("slowlog-max-len", "128", 0, LONG),
    number("latency-monitor-threshold", "0", 0, LONG),
    yes_no("latency-tracking", true),
    special(
        "latency-tracking-info-percentiles",
        Kind::Percentiles,
        "50 99 99.9",
    )
    .with(flag::MULTI),
    special("notify-keyspace-events", Kind::Events, "\"\""),
    number("metrics-port", "0", 0, 65535).ours(),
    unset("statsd").with(flag::OURS),
    // Encodings.
    number("hash-max-listpack-entries", "512", 0, LONG).alias("hash-max-ziplist-entries"),
    bytes("hash-max-listpack-value", "64", 0, LONG).alias("hash-max-ziplist-value"),
    number("list-max-listpack-size", "-2", -INT - 1, INT).alias("list-max-ziplist-size"),
    number("list-compress-depth", "0", 0, INT).no_effect(),
    number("set-max-intset-entries", "512", 0, LONG),
    number("set-max-listpack-entries", "128", 0, LONG),
    bytes("set-max-listpack-value", "64", 0, LONG),
    number("zset-max-listpack-entries", "128", 0, LONG).alias("zset-max-ziplist-entries"),
    bytes("zset-max-listpack-value", "64", 0, LONG).alias("zset-max-ziplist-value"),
    bytes("hll-sparse-max-bytes", "3000", 0, LONG),
    bytes("stream-node-max-bytes", "4096", 0, LONG),
    number("stream-node-max-entries", "100", 0, LONG),
    // Companions, administration, backups.
    choice("companions", "spawn", COMPANIONS).ours(),
    unset("socket-dir").ours(),
    unset("admin-addr").ours(),
    number("backup-keep", "7", 0, INT),
    text("backup-dir", "backup").ours().check(is_directory),
    unset("backup-schedule").check(is_schedule),
    // Cluster.
    yes_no("cluster-enabled", false).start_only(),
    text("cluster-config-file", "nodes.conf")
        .start_only()
        .no_effect(),
    number("cluster-node-timeout", "15000", 0, LONG).no_effect(),
    number("cluster-ping-interval", "0", 0, LONG)
        .with(flag::HIDDEN)
        .no_effect(),
    number("cluster-port", "0", 0, 65535)
        .start_only()
        .no_effect(),
    number("cluster-migration-barrier", "1", 0, INT).no_effect(),
    number("cluster-replica-validity-factor", "10", 0, INT)
        .alias("cluster-slave-validity-factor")
        .no_effect(),
    yes_no("cluster-replica-no-failover", false)
        .alias("cluster-slave-no-failover")
        .no_effect(),
    yes_no("cluster-require-full-coverage", true).no_effect(),
    yes_no("cluster-allow-replica-migration", true).no_effect(),
    yes_no("cluster-allow-reads-when-down", false).no_effect(),
    yes_no("cluster-allow-pubsubshard-when-down", true).no_effect(),
    bytes("cluster-link-sendbuf-limit", "0", 0, ULONG).no_effect(),
    unset("cluster-announce-ip").no_effect(),
    unset("cluster-announce-hostname")
        .no_effect()
        .check(is_hostname),
    unset("cluster-announce-human-nodename")
        .no_effect()
        .check(is_node_name),
    number("cluster-announce-port", "0", 0, 65535).no_effect(),
    number("cluster-announce-tls-port", "0", 0, 65535).no_effect(),
    number("cluster-announce-bus-port", "0", 0, 65535).no_effect(),
    choice("cluster-preferred-endpoint-type", "ip", ENDPOINT).no_effect(),
];

const OUTPUT_LIMITS: &str = "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60";

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// The index in [`OPTIONS`] of the option with this primary name. For use in constants: a name
/// that is not in the table does not compile.
#[expect(
    clippy::panic,
    reason = "called in const blocks only: it ends the compilation, never a process"
)]
pub(super) const fn index_of(name: &str) -> usize {
    let mut i = 0;
    while i < OPTIONS.len() {
        if same(OPTIONS[i].name, name) {
            return i;
        }
        i += 1;
    }
    panic!("no such option")
}

fn is_base_name(name: &[u8]) -> bool {
    !name.contains(&b'/') && !name.contains(&b'\\')
}

fn is_snapshot_name(name: &[u8]) -> Result<(), &'static str> {
    if is_base_name(name) {
        Ok(())
    } else {
        Err("dbfilename can't be a path, just a filename")
    }
}

fn is_log_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("appendfilename can't be empty"),
        _ if is_base_name(name) => Ok(()),
        _ => Err("appendfilename can't be a path, just a filename"),
    }
}

fn is_log_dir(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("appenddirname can't be empty"),
        _ if is_base_name(name) => Ok(()),
        _ => Err("appenddirname can't be a path, just a dirname"),
    }
}

fn is_directory(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("argument must name a directory"),
        _ => Ok(()),
    }
}

fn is_schedule(text: &[u8]) -> Result<(), &'static str> {
    let schedule = std::str::from_utf8(text).ok();
    if text.is_empty() || schedule.is_some_and(|text| Schedule::parse(text).is_some()) {
        return Ok(());
    }
    Err("argument must be such as 'every 6h' (s, m, h, d) or 'daily 03:30' (UTC)")
}

fn is_rate(text: &[u8]) -> Result<(), &'static str> {
    if text == b"auto" || (!text.is_empty() && super::kind::parse_memory(text).is_some()) {
        return Ok(());
    }
    Err("argument must be 'auto' or a memory value (bytes per second)")
}

fn is_shutdown(words: &[u8]) -> Result<(), &'static str> {
    let has = |name: &[u8]| words.split(|b| *b == b' ').any(|word| word == name);
    if has(b"save") && has(b"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously");
    }
    Ok(())
}

fn is_hostname(name: &[u8]) -> Result<(), &'static str> {
    if name.len() >= 256 {
        return Err("Hostnames must be less than 256 characters");
    }
    if name
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
    {
        return Ok(());
    }
    Err("Hostnames may only contain alphanumeric characters, hyphens or dots")
}

fn is_node_name(name: &[u8]) -> Result<(), &'static str> {
    if name.iter().any(|b| b"!#$%&()*+:;<>?@[]^{|}~".contains(b)) {
        return Err("Announced human node name contained invalid character");
    }
    Ok(())
}
