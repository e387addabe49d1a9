//! What happens without a request: cleaning up, listing new segments, save points, automatic
//! rewrites, pins that run out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redrock_proto::RpcError;
use redrock_proto::model::{LogKind, LogState};

use super::{Session, current_segment};
use crate::aof::keeper::Keeper;
use crate::aof::retention::{Facts, backlog_from};
use crate::aof::rewrite::blocking;
use crate::aof::schedule::{RewriteFacts, due_rewrite};
use crate::error::Result;
use crate::jobs::{Activity, Queueing};
use crate::pins::delete_unpinned;
use crate::place::remove_leftovers;
use crate::progress::unix_ms;
use crate::replicas::tend;
use crate::settings::Settings;
use crate::snapshot::schedule::{SaveFacts, due_save_point};

/// Redis's cron runs ten times a second.
const TICK: Duration = Duration::from_millis(100);
/// File lengths are looked at once in so many ticks.
const TICKS_PER_LOOK: u32 = 10;
/// Replaced segments are looked at once in so many.
const TICKS_PER_BACKLOG_LOOK: u32 = 20;
/// How far long actions are is logged once in so many.
const TICKS_PER_PROGRESS: u32 = 50;
/// Between attempts to bring the manifest in line with the server's log.
const RECONCILE_PAUSE: Duration = Duration::from_secs(1);
/// Between attempts to open files that can't be used.
const OPEN_PAUSE: Duration = Duration::from_secs(5);

/// What the manifest has to be in line with: kind and number of the segment, and whether the log
/// shall be on.
type Place = (LogKind, Option<u64>, bool);

/// Whether the manifest is in line, or when that is tried again.
#[derive(Debug, Default)]
struct InLine {
    with: Option<Place>,
    failed: Option<(Place, Instant)>,
}

impl InLine {
    fn is_due(&self, place: Place, now: Instant) -> bool {
        let waits = |(failed, at): (Place, Instant)| {
            failed == place && now.saturating_duration_since(at) < RECONCILE_PAUSE
        };
        self.with != Some(place) && !self.failed.is_some_and(waits)
    }

    fn done(&mut self, place: Place) {
        if self
            .failed
            .take()
            .is_some_and(|(failed, _)| failed == place)
        {
            tracing::info!("the manifest is in line with the server's log again");
        }
        self.with = Some(place);
    }

    /// Says so once for each place: what stands in the way may stay for long.
    fn failed(&mut self, place: Place, now: Instant, error: &RpcError) {
        if self.failed.is_none_or(|(failed, _)| failed != place) {
            tracing::warn!(%error, hint = %error.hint,
                "could not bring the manifest in line with the server's log; trying again");
        }
        self.failed = Some((place, now));
    }
}

