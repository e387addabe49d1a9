//! DEBUG RELOAD and LOADAOF: the data set goes to its files and comes back from them.
//!
//! Clients and the master's stream are held back from before the save until the data are there
//! again, so that nothing is executed in between that would be lost.

use super::persistence::Running;
use super::{Hold, Services};
use crate::server::Server;
use crate::start::reload::{self, RdbReload};
use redrock_proto::v1::{Activity, SaveKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a running save or rewrite may take to end before a reload gives up.
const IDLE_WAIT: Duration = Duration::from_secs(60);
const IDLE_PAUSE: Duration = Duration::from_millis(10);

const BUSY: &str = "ERR a save or a rewrite is in progress";
const STOPPING: &str = "ERR the server is shutting down";

impl Services {
    /// DEBUG RELOAD: saves unless told otherwise, then loads the RDB file.
    pub async fn reload(self: Arc<Self>, save: bool, how: RdbReload) -> Result<String, String> {
        let services = self.clone();
        self.to_the_end(async move {
            let _running = services.begin_saving().await?;
            if save {
                services.wait_idle(Activity::Save).await?;
            }
            let hold = services.hold_clients().ok_or(BUSY)?;
            if save {
                services.save_now(SaveKind::Foreground).await?;
            }
            let loaded = services.load(hold, move |server, path| reload::dump(server, path, how));
            if let Err(error) = loaded.await? {
                tracing::warn!(error, "DEBUG RELOAD failed");
                return Err("ERR Error trying to load the RDB dump".to_owned());
            }
            tracing::warn!("DB reloaded by DEBUG RELOAD");
            Ok("OK".to_owned())
        })
        .await
    }

    /// DEBUG LOADAOF: loads the append-only files.
    pub async fn load_append_only(self: Arc<Self>) -> Result<String, String> {
        let services = self.clone();
        self.to_the_end(async move {
            let _running = services.begin_saving().await?;
            // A rewrite would change the files while they are read; without a persister there is
            // none.
            if services.activity().await.is_ok() {
                services.wait_idle(Activity::Rewrite).await?;
            }
            let hold = services.hold_clients().ok_or(BUSY)?;
            let loaded = services.load(hold, reload::log).await?;
            loaded.map_err(|error| format!("ERR {}", super::one_line(&error)))?;
            tracing::warn!("Append Only File loaded by DEBUG LOADAOF");
            Ok("OK".to_owned())
        })
        .await
    }

    /// Runs work that goes on when the client who asked for it has left.
    async fn to_the_end(
        &self,
        work: impl Future<Output = Result<String, String>> + Send + 'static,
    ) -> Result<String, String> {
        let ended = self.handle.spawn(work).await;
        ended.unwrap_or_else(|_| Err(STOPPING.to_owned()))
    }

    /// Waits until no other save that was asked for here is under way, and begins one.
    async fn begin_saving(self: &Arc<Self>) -> Result<Running, String> {
        let deadline = Instant::now() + IDLE_WAIT;
        loop {
            if let Some(running) = Running::begin(self, |services| &services.saving) {
                return Ok(running);
            }
            if Instant::now() > deadline {
                return Err(BUSY.to_owned());
            }
            tokio::time::sleep(IDLE_PAUSE).await;
        }
    }

    /// Waits until the persister is not at `activity`.
    async fn wait_idle(&self, activity: Activity) -> Result<(), String> {
        let deadline = Instant::now() + IDLE_WAIT;
        while self.activity().await? == activity {
            if Instant::now() > deadline {
                return Err(BUSY.to_owned());
            }
            tokio::time::sleep(IDLE_PAUSE).await;
        }
        Ok(())
    }

    /// Loads on a thread that may block; clients are let go when it is done.
    async fn load(
        &self,
        hold: Hold,
        load: impl FnOnce(&Arc<Server>, &Path) -> anyhow::Result<()> + Send + 'static,
    ) -> Result<Result<(), String>, String> {
        let server = self.server().ok_or(STOPPING)?;
        let path: PathBuf = self.data_dir.clone();
        let work = move || {
            let result = load(&server, &path).map_err(|error| format!("{error:#}"));
            drop(hold);
            result
        };
        let joined = tokio::task::spawn_blocking(work).await;
        joined.map_err(|_| STOPPING.to_owned())
    }
}
