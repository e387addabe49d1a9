//! The rewrite: a new base, and the log goes on behind it.
//!
//! Steps, each durable before the next; a failpoint `rewrite-step-N` follows each:
//!
//! 1. segment N+1 is created, empty, in no manifest;
//! 2. it is offered to the server;
//! 3. it is listed;
//! 4. the server makes the cut and switches to it;
//! 5. the base is written aside and synced;
//! 6. the base gets its name, its directory is synced;
//! 7. the manifest names the new base; all before the cut is history;
//! 8. history that nobody pinned is removed, then forgotten;
//! 9. the server is told which segments exist.
//!
//! A death behind any step leaves a manifest whose files are a valid data set: up to step 6
//! the old base with all segments, from step 7 on the new base. If no cut follows step 3 the
//! segment is unlisted, but only once the server itself has said that it made none.
//!
//! Turning the log on ([`Kind::Enable`]) leaves out step 3: what the old manifest names would
//! otherwise be continued across a gap. The segment carries a marker instead until step 7.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redrock_proto::model::{LogKind, LogState, Purpose, SharedPath};
use redrock_proto::{RpcError, v1};
use tokio_util::sync::CancellationToken;

use super::keeper::{Keeper, NewSegment};
use crate::error::Result;
use crate::link;
use crate::pins::{Pins, delete_unpinned};
use crate::progress::ActionProgress;
use crate::snapshot::{self, FileOptions, Plan, Source, TakeError, Taken, pace};

/// For the server's answer to an offer.
const OFFER_WAIT: Duration = Duration::from_secs(5);
/// Offers made until one is taken.
const OFFERS_MAX: u32 = 3;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The log is on.
    Continue,
    /// The log is off and shall be on afterwards.
    Enable,
    /// The log is off and stays so: only a base is made, as Redis does for BGREWRITEAOF.
    BaseOnly,
}

/// What a rewrite works with.
pub struct Rewrite<'a> {
    pub kind: Kind,
    pub source: &'a Source,
    pub keeper: Arc<Keeper>,
    /// Number of the segment that the server appends to.
    pub current_segment: Option<i64>,
    pub file: FileOptions,
    pub incremental_fsync: bool,
    pub rate: pace::Rate,
    pub key_delay: Duration,
    pub pins: Arc<Mutex<Pins>>,
    /// `aof-disable-auto-gc`.
    pub keep_history: bool,
    pub progress: &'a ActionProgress,
    pub cancel: &'a CancellationToken,
}

/// What a rewrite has made.
#[derive(Debug)]
pub struct Rewritten {
    pub base: PathBuf,
    pub taken: Taken,
}

/// What to do, given where the log stands.
pub fn kind_for(log: &LogState, enable: bool) -> Kind {
    match (log.kind, enable) {
        (LogKind::AppendOnly, _) => Kind::Continue,
        (_, true) => Kind::Enable,
        (_, false) => Kind::BaseOnly,
    }
}