/// Runs until it is cancelled.
pub(super) async fn run(session: Arc<Session>) {
    let (mut settings, mut log) = (session.settings.clone(), session.log.clone());
    let known = async {
        settings.wait_for(Option::is_some).await.ok()?;
        log.wait_for(Option::is_some).await.ok()
    };
    if known.await.is_none() {
        return;
    }
    let keeper = opened(&session).await;
    if keeper.is_backlog_kept().unwrap_or(true) {
        // What a former process has kept is not removed before whoever needs it may come back.
        session.pins.lock().assume_replica(Instant::now());
    }
    session
        .aof_base_bytes
        .store(keeper.total_bytes(), Ordering::Relaxed);
    session.keeper.send_replace(Some(Arc::clone(&keeper)));
    let folder = Arc::clone(&session.replicas);
    if let Err(error) = blocking(move || folder.forget_bases()).await {
        tracing::warn!(%error, "could not remove the bases that a former process left");
    }
    let mut ticker = tokio::time::interval(TICK);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    let mut in_line = InLine::default();
    let mut reserved = true;
    loop {
        ticker.tick().await;
        ticks = ticks.wrapping_add(1);
        let Some(log) = session.log.borrow().clone() else {
            continue;
        };
        let settings = session.settings.borrow().clone().unwrap_or_default();
        let seq = log.segment.as_ref().map(|segment| segment.seq);
        let present = (log.kind, seq, settings.append_only);
        keep_backlog(&session, &settings, &log);
        if in_line.is_due(present, Instant::now())
            && let Some(result) = reconcile(&session, &keeper, &settings, &log).await
        {
            match result {
                Ok(()) => in_line.done(present),
                Err(error) => in_line.failed(present, Instant::now(), &error),
            }
            tend::tell_segments(&session).await;
        }
        if ticks.is_multiple_of(TICKS_PER_LOOK) {
            keep_reserve(&keeper, &mut reserved).await;
            tend::tend(&session, &settings, &log).await;
        }
        if ticks.is_multiple_of(TICKS_PER_BACKLOG_LOOK) {
            // What the backlog kept goes as the stream goes on.
            mark_backlog(&session, &keeper, &log).await;
            session.unpinned(&keeper, &settings).await;
        }
        if ticks.is_multiple_of(TICKS_PER_PROGRESS) {
            session.jobs.log_progress();
        }
        expire_pins(&session, &keeper, &settings).await;
        consider_save(&session, &settings, &log);
        if ticks.is_multiple_of(TICKS_PER_LOOK) {
            consider_rewrite(&session, &keeper, &settings, &log);
            session.consider_backup(&settings).await;
        }
    }
}

/// Says from where on replaced segments stay for replicas that come back.
fn keep_backlog(session: &Session, settings: &Settings, log: &LogState) {
    let now = Instant::now();
    let mut pins = session.pins.lock();
    let from = backlog_from(Facts {
        written_offset: log.written_offset,
        backlog_bytes: settings.backlog_bytes(session.source.dir.root()),
        alone_for: pins.alone_for(now),
        ttl: settings.backlog_ttl,
        pins_are_known: session.began.elapsed() > tend::PINS_KNOWN_AFTER,
        is_failing: log.write_error.is_some(),
    });
    pins.keep_backlog(from);
}

async fn mark_backlog(session: &Arc<Session>, keeper: &Arc<Keeper>, log: &LogState) {
    if log.kind != LogKind::AppendOnly {
        return;
    }
    let is_kept = session.pins.lock().keeps_backlog();
    let owned = Arc::clone(keeper);
    if let Err(error) = blocking(move || owned.mark_backlog(is_kept)).await {
        tracing::debug!(%error, "the next start may not know that replicas come back");
    }
}

/// Sees to the manifest's reserve; `reserved` is whether it was there at the last look.
async fn keep_reserve(keeper: &Arc<Keeper>, reserved: &mut bool) {
    let owned = Arc::clone(keeper);
    let kept = blocking(move || owned.keep_reserve()).await;
    if let Err(error) = &kept
        && *reserved
    {
        tracing::warn!(%error, "no disk space could be reserved for the manifest; trying again");
    }
    *reserved = kept.is_ok();
}

