//! What the server says without being asked: the state of its log, and its settings.
//!
//! Two streams, each opened again with growing pauses after a failure; one log line when a
//! stream is lost and one when it is back, however long that takes.

use std::time::Duration;

use redrock_proto::client::{ServerClient, next_within};
use redrock_proto::model::{LogState, RunRef};
use redrock_proto::{ErrorCode, RpcError, v1};
use tokio::sync::watch;

use crate::settings::Settings;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const LOG_WAIT: Duration = Duration::from_secs(5);

/// The state of the log at this moment, however old what was heard last is.
pub async fn log_now(server: &ServerClient, run: RunRef) -> Result<LogState, RpcError> {
    let request = v1::WatchLogRequest {
        run: run.to_wire(),
        interval_ms: 0,
    };
    let mut stream = server.log().watch(request).await?.into_inner();
    let first = next_within(&mut stream, LOG_WAIT).await?;
    let state = first.ok_or_else(|| RpcError::unavailable("the server ended the stream"))?;
    LogState::try_from(state)
}

/// Follows `Log.Watch` until the receiver is gone.
pub async fn follow_log(
    server: ServerClient,
    run: RunRef,
    states: watch::Sender<Option<LogState>>,
) {
    let mut outage = Outage::new("the server's log");
    loop {
        let request = v1::WatchLogRequest {
            run: run.to_wire(),
            interval_ms: 0,
        };
        let result = async {
            let mut stream = server.log().watch(request).await?.into_inner();
            while let Some(state) = stream.message().await? {
                let state = LogState::try_from(state)?;
                outage.over();
                states.send_replace(Some(state));
            }
            Err::<(), RpcError>(RpcError::unavailable("the server ended the stream"))
        };
        if let Err(error) = result.await {
            outage.pause(&error).await;
        }
    }
}

/// Follows `Admin.WatchConfig` until the receiver is gone.
pub async fn follow_settings(
    server: ServerClient,
    run: RunRef,
    settings: watch::Sender<Option<Settings>>,
) {
    let mut outage = Outage::new("the server's settings");
    loop {
        let request = v1::WatchConfigRequest {
            run: run.to_wire(),
            names: crate::settings::names().map(str::to_owned).collect(),
        };
        let result = async {
            let mut stream = server.admin().watch_config(request).await?.into_inner();
            while let Some(update) = stream.message().await? {
                outage.over();
                let former = settings.borrow().clone().unwrap_or_default();
                settings.send_replace(Some(former.updated(&update)));
            }
            Err::<(), RpcError>(RpcError::unavailable("the server ended the stream"))
        };
        if let Err(error) = result.await {
            outage.pause(&error).await;
        }
    }
}

/// Pauses between attempts, and the two log lines around them.
#[derive(Debug)]
struct Outage {
    what: &'static str,
    pause: Duration,
    reported: bool,
}

impl Outage {
    fn new(what: &'static str) -> Outage {
        Outage {
            what,
            pause: PAUSE_FIRST,
            reported: false,
        }
    }

    fn over(&mut self) {
        if self.reported {
            tracing::info!(what = self.what, "heard from the server again");
        }
        self.reported = false;
        self.pause = PAUSE_FIRST;
    }

    async fn pause(&mut self, error: &RpcError) {
        // At the start the server may not be listening yet: that is no outage.
        let early = error.code == ErrorCode::Unavailable && self.pause <= PAUSE_FIRST * 8;
        if !self.reported && !early {
            tracing::warn!(what = self.what, %error, "lost the server; trying again");
            self.reported = true;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
