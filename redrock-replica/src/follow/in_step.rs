//! Following whom the server follows, whether or not it could tell us.
//!
//! The server says `Follow` and `Unfollow` once, when its role changes. An agent that starts later, or
//! that was too slow to take such a call, asks the server itself.

use std::sync::Arc;
use std::time::Duration;

use redrock_proto::model::Role;

use super::{FirstAsk, Follower, PAUSE_FIRST, Target};
use crate::config::Settings;
use crate::context::ServerState;

const SETTINGS_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two looks. What differs in two of them in a row is no change that is under way.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Host and port.
type Place = (String, u16);

/// What was found to differ.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    /// How often whom to follow had been changed by then.
    changes: u64,
    /// Whom the server follows.
    wanted: Option<Place>,
}

impl Follower {
    /// Goes on following after a start of the agent alone, if the server is a
    /// replica and has not told us anything itself.
    async fn take_up(&self) {
        let state = loop {
            match self.context.server_state().await {
                Ok(state) => break state,
                Err(error) => tracing::debug!(%error, "the server can't say whom it follows"),
            }
            tokio::time::sleep(PAUSE_FIRST).await;
        };
        let Some(place) = place_of(&state) else {
            self.wanted.lock().await.partial = None;
            return;
        };
        // The password comes with the settings.
        let mut settings = self.context.settings.clone();
        let known = tokio::time::timeout(SETTINGS_TIME_MAX, settings.changed()).await;
        if known.is_err() {
            tracing::debug!("no settings yet, following with the defaults");
        }
        let target = target(place, &self.context.settings());
        let mut wanted = self.wanted.lock().await;
        if !wanted.is_told {
            let next = (target, FirstAsk::AskServer, false);
            self.change(&mut wanted, Some(next)).await;
        }
    }

    /// What the server says against what is done; `None` if that is the same, or not known.
    async fn difference(&self) -> Option<Difference> {
        let (changes, followed) = self.followed().await;
        let known_role = self.context.log.borrow().as_ref().map(|log| log.role);
        if followed.is_none() && known_role == Some(Role::Master) {
            return None;
        }
        let state = self.context.server_state().await.ok()?;
        let wanted = place_of(&state);
        (wanted != followed).then_some(Difference { changes, wanted })
    }

    /// Number of changes so far, and whom they have led to.
    async fn followed(&self) -> (u64, Option<Place>) {
        let wanted = self.wanted.lock().await;
        let present = wanted.running.as_ref();
        let present = present.filter(|present| !present.task.is_finished());
        let place = present.map(|present| (present.target.host.clone(), present.target.port));
        (wanted.changes, place)
    }

    /// Does what the server wants, unless it has said something itself meanwhile.
    async fn follow_the_server(self: Arc<Self>, difference: Difference) {
        let next = difference.wanted.map(|place| {
            let target = target(place, &self.context.settings());
            (target, FirstAsk::AskServer, false)
        });
        let mut wanted = self.wanted.lock().await;
        if wanted.changes == difference.changes {
            tracing::warn!("the server does not follow whom we follow: doing as it does");
            self.change(&mut wanted, next).await;
        }
    }
}

/// Takes up what the server follows, then looks each second whether that is somebody else than we do, and
/// does as it does. While it `rests` a failover decides.
pub(crate) async fn keep_in_step(follower: Arc<Follower>, rests: impl Fn() -> bool) {
    follower.take_up().await;
    let mut before = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let found = match rests() {
            true => None,
            false => follower.difference().await,
        };
        before = match found {
            Some(difference) if before.as_ref() == Some(&difference) && !rests() => {
                let change = Arc::clone(&follower).follow_the_server(difference);
                follower.whole(change).await;
                None
            }
            found => found,
        };
    }
}

fn place_of(state: &ServerState) -> Option<Place> {
    let port = u16::try_from(state.master_port).unwrap_or(0);
    let follows = state.role == Role::Replica && !state.master_host.is_empty() && port != 0;
    follows.then(|| (state.master_host.clone(), port))
}

/// How to follow somebody.
fn target((host, port): Place, settings: &Settings) -> Target {
    Target {
        host,
        port,
        user: settings.masteruser.clone(),
        password: settings.masterauth.clone(),
        listening_port: settings.listening_port(),
        announced_ip: settings.replica_announce_ip.clone(),
        tls: settings.tls_replication,
    }
}