/// Opens the files and cleans up what a process that died left behind.
async fn opened(session: &Arc<Session>) -> Arc<Keeper> {
    let mut reported = false;
    loop {
        let owned = Arc::clone(session);
        let result = blocking(move || open_and_clean(&owned)).await;
        match result {
            Ok(keeper) => return Arc::new(keeper),
            Err(error) if !reported => {
                tracing::warn!(%error, hint = %error.hint,
                    "can't look after the append only files; saves still work, trying again");
                reported = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(OPEN_PAUSE).await;
    }
}

fn open_and_clean(session: &Session) -> Result<Keeper> {
    let settings = session.settings.borrow().clone().unwrap_or_default();
    let dir = session.source.dir.clone();
    dir.check_epoch()?;
    // A second attempt must leave alone what jobs write meanwhile.
    if session.cleaned.borrow().is_none() {
        for name in dir.names(dir.root())? {
            if is_temporary_snapshot(&name) {
                dir.unlink(&dir.root().join(&name))?;
            }
        }
        clean_backups(&settings.backup_folder(dir.root()));
        session.cleaned.send_replace(Some(()));
    }
    Keeper::open(dir, &settings.append_dir_name, &settings.append_file_name)
}

/// Removes sets under construction whose maker is dead: what they link keeps its blocks, and the next
/// backup may be far away.
fn clean_backups(sets: &Path) {
    match remove_leftovers(sets) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed backups that were not finished"),
        Err(error) => {
            tracing::warn!(%error, path = %sets.display(), "can't remove unfinished backups");
        }
    }
}

/// Whether the server has settled: a log that is wanted and not there yet may be one that is
/// just being begun, whose files look like litter.
fn is_settled(settings: &Settings, log: &LogState) -> bool {
    settings.append_only == (log.kind == LogKind::AppendOnly)
}

/// `temp-<pid>.rdb` and `temp-rewriteaof-bg-<pid>.aof`, by us or by Redis: their writer is gone,
/// since we hold the role's lock.
fn is_temporary_snapshot(name: &str) -> bool {
    let number = |prefix: &str, suffix: &str| {
        name.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(suffix))
            .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
    };
    number("temp-", ".rdb")
        || number("temp-rewriteaof-bg-", ".aof")
        || number("temp-rewriteaof-", ".aof")
}

/// Brings the manifest in line with the segment that the server appends to; `None` if a job
/// holds the files at the moment.
async fn reconcile(
    session: &Arc<Session>,
    keeper: &Arc<Keeper>,
    settings: &Settings,
    log: &LogState,
) -> Option<Result<()>> {
    let _held = session.jobs.try_hold()?;
    let (owned, log) = (Arc::clone(keeper), log.clone());
    let settled = is_settled(settings, &log);
    let done = blocking(move || {
        reconcile_files(&owned, &log)?;
        if settled {
            owned.clean_up(current_segment(&log))?;
        }
        Ok(())
    })
    .await;
    session.tell_segments(keeper).await;
    if !settings.keep_history {
        delete_history(session, keeper).await;
    }
    Some(done)
}

fn reconcile_files(keeper: &Keeper, log: &LogState) -> Result<()> {
    let Some(current) = current_segment(log) else {
        return Ok(());
    };
    // What an enabling logs continues nothing that is listed; it lists its segment itself.
    if keeper.is_enabling(current)? {
        return Ok(());
    }
    keeper.reload_if_absent()?;
    let Some(manifest) = keeper.manifest() else {
        return Err(
            RpcError::internal("the server keeps an append only log that has no manifest")
                .with_hint("BGREWRITEAOF makes a new base and manifest"),
        );
    };
    // Listed for a cut that never came.
    for entry in manifest.incr.iter().rev() {
        if entry.sequence <= current {
            break;
        }
        let path = keeper.path_of(&entry.name);
        if keeper.has_stream_bytes(entry.sequence)? {
            return Err(RpcError::internal(format!(
                "log file {} is ahead of the one that the server writes to",
                path.display()
            )));
        }
        keeper.unlist_segment(entry.sequence)?;
        keeper.remove_unlisted(entry.sequence, false)?;
    }
    let start_offset = log.segment.as_ref().map(|segment| segment.start_offset);
    let former = keeper
        .manifest()
        .and_then(|manifest| manifest.incr.last().cloned());
    let former_end = former
        .filter(|former| former.sequence < current)
        .and_then(|former| keeper.extent(&former.name))
        .map(|extent| extent.end_offset);
    if former_end.is_some() && former_end != start_offset {
        return Err(RpcError::internal(format!(
            "log file {current} does not continue the ones that are listed: a gap"
        ))
        .with_hint("BGREWRITEAOF makes a new base"));
    }
    keeper.list_segment(current, start_offset)
}

/// Removes replaced files that nobody needs any longer.
async fn delete_history(session: &Arc<Session>, keeper: &Arc<Keeper>) {
    let (owned, pins) = (Arc::clone(keeper), Arc::clone(&session.pins));
    let root = session.source.dir.root().to_owned();
    match blocking(move || delete_unpinned(&owned, &pins, &root)).await {
        Ok(0) => {}
        Ok(files) => {
            tracing::debug!(files, "removed replaced log files");
            session.tell_segments(keeper).await;
        }
        Err(error) => tracing::warn!(%error, "could not remove replaced log files"),
    }
}

