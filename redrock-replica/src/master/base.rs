//! Bases for full syncs, and the pins that keep files while they are sent.
//!
//! A pin has a lease, renewed while the replica is attached: if this process
//! dies, the persister takes it back by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redrock_proto::client::next_within;
use redrock_proto::model::Base;
use redrock_proto::{RpcError, v1};

use crate::context::Context;

/// The persister sends progress each second.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(60);
/// How often a pin is renewed.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_secs(15);
const UNPIN_TIME_MAX: Duration = Duration::from_secs(2);

/// The pin of one replica.
#[derive(Debug)]
pub(crate) struct Pin {
    context: Arc<Context>,
    holder: String,
}

impl Pin {
    /// Nothing is pinned yet.
    pub(crate) fn new(context: Arc<Context>, client_id: u64) -> Pin {
        Pin {
            context,
            holder: format!("replica-{client_id}"),
        }
    }

    /// A base that the peer can read, pinned. Waits as long as it takes to
    /// make one; an error leaves nothing behind.
    pub(crate) async fn get_base(
        &self,
        rdb_version_max: u32,
        fresh: bool,
    ) -> Result<Base, RpcError> {
        let request = v1::GetBaseRequest {
            run: self.context.run.to_wire(),
            holder: self.holder.clone(),
            rdb_version_max,
            fresh,
            lease_ms: milliseconds(LEASE),
        };
        let mut persist = self.context.persist.clone();
        let mut replies = persist.get_base(request).await?.into_inner();
        while let Some(message) = next_within(&mut replies, SILENCE_MAX).await? {
            if let Some(v1::get_base_reply::Reply::Base(base)) = message.reply {
                return Base::try_from(base);
            }
        }
        Err(RpcError::cancelled("the persister gave no base"))
    }

    /// Pins a base that was found on the disk, with the log since. Whether it is there still;
    /// without a persister nothing is removed either.
    pub(crate) async fn take(&self, base: &Base) -> bool {
        let request = pin_request(&self.context, &self.holder, Some(base), base.offset, LEASE);
        match self.context.persist.clone().pin(request).await {
            Ok(reply) => reply.into_inner().missing.is_empty(),
            Err(status) => {
                let error = RpcError::from(status);
                tracing::debug!(%error, holder = self.holder, "the base could not be pinned");
                true
            }
        }
    }

    /// Keeps the base, if one is being sent, and every segment from `offset`
    /// on. Without a persister nothing is removed either.
    pub(crate) async fn renew(&self, base: Option<&Base>, offset: u64) {
        let request = pin_request(&self.context, &self.holder, base, offset, LEASE);
        match self.context.persist.clone().pin(request).await {
            Ok(reply) => {
                let missing = reply.into_inner().missing;
                if !missing.is_empty() {
                    tracing::warn!(holder = self.holder, ?missing, "files to pin are gone");
                }
            }
            Err(status) => {
                let error = RpcError::from(status);
                tracing::debug!(%error, holder = self.holder, "the pin could not be renewed");
            }
        }
    }

    /// Nothing needs to be kept any more.
    pub(crate) async fn release(self) {
        unpin(&self.context, &self.holder).await;
    }

    /// Where a base lies.
    pub(crate) fn path_of(&self, base: &Base) -> PathBuf {
        base.path.resolve(&self.context.data_dir)
    }
}

/// Keeps a base, if one is given, and every segment from `offset` on.
pub(super) fn pin_request(
    context: &Context,
    holder: &str,
    base: Option<&Base>,
    offset: u64,
    lease: Duration,
) -> v1::PinRequest {
    v1::PinRequest {
        run: context.run.to_wire(),
        holder: holder.to_owned(),
        paths: base.map(|base| base.path.to_wire()).into_iter().collect(),
        from_offset: Some(offset),
        lease_ms: milliseconds(lease),
    }
}

/// Gives a pin back; within a bounded time, else its lease does.
pub(super) async fn unpin(context: &Context, holder: &str) {
    let request = v1::UnpinRequest {
        run: context.run.to_wire(),
        holder: holder.to_owned(),
    };
    let mut persist = context.persist.clone();
    let unpinning = persist.unpin(request);
    if !matches!(
        tokio::time::timeout(UNPIN_TIME_MAX, unpinning).await,
        Ok(Ok(_))
    ) {
        tracing::debug!(holder, "the pin is left to its lease");
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
