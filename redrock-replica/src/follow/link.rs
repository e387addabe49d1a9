//! How the link to our master stands, and telling the server about it at every
//! change of the state and each second.

use std::sync::Arc;
use std::time::Duration;

use redrock_proto::model::{LinkState, LinkStatus};
use tokio::sync::watch;

use crate::context::{Context, unix_ms};

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const ERROR_BYTES_MAX: usize = 1024;

/// The link, and what only our own Status shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) spool_bytes: u64,
    /// PSYNC ... FAILOVER was sent: the target may be a master by now.
    pub(crate) is_asked: bool,
    /// The target refused to take the role.
    pub(crate) is_refused: bool,
}

impl Link {
    /// No master wanted.
    pub(crate) fn none() -> Link {
        Link {
            state: LinkState {
                status: LinkStatus::None,
                sync_bytes_total: 0,
                sync_bytes_read: 0,
                last_io_unix_ms: 0,
                down_since_unix_ms: 0,
                received_offset: 0,
                last_error: None,
            },
            host: String::new(),
            port: 0,
            spool_bytes: 0,
            is_asked: false,
            is_refused: false,
        }
    }

    /// A master is wanted and not yet there.
    pub(crate) fn wanted(host: &str, port: u16) -> Link {
        let mut link = Link::none();
        link.host = host.to_owned();
        link.port = port;
        link.state.status = LinkStatus::Connect;
        link.state.down_since_unix_ms = unix_ms();
        link
    }

    /// Another state; keeps the time since when the link is down.
    pub(crate) fn set_status(&mut self, status: LinkStatus) {
        self.state.status = status;
        if status == LinkStatus::Connected {
            self.state.down_since_unix_ms = 0;
            self.state.last_error = None;
        } else if self.state.down_since_unix_ms == 0 && status != LinkStatus::None {
            self.state.down_since_unix_ms = unix_ms();
        }
        if status != LinkStatus::Sync {
            self.state.sync_bytes_read = 0;
            self.state.sync_bytes_total = 0;
        }
    }

    /// Why the last attempt failed.
    pub(crate) fn set_error(&mut self, error: &anyhow::Error) {
        let mut text = format!("{error:#}");
        if text.len() > ERROR_BYTES_MAX {
            let end = (0..=ERROR_BYTES_MAX)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
        }
        self.state.last_error = Some(text);
    }

    /// What `error` says is over; another trouble stays. Whether anything changed.
    pub(crate) fn clear_error(&mut self, error: &str) -> bool {
        let is_it = self.state.last_error.as_deref() == Some(error);
        if is_it {
            self.state.last_error = None;
        }
        is_it
    }
}

/// Reports until the daemon stops. A report that fails is made up for by the
/// next one.
pub(crate) async fn report(context: Arc<Context>, mut link: watch::Receiver<Link>) {
    let mut told: Option<LinkStatus> = None;
    loop {
        let now = link.borrow_and_update().state.clone();
        // A master needs no reports but the one that the link is gone.
        if now.status != LinkStatus::None || told.is_some_and(|status| status != now.status) {
            let request = now.to_wire(context.run);
            let reply = context.server.load().link_state(request).await;
            match context.checked(reply) {
                Ok(_) => told = Some(now.status),
                Err(error) => tracing::debug!(%error, "the link's state could not be reported"),
            }
        }
        let changed = async {
            // Figures change all the time; only the state is worth a report of
            // its own.
            while link.changed().await.is_ok() {
                if Some(link.borrow_and_update().state.status) != told {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(REPORT_INTERVAL) => {}
        }
    }
}
