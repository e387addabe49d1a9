//! Starts the services of a server: its socket and the once-a-second look.

use super::{Services, tick};
use crate::grpc;
use crate::metrics;
use crate::metrics::statsd::{self, Target};
use crate::server::Server;
use crate::state::MasterLink;
use anyhow::{Context as _, bail};
use redrock_daemon::logging::LogHandle;
use redrock_daemon::tasks::Tasks;
use redrock_log::epoch::Epoch;
use redrock_proto::model::{HexId, RunRef};
use std::sync::Arc;

/// Starts everything but the companions, as tasks that end when they are told to. The data
/// directory's lock is held.
pub async fn start(
    server: &Arc<Server>,
    epoch: &Epoch,
    tasks: &Tasks,
    log: LogHandle,
) -> anyhow::Result<()> {
    let config = server.config();
    if let Some(address) = &config.companions.admin_address {
        // Without a token or client certificates it would be an open door.
        bail!(
            "admin-addr {address}: administration over TCP needs mutual TLS, which this build \
             does not offer; leave the option out and use the Unix socket in {}",
            config.companions.socket_dir.display()
        );
    }
    if let Some((host, port)) = &config.replication.master {
        let link = MasterLink {
            host: host.clone(),
            port: *port,
            ..MasterLink::default()
        };
        server.state.replication.lock().master = Some(link);
    }
    let run_id = std::str::from_utf8(&epoch.run_id)
        .ok()
        .and_then(HexId::parse);
    let run = RunRef {
        run_id: run_id.context("read the run id")?,
        epoch: epoch.number,
    };
    let socket_dir = &config.companions.socket_dir;
    let data_dir = std::fs::canonicalize(&config.dir)
        .with_context(|| format!("open the data directory {}", config.dir.display()))?;
    let services = Arc::new(Services::new(
        server,
        run,
        &data_dir,
        socket_dir,
        tasks.clone(),
    ));
    if server.services.set(services.clone()).is_err() {
        bail!("the services have been started before");
    }
    grpc::serve(server, tasks, log).await?;
    if let Some(text) = &config.observation.statsd {
        Target::parse(text).map_err(anyhow::Error::msg)?;
    }
    metrics::http::start(server, tasks).await?;
    tasks.spawn("statsd", statsd::run(server.clone(), tasks.token()));
    add_hooks(server);
    server.refresh_gates();
    tasks.spawn("look after companions", tick::run(services, tasks.token()));
    Ok(())
}

/// `appendonly` at run time, which CONFIG SET calls outside the locks; `statsd` is only checked.
fn add_hooks(server: &Arc<Server>) {
    server
        .config_hooks
        .write()
        .add(&["statsd"], |_, new| match &new.observation.statsd {
            Some(text) => Target::parse(text).map(|_| ()),
            None => Ok(()),
        });
    let weak = Arc::downgrade(server);
    server
        .config_hooks
        .write()
        .add(&["appendonly"], move |_, new| {
            let Some(server) = weak.upgrade() else {
                return Ok(());
            };
            let services = server
                .services()
                .map_err(|error| String::from_utf8_lossy(&error.resp()).into_owned())?;
            // The main thread drives this; the caller is a thread that may wait.
            if new.append_only.enabled {
                services.handle.block_on(services.enable_append_only())
            } else {
                services.handle.block_on(services.disable_append_only())
            }
        });
}
