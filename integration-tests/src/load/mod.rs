//! A write load whose outcome is known exactly: see [`steps`] for what is written, [`Ledger`] for
//! what was sent and acknowledged when, [`oracle`] for what a server must hold because of it.

pub mod oracle;
pub mod steps;

use crate::resp::{Client, Reply, encode};
use anyhow::{Context as _, bail};
use parking::Guarded;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use steps::{LIST_LENGTH, PIPELINE, Plan, SINGLE, WRITERS, Words, words};

/// Databases with what is no function of the steps: keys that expire soon, and what a writer
/// knew of another.
pub const VOLATILE_DB: usize = 5;
/// See [`VOLATILE_DB`].
pub const SEEN_DB: usize = 6;
/// For the marks of the tests themselves.
pub const MARKS_DB: usize = 7;
/// The writer that sets the keys that expire soon.
pub const VOLATILE_WRITER: usize = 2;
/// Pause of a writer behind what it sends at once: a steady load leaves the processor to the others.
const PACE: Duration = Duration::from_millis(2);
/// How long writers may stand still before a test gives up.
const PROGRESS_WAIT: Duration = crate::scale::PATIENCE;

mod parking {
    //! A mutex that does not care for panics elsewhere: the test has failed then anyway.
    use std::sync::{Mutex, MutexGuard, PoisonError};

    #[derive(Debug, Default)]
    pub(super) struct Guarded<T>(Mutex<T>);

    impl<T> Guarded<T> {
        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// How far each writer is. `begun` is raised before a step is sent, `acknowledged` after its
/// reply was read: whatever a server holds of a writer lies between the two.
#[derive(Debug)]
pub struct Ledger {
    /// What the steps are.
    pub plan: Plan,
    begun: [AtomicU64; WRITERS],
    acknowledged: [AtomicU64; WRITERS],
    /// Step and expiry, unix milliseconds, of the keys that expire soon.
    volatile: Guarded<Vec<(u64, u64)>>,
}

/// Steps done by each writer.
pub type Counts = [u64; WRITERS];

impl Ledger {
    /// Nobody has done anything.
    pub fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            plan,
            begun: Default::default(),
            acknowledged: Default::default(),
            volatile: Guarded::default(),
        })
    }

    /// What has been sent at most.
    pub fn begun(&self) -> Counts {
        std::array::from_fn(|w| self.begun[w].load(Ordering::SeqCst))
    }

    /// What has been replied to at least.
    pub fn acknowledged(&self) -> Counts {
        std::array::from_fn(|w| self.acknowledged[w].load(Ordering::SeqCst))
    }

    /// Steps acknowledged in all.
    pub fn total(&self) -> u64 {
        self.acknowledged().iter().sum()
    }

    /// Goes on from what a server was found to hold, by [`oracle::Oracle::check`], after its death.
    pub fn resume(&self, counts: Counts) {
        for (writer, count) in counts.into_iter().enumerate() {
            self.begun[writer].store(count, Ordering::SeqCst);
            self.acknowledged[writer].store(count, Ordering::SeqCst);
        }
        // The check has emptied their database.
        self.volatile.lock().clear();
    }

    /// What is known of the keys that expire soon: step and expiry.
    pub fn volatile(&self) -> Vec<(u64, u64)> {
        self.volatile.lock().clone()
    }

    fn extra(&self, writer: usize, n: u64) -> Vec<Words> {
        if writer == SINGLE {
            return Vec::new();
        }
        let other = (writer + 1) % WRITERS;
        let seen = self.acknowledged[other].load(Ordering::SeqCst);
        let mut extra = vec![
            words(&format!("SELECT {SEEN_DB}")),
            words(&format!("SET {writer}:{other} {seen}")),
        ];
        if writer == VOLATILE_WRITER {
            // From gone at once to gone in a few seconds.
            let at = unix_ms() + n % 8 * 500 + 1;
            self.volatile.lock().push((n, at));
            extra.push(words(&format!("SELECT {VOLATILE_DB}")));
            extra.push(words(&format!("SET v:{n} {at} PXAT {at}")));
        }
        extra.push(words("SELECT 0"));
        extra
    }

    /// Makes the cold keys.
    pub fn preload(&self, client: &mut Client) -> anyhow::Result<()> {
        let mut next = 0;
        while next < self.plan.cold_keys {
            let end = (next + 500).min(self.plan.cold_keys);
            let mut bytes = Vec::new();
            for key in next..end {
                encode(&mut bytes, &self.plan.cold(key));
            }
            client.send_raw(&bytes)?;
            for _ in next..end {
                if let Reply::Error(text) = client.receive()? {
                    bail!("load cold keys: {text}");
                }
            }
            next = end;
        }
        Ok(())
    }
}

/// Now.
pub fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}

/// Writers at work on a server.
#[derive(Debug)]
pub struct Load {
    /// How far they are.
    pub ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Lets all writers go on from where the ledger says, steadily.
    pub fn start(port: u16, ledger: &Arc<Ledger>) -> Self {
        Self::paced(port, ledger, PACE)
    }

    /// As [`Load::start`], as fast as it goes.
    pub fn flat_out(port: u16, ledger: &Arc<Ledger>) -> Self {
        Self::paced(port, ledger, Duration::ZERO)
    }