impl Rewrite<'_> {
    /// Runs all steps.
    pub async fn run(self) -> Result<Rewritten> {
        if self.kind == Kind::BaseOnly {
            return self.base_only().await;
        }
        let segment = self.offered_segment().await?;
        self.pass(2)?;
        let prepared = self.prepare(&segment).await;
        if let Err(error) = prepared {
            self.back_out(&segment, false).await;
            return Err(error);
        }
        self.pass(3)?;
        let taken = match self.take(Purpose::Rewrite, Some(&segment)).await {
            Ok(taken) => taken,
            Err(failed) => {
                self.after_failed_take(&segment, &failed).await;
                return Err(failed.error);
            }
        };
        let finished = self.finish(&segment, &taken).await;
        taken.release(self.source, finished.as_deref().ok()).await;
        match finished {
            Ok(base) => {
                self.delete_history().await;
                self.pass(8)?;
                Ok(Rewritten { base, taken })
            }
            Err(error) => {
                self.source.dir.unlink_litter(&self.temporary());
                if self.kind == Kind::Enable {
                    self.back_out(&segment, true).await;
                }
                Err(error)
            }
        }
    }

    async fn base_only(self) -> Result<Rewritten> {
        let taken = self
            .take(Purpose::FullSync, None)
            .await
            .map_err(|failed| failed.error)?;
        let temporary = self.temporary();
        if taken.begin.append_only {
            // Alone the base would replace the very log that the server appends to.
            taken.release(self.source, None).await;
            self.source.dir.unlink_litter(&temporary);
            return Err(RpcError::cancelled("the log was turned on").with_hint("try again"));
        }
        let placed = self
            .blocking(move |keeper| {
                let base = keeper.place_base(&temporary)?;
                keeper.install_base(None)?;
                Ok(base)
            })
            .await;
        taken.release(self.source, placed.as_deref().ok()).await;
        let base = placed?;
        self.delete_history().await;
        Ok(Rewritten { base, taken })
    }

    fn temporary(&self) -> PathBuf {
        let name = format!("temp-rewriteaof-bg-{}.aof", std::process::id());
        self.source.dir.root().join(name)
    }

    fn pass(&self, step: u32) -> Result<()> {
        self.source.dir.pass(&format!("rewrite-step-{step}"))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Keeper) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let keeper = Arc::clone(&self.keeper);
        blocking(move || work(&keeper)).await
    }

    /// Steps 1 and 2.
    async fn offered_segment(&self) -> Result<NewSegment> {
        let mut seq_min = 1;
        for _ in 0..OFFERS_MAX {
            let enabling = self.kind == Kind::Enable;
            let segment = self
                .blocking(move |keeper| {
                    let segment = keeper.create_segment(seq_min)?;
                    if enabling {
                        keeper.mark_enabling(segment.seq)?;
                    }
                    Ok(segment)
                })
                .await?;
            self.pass(1)?;
            match offer(self.source, &segment, v1::LogKind::AppendOnly, false).await {
                Ok(Offer::Accepted) => return Ok(segment),
                Ok(Offer::InUse) => {
                    return Err(RpcError::internal(format!(
                        "the server already writes to log file {}",
                        segment.seq
                    )));
                }
                Ok(Offer::Refused { seq_min: wanted }) => {
                    self.discard(&segment).await;
                    seq_min = wanted.max(segment.seq.saturating_add(1));
                }
                Err(error) => {
                    self.back_out(&segment, false).await;
                    return Err(error);
                }
            }
        }
        Err(RpcError::internal("the server refuses every log file"))
    }

    /// Step 3.
    async fn prepare(&self, segment: &NewSegment) -> Result<()> {
        let seq = segment.seq;
        let enabling = self.kind == Kind::Enable;
        let current = self.current_segment;
        self.check_still_on().await?;
        self.blocking(move |keeper| {
            // The last step makes room on a full disk, and must not lack any itself.
            keeper.keep_reserve()?;
            keeper.remove_stale(seq, current)?;
            // Without a manifest there is nothing that the segment could continue.
            if enabling || keeper.manifest().is_none() {
                return Ok(());
            }
            keeper.list_segment(seq, None)
        })
        .await
    }

    /// A full sync turns the log off, and then a listed segment would continue files that it does
    /// not belong to. The server drops the offer when it turns the log off: what is on behind
    /// the offer is on at the cut, or the cut fails.
    async fn check_still_on(&self) -> Result<()> {
        if self.kind != Kind::Continue {
            return Ok(());
        }
        let log = link::log_now(&self.source.server, self.source.run).await?;
        match log.kind {
            LogKind::AppendOnly => Ok(()),
            _ => Err(RpcError::cancelled("the log was turned off")),
        }
    }

    async fn take(
        &self,
        purpose: Purpose,
        segment: Option<&NewSegment>,
    ) -> std::result::Result<Taken, TakeError> {
        let plan = Plan {
            purpose,
            rotate_to_segment: segment.and_then(|segment| u64::try_from(segment.seq).ok()),
            temporary: self.temporary(),
            file: self.file,
            incremental_fsync: self.incremental_fsync,
            rate: self.rate,
            key_delay: self.key_delay,
        };
        snapshot::take(self.source, plan, self.progress, self.cancel).await
    }

    /// Steps 5 to 7.
    async fn finish(&self, segment: &NewSegment, taken: &Taken) -> Result<PathBuf> {
        self.pass(5)?;
        let begin = &taken.begin;
        if !begin.rotated || i64::try_from(begin.segment_seq) != Ok(segment.seq) {
            return Err(RpcError::internal(
                "the server made a cut without switching the log",
            ));
        }
        let (seq, start_offset) = (segment.seq, begin.log_offset);
        let temporary = self.temporary();
        let dir = self.source.dir.clone();
        let enabling = self.kind == Kind::Enable;
        self.blocking(move |keeper| {
            let base = keeper.place_base(&temporary)?;
            dir.pass("rewrite-step-6")?;
            keeper.install_base(Some((seq, start_offset)))?;
            dir.pass("rewrite-step-7")?;
            if enabling {
                keeper.unmark_enabling(seq)?;
            }
            Ok(base)
        })
        .await
    }

    /// Step 8. What can't be removed now is removed later: no reason to fail the rewrite.
    async fn delete_history(&self) {
        if self.keep_history {
            return;
        }
        let pins = Arc::clone(&self.pins);
        let root = self.source.dir.root().to_owned();
        let deleted = self
            .blocking(move |keeper| delete_unpinned(keeper, &pins, &root))
            .await;
        if let Err(error) = deleted {
            tracing::warn!(%error, "could not remove replaced log files; they are tried again");
        }
    }

    async fn after_failed_take(&self, segment: &NewSegment, failed: &TakeError) {
        match &failed.begin {
            // The log has switched: the segment carries it on, listed as it is.
            Some(begin) if begin.rotated && self.kind == Kind::Continue => {}
            Some(_) => self.back_out(segment, true).await,
            None if failed.refused => self.back_out(segment, false).await,
            // The server may still make the cut. Until it says otherwise the segment stays
            // listed; being empty it harms nobody. See `Session::reconcile`.
            None => tracing::info!(
                segment = segment.seq,
                "it isn't known whether the log was switched; the new file stays listed"
            ),
        }
    }

    /// Takes the segment back if the server hasn't switched to it. `cut` tells that a cut was
    /// made in an enabling: the server goes back to no log and the bytes are of no use.
    async fn back_out(&self, segment: &NewSegment, cut: bool) {
        let seq = segment.seq;
        let enabling = self.kind == Kind::Enable;
        let unused = match offer(self.source, segment, v1::LogKind::AppendOnly, false).await {
            Ok(Offer::Accepted | Offer::Refused { .. }) => true,
            Ok(Offer::InUse) | Err(_) => false,
        };
        if !unused {
            // With a marker it is removed once the server has left it, else it stays listed.
            return;
        }
        let result = self
            .blocking(move |keeper| {
                let listed = keeper.manifest().is_some_and(|manifest| {
                    manifest.incr.iter().any(|entry| entry.sequence == seq)
                });
                if listed {
                    keeper.unlist_segment(seq)?;
                }
                // The file itself stays while the server holds the offer; an empty one is
                // removed at the next start, or when a later offer has replaced it.
                if enabling && cut {
                    keeper.remove_unlisted(seq, true)?;
                    keeper.unmark_enabling(seq)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = result {
            tracing::warn!(%error, segment = seq, "could not take back a log file");
        }
    }

    async fn discard(&self, segment: &NewSegment) {
        let seq = segment.seq;
        let enabling = self.kind == Kind::Enable;
        let result = self
            .blocking(move |keeper| {
                keeper.remove_unlisted(seq, false)?;
                if enabling {
                    keeper.unmark_enabling(seq)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = result {
            tracing::debug!(%error, "could not remove a refused log file");
        }
    }
}

/// The server's word on a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Accepted,
    InUse,
    Refused { seq_min: i64 },
}

/// Offers a segment, to switch to at a cut or now.
pub async fn offer(
    source: &Source,
    segment: &NewSegment,
    kind: v1::LogKind,
    switch_now: bool,
) -> Result<Offer> {
    let path = SharedPath::new(source.dir.root(), &segment.path);
    let request = v1::OfferSegmentRequest {
        run: source.run.to_wire(),
        seq: u64::try_from(segment.seq).unwrap_or(0),
        path: path.to_wire(),
        kind: kind.into(),
        switch_now,
    };
    let mut client = source.server.log();
    let reply = tokio::time::timeout(OFFER_WAIT, client.offer_segment(request))
        .await
        .map_err(|_| RpcError::timeout("the server didn't answer the offer of a log file"))??
        .into_inner();
    match v1::OfferResult::try_from(reply.result) {
        Ok(v1::OfferResult::Accepted) => Ok(Offer::Accepted),
        Ok(v1::OfferResult::InUse) => Ok(Offer::InUse),
        Ok(v1::OfferResult::Refused) => Ok(Offer::Refused {
            seq_min: i64::try_from(reply.seq_min).unwrap_or(i64::MAX),
        }),
        _ => Err(RpcError::internal(
            "the server's answer to an offer is unknown",
        )),
    }
}

/// Runs work that waits for the disk off the runtime's threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RpcError::internal(format!("a worker died: {error}"))),
    }
}
