//! `/metrics`, `/healthz` and `/readyz` on `metrics-port`.

use super::{Kind, figures};
use crate::keyspace::tiering::health::State;
use crate::server::Server;
use anyhow::Context as _;
use redrock_daemon::metrics::{Registry, http};
use redrock_daemon::tasks::Tasks;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Starts the endpoint, if the configuration wants one.
pub async fn start(server: &Arc<Server>, tasks: &Tasks) -> anyhow::Result<()> {
    let port = server.config().observation.metrics_port;
    if port == 0 {
        return Ok(());
    }
    let registry = Registry::new();
    let shown = Arc::downgrade(server);
    registry.collect_with(move |page| {
        let Some(server) = shown.upgrade() else {
            return;
        };
        for figure in figures(&server) {
            match figure.kind {
                Kind::Counter => {
                    let name = format!("redrock_{}_total", figure.name);
                    page.counter(&name, figure.help, figure.value);
                }
                Kind::Gauge => {
                    let name = format!("redrock_{}", figure.name);
                    page.gauge(&name, figure.help, figure.value);
                }
            }
        }
    });
    let (alive, serving) = (Arc::downgrade(server), Arc::downgrade(server));
    let endpoint = http::Endpoint {
        registry,
        healthy: Arc::new(move || alive.upgrade().map_or(Ok(String::new()), |s| Ok(tier(&s)))),
        ready: Arc::new(move || serving.upgrade().map_or(Ok(String::new()), |s| ready(&s))),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = http::bind(address).await.context("listen for metrics")?;
    tasks.spawn("metrics", http::serve(listener, endpoint, tasks.token()));
    Ok(())
}

/// A tier in trouble is told, but no reason to send clients elsewhere: what is in memory is
/// served, and what is refused says why.
fn tier(server: &Server) -> String {
    let report = server.memory.tier_health().map(|health| health.report());
    match report.filter(|report| report.state != State::Healthy) {
        Some(report) => format!(
            "ok, but the tier is {}: {}",
            report.state.word(),
            report.reason
        ),
        None => String::new(),
    }
}

fn ready(server: &Server) -> Result<String, String> {
    if server.loading.is_active() {
        return Err("loading".to_owned());
    }
    if server.draining.load(std::sync::atomic::Ordering::Relaxed) || server.is_stopping() {
        return Err("draining".to_owned());
    }
    Ok(tier(server))
}