    fn paced(port: u16, ledger: &Arc<Ledger>, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..WRITERS)
            .map(|writer| {
                let (ledger, stop) = (ledger.clone(), stop.clone());
                std::thread::spawn(move || write(&ledger, writer, port, pace, &stop))
            })
            .collect();
        Self {
            ledger: ledger.clone(),
            stop,
            threads,
        }
    }

    /// Waits until every writer has had `steps` more acknowledged.
    pub fn advance(&self, steps: u64) -> anyhow::Result<()> {
        let goal = self.ledger.acknowledged().map(|count| count + steps);
        let deadline = Instant::now() + PROGRESS_WAIT;
        loop {
            let now = self.ledger.acknowledged();
            if now.iter().zip(goal).all(|(now, goal)| *now >= goal) {
                return Ok(());
            }
            if self.threads.iter().any(JoinHandle::is_finished) {
                bail!("a writer has ended early: {now:?}");
            }
            if Instant::now() > deadline {
                bail!("writers stand still: {now:?}, wanted {goal:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all of them together have had `steps` more acknowledged.
    pub fn advance_in_all(&self, steps: u64) -> anyhow::Result<()> {
        let goal = self.ledger.total() + steps;
        let deadline = Instant::now() + PROGRESS_WAIT;
        while self.ledger.total() < goal {
            if self.threads.iter().any(JoinHandle::is_finished) {
                bail!("a writer has ended early");
            }
            if Instant::now() > deadline {
                bail!("writers stand still");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Lets them finish what they have begun; an error that any of them has met is ours.
    pub fn stop(self) -> anyhow::Result<Counts> {
        self.stop.store(true, Ordering::SeqCst);
        for (writer, thread) in self.threads.into_iter().enumerate() {
            match thread.join() {
                Ok(result) => result.with_context(|| format!("writer {writer}"))?,
                Err(_) => bail!("writer {writer} panicked"),
            }
        }
        let (begun, acknowledged) = (self.ledger.begun(), self.ledger.acknowledged());
        if begun != acknowledged {
            bail!("begun {begun:?} but acknowledged {acknowledged:?}");
        }
        Ok(acknowledged)
    }

    /// Waits for the end of all writers after the server's death. Error replies before it are
    /// errors still.
    pub fn join_dead(self) -> anyhow::Result<()> {
        for (writer, thread) in self.threads.into_iter().enumerate() {
            match thread.join() {
                Ok(Err(error)) if error.downcast_ref::<ServerGone>().is_some() => {}
                Ok(Ok(())) => bail!("writer {writer} ended before the server"),
                Ok(Err(error)) => return Err(error.context(format!("writer {writer}"))),
                Err(_) => bail!("writer {writer} panicked"),
            }
        }
        Ok(())
    }
}

/// The connection is gone: no reply, but no error reply either.
#[derive(Debug)]
struct ServerGone(String);

impl std::fmt::Display for ServerGone {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the server is gone: {}", self.0)
    }
}

impl std::error::Error for ServerGone {}

fn gone(error: anyhow::Error) -> anyhow::Error {
    ServerGone(format!("{error:#}")).into()
}

fn write(
    ledger: &Ledger,
    writer: usize,
    port: u16,
    pace: Duration,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut client = Client::connect(port).map_err(gone)?;
    while !stop.load(Ordering::SeqCst) {
        let first = ledger.begun[writer].load(Ordering::SeqCst) + 1;
        let last = first + PIPELINE[writer] - 1;
        let mut bytes = Vec::new();
        let mut replies = Vec::new();
        for n in first..=last {
            let step = ledger.plan.step(writer, n, &ledger.extra(writer, n));
            for command in &step {
                encode(&mut bytes, command);
            }
            replies.push((n, step.len()));
        }
        ledger.begun[writer].store(last, Ordering::SeqCst);
        client.send_raw(&bytes).map_err(gone)?;
        for (n, count) in replies {
            let mut reply = Reply::Nil;
            for _ in 0..count {
                reply = client.receive().map_err(gone)?;
                if let Reply::Error(text) = &reply {
                    bail!("step {n}: {text}");
                }
            }
            check(writer, n, reply)?;
            ledger.acknowledged[writer].store(n, Ordering::SeqCst);
        }
        if !pace.is_zero() {
            std::thread::sleep(pace);
        }
    }
    Ok(())
}

/// The last reply of a step says which step the server takes it for.
fn check(writer: usize, n: u64, reply: Reply) -> anyhow::Result<()> {
    let (counted, expected) = match &reply {
        Reply::Array(replies) => (replies.first().and_then(Reply::int), n),
        other => (other.int(), (n - 1) % LIST_LENGTH + 1),
    };
    if counted != i64::try_from(expected).ok() {
        bail!("writer {writer}: step {n} was answered with {reply:?}");
    }
    for reply in reply.elements() {
        // RENAME of what is not there, and COPY or RENAME onto itself, fail as they should.
        if let Reply::Error(text) = reply
            && text != "ERR no such key"
            && text != "ERR source and destination objects are the same"
        {
            bail!("writer {writer}, step {n}: {text}");
        }
    }
    Ok(())
}