async fn expire_pins(session: &Arc<Session>, keeper: &Arc<Keeper>, settings: &Settings) {
    let over = session.pins.lock().expire(Instant::now());
    if over.is_empty() {
        return;
    }
    tracing::info!(holders = ?over, "pins ran out");
    session.unpinned(keeper, settings).await;
}

impl Session {
    /// After pins have gone: what they kept may go too, unless a rewrite is about to do that.
    pub async fn unpinned(self: &Arc<Self>, keeper: &Arc<Keeper>, settings: &Settings) {
        if settings.keep_history {
            return;
        }
        if let Some(_held) = self.jobs.try_hold() {
            delete_history(self, keeper).await;
        }
    }
}

fn consider_save(session: &Arc<Session>, settings: &Settings, log: &LogState) {
    if settings.save_points.is_empty() {
        return;
    }
    let history = session.jobs.history(Activity::Save);
    let facts = SaveFacts {
        now_unix_ms: unix_ms(),
        changes: log.changes_since_save,
        last_save_unix_ms: history.success_unix_ms.max(session.began_unix_ms),
        last_attempt_unix_ms: history.attempt_unix_ms,
        last_attempt_succeeded: history.failures == 0,
        busy: session.jobs.busy(),
    };
    if let Some(point) = due_save_point(&settings.save_points, &facts) {
        tracing::info!(
            "{} changes in {} seconds. Saving...",
            point.changes,
            point.seconds
        );
        if let Err(error) = session.save(false, Queueing::Refuse) {
            tracing::debug!(%error, "the save point has to wait");
        }
    }
}

fn consider_rewrite(
    session: &Arc<Session>,
    keeper: &Arc<Keeper>,
    settings: &Settings,
    log: &LogState,
) {
    let facts = RewriteFacts {
        percentage: settings.rewrite_percentage,
        min_bytes: settings.rewrite_min_bytes,
        current_bytes: keeper.total_bytes(),
        base_bytes: session.aof_base_bytes(),
        append_only: log.kind == LogKind::AppendOnly,
        busy: session.jobs.busy(),
        now_unix_ms: unix_ms(),
        failures: session.rewrite_failures(),
    };
    if let Some(growth) = due_rewrite(&facts) {
        tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
        if let Err(error) = session.rewrite(false) {
            tracing::debug!(%error, "the rewrite has to wait");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_brought_in_line_is_tried_again_and_no_more_once_it_is() {
        let now = Instant::now();
        let (one, two) = (
            (LogKind::AppendOnly, Some(1), true),
            (LogKind::AppendOnly, Some(2), true),
        );
        let error = RpcError::internal("no space left");
        let mut in_line = InLine::default();
        assert!(in_line.is_due(one, now));
        in_line.failed(one, now, &error);
        assert!(!in_line.is_due(one, now + RECONCILE_PAUSE / 2));
        assert!(in_line.is_due(one, now + RECONCILE_PAUSE));
        assert!(
            in_line.is_due(two, now),
            "another segment waits for nothing"
        );
        in_line.done(two);
        assert!(!in_line.is_due(two, now + RECONCILE_PAUSE * 9));
        assert!(in_line.is_due(one, now));
    }

    #[test]
    fn only_names_of_snapshots_under_construction_are_temporary() {
        for name in [
            "temp-123.rdb",
            "temp-rewriteaof-bg-7.aof",
            "temp-rewriteaof-7.aof",
        ] {
            assert!(is_temporary_snapshot(name), "{name}");
        }
        for name in [
            "temp-.rdb",
            "temp-x.rdb",
            "dump.rdb",
            "temp-1.rdb.bak",
            "temperature.rdb",
        ] {
            assert!(!is_temporary_snapshot(name), "{name}");
        }
    }
}
