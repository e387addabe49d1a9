//! The first lines of the log, and the one that says that clients are served.
//!
//! Scripts and test suites grep a server's log for Redis's very words, so they are kept.

use crate::config::Config;

/// What runs, with which configuration, and what of it deserves a warning.
pub(crate) fn starting(config: &Config, notices: &[String]) {
    let (own, redis) = (env!("CARGO_PKG_VERSION"), crate::REDIS_VERSION);
    let pid = std::process::id();
    tracing::info!("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "RedRock version={own}, Redis version={redis}, bits=64, commit=00000000, modified=0, \
         pid={pid}, just started"
    );
    match &config.file {
        Some(file) => tracing::info!("Configuration loaded from {}", file.display()),
        None => tracing::warn!("Configuration loaded: no file, defaults and given options"),
    }
    for notice in notices {
        tracing::warn!("{notice}");
    }
    let mode = if config.cluster {
        "cluster"
    } else {
        "standalone"
    };
    let port = config.shown_port();
    if config.observation.show_logo {
        tracing::info!("RedRock {own} 64 bit, running in {mode} mode, Port: {port}, PID: {pid}");
    } else {
        tracing::info!("Running mode={mode}, port={port}.");
    }
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    if let Some(somaxconn) = somaxconn.and_then(|text| text.trim().parse::<u32>().ok())
        && somaxconn < config.network.backlog
    {
        let backlog = config.network.backlog;
        tracing::warn!(
            "The TCP backlog setting of {backlog} cannot be enforced because \
             /proc/sys/net/core/somaxconn is set to the lower value of {somaxconn}."
        );
    }
}

/// Clients are served on these listeners from now on.
pub(crate) fn ready(config: &Config) {
    if config.port != 0 {
        tracing::info!("Ready to accept connections tcp, port {}", config.port);
    }
    if config.tls.port != 0 {
        tracing::info!("Ready to accept connections tls, port {}", config.tls.port);
    }
    if let Some(path) = &config.network.unix_socket {
        tracing::info!("Ready to accept connections unix, {}", path.display());
    }
}
