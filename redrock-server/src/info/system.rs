//! The sections Server, Clients and CPU.

use super::{Facts, Section};
use crate::REDIS_VERSION;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// The kernel's name and release; they do not change while we run.
fn kernel() -> &'static str {
    static KERNEL: OnceLock<String> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let word = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
            text.map_or_else(|_| "?".into(), |text| text.trim().to_owned())
        };
        format!("{} {}", word("ostype"), word("osrelease"))
    })
}

/// The program that runs.
fn executable() -> &'static std::path::Path {
    static EXECUTABLE: OnceLock<std::path::PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| std::env::current_exe().unwrap_or_default())
}

pub(super) fn server(facts: &Facts<'_>, out: &mut Section<'_>) {
    let (server, config) = (facts.server, facts.config);
    let uptime_s = facts.now_s() - server.started_ms / 1000;
    out.field("redis_version", REDIS_VERSION);
    out.field("redrock_version", env!("CARGO_PKG_VERSION"));
    out.field("redis_git_sha1", "00000000");
    out.field("redis_git_dirty", 0);
    out.field("redis_build_id", "0");
    out.field("redis_mode", "standalone");
    let arch = std::env::consts::ARCH;
    out.field("os", format_args!("{} {arch}", kernel()));
    out.field("arch_bits", usize::BITS);
    out.field("monotonic_clock", "POSIX clock_gettime");
    out.field("multiplexing_api", "epoll");
    out.field("atomicvar_api", "c11-builtin");
    out.field("gcc_version", "0.0.0");
    out.field("process_id", std::process::id());
    out.field("process_supervised", "no");
    out.field("run_id", &server.run_id);
    out.field("tcp_port", config.shown_port());
    out.field("server_time_usec", facts.now_us);
    out.field("uptime_in_seconds", uptime_s);
    out.field("uptime_in_days", uptime_s / 86_400);
    out.field("hz", config.hz);
    out.field("configured_hz", config.hz);
    out.field("lru_clock", facts.now_s() & 0xff_ffff);
    out.field("executable", executable().display());
    let file = config
        .file
        .as_ref()
        .map(|file| file.display().to_string())
        .unwrap_or_default();
    out.field("config_file", file);
    out.field("io_threads_active", 0);
    if server.state.shutdown.is_requested() {
        out.field("shutdown_in_milliseconds", 0);
    }
}

pub(super) fn clients(facts: &Facts<'_>, out: &mut Section<'_>) {
    let server = facts.server;
    let count = server.clients.read().len();
    let totals = server.client_totals();
    let blocked = &facts.keyspace.blocked;
    let postponed = server.state.pause.waiting.load(Ordering::Relaxed);
    out.field("connected_clients", count);
    out.field("cluster_connections", 0);
    out.field("maxclients", facts.config.network.clients_max);
    out.field("client_recent_max_input_buffer", totals.query_bytes_max);
    out.field("client_recent_max_output_buffer", totals.out_bytes_max);
    out.field("blocked_clients", blocked.len() + postponed);
    let tracking = facts.keyspace.tracking.totals();
    out.field("tracking_clients", tracking.clients);
    out.field("clients_in_timeout_table", blocked.timeout_count());
    out.field("total_blocking_keys", blocked.key_count());
    out.field("total_blocking_keys_on_nokey", blocked.gone_count());
}

/// User and system time of `who`, as seconds with six digits.
fn times(who: libc::c_int) -> (String, String) {
    // SAFETY: all zeros is a valid value of this struct of integers, and it is only written.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid, exclusive struct of the type that the call fills.
    unsafe { libc::getrusage(who, &mut usage) };
    let text = |time: libc::timeval| format!("{}.{:06}", time.tv_sec, time.tv_usec);
    (text(usage.ru_utime), text(usage.ru_stime))
}

pub(super) fn cpu(_facts: &Facts<'_>, out: &mut Section<'_>) {
    let (user, system) = times(libc::RUSAGE_SELF);
    let (user_children, system_children) = times(libc::RUSAGE_CHILDREN);
    let (user_thread, system_thread) = times(libc::RUSAGE_THREAD);
    out.field("used_cpu_sys", system);
    out.field("used_cpu_user", user);
    out.field("used_cpu_sys_children", system_children);
    out.field("used_cpu_user_children", user_children);
    out.field("used_cpu_sys_main_thread", system_thread);
    out.field("used_cpu_user_main_thread", user_thread);
}
