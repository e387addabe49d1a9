//! Lua scripts: the machine that runs EVAL and FCALL.
//!
//! [`engine`] has the Lua states and runs code in them; [`sandbox`] is what code sees there; [`call`]
//! is `redis.call`; [`fiber`] lets a script that runs for too long stand aside while others are told
//! `-BUSY`; [`function`] has the libraries. What is here is shared by all threads: the cache of sources,
//! the libraries, and what is known of the script that is busy.
//!
//! Invariants:
//! - a script runs with the keyspace held, from its start to its end;
//! - locks are taken in the order keyspace, engine; nobody takes the engine's without the keyspace's,
//!   except while a data set is loaded;
//! - a script is *unseen* until it has run a command that may write or tell anybody. An unseen script
//!   can be stopped and run again from its start.

pub mod api;
pub mod cache;
pub mod call;
pub mod engine;
pub mod errors;
pub mod fiber;
pub mod flags;
pub mod from_reply;
pub mod function;
pub mod kept;
pub mod lua;
pub mod prepare;
pub mod random;
pub mod run;
pub mod sandbox;
pub mod to_reply;

use crate::command::error::CommandError;
use crate::keyspace::Keyspace;
use cache::ScriptCache;
use engine::Engine;
use function::library::Libraries;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

/// What a busy script answers to others, as Redis: EVAL's and a function's.
pub const BUSY_SCRIPT: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const BUSY_FUNCTION: &str =
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";

/// Work that needs the keyspace and was left to the end of a busy script.
pub type Later = Box<dyn FnOnce(&mut Keyspace) + Send>;

/// A script that others see because it runs for too long.
#[derive(Debug, Clone)]
pub struct Busy {
    /// EVAL, not FCALL.
    pub is_eval: bool,
    /// The script's digest, or the function's name.
    pub name: String,
    /// The command that started it.
    pub command: Vec<Vec<u8>>,
    /// When it started.
    pub since: Instant,
    /// It came from our master or the log.
    pub obeyed: bool,
}

/// See the module.
#[derive(Default)]
pub struct Scripting {
    engine: Mutex<Option<Box<Engine>>>,
    /// Sources by digest.
    pub cache: ScriptCache,
    /// Libraries of functions; changed with the keyspace and the engine held.
    pub libraries: RwLock<Libraries>,
    is_busy: AtomicBool,
    busy: Mutex<Option<Busy>>,
    /// The busy script has written: it can't be killed.
    pub has_written: AtomicBool,
    killed: AtomicBool,
    later: Mutex<Vec<Later>>,
    idle: Notify,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS
    pub may_run_all: AtomicBool,
    /// Bytes of the Lua states: for EVAL and for functions.
    pub state_bytes: [AtomicUsize; 2],
}

impl std::fmt::Debug for Scripting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripting")
            .field("is_busy", &self.is_busy)
            .finish_non_exhaustive()
    }
}

impl Scripting {
    /// The Lua states. Held while a script runs.
    pub fn engine(&self) -> MutexGuard<'_, Option<Box<Engine>>> {
        self.engine.lock()
    }

    /// Whether a script runs for too long. One load.
    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// The script that runs for too long.
    pub fn busy(&self) -> Option<Busy> {
        self.busy.lock().clone()
    }

    /// What other clients are answered; `None` while no script is busy.
    pub fn busy_error(&self) -> Option<CommandError> {
        if !self.is_busy() {
            return None;
        }
        let busy = self.busy.lock();
        Some(busy_error(busy.as_ref()?.is_eval))
    }

    /// A script runs for too long: from now on others are told.
    pub fn begin_busy(&self, busy: Busy, has_written: bool) {
        self.has_written.store(has_written, Ordering::Release);
        self.killed.store(false, Ordering::Release);
        *self.busy.lock() = Some(busy);
        self.is_busy.store(true, Ordering::Release);
    }

    /// The busy script has ended; does what was left for then.
    pub fn end_busy(&self, keyspace: &mut Keyspace) {
        let later = {
            let mut later = self.later.lock();
            self.is_busy.store(false, Ordering::Release);
            *self.busy.lock() = None;
            std::mem::take(&mut *later)
        };
        for work in later {
            work(keyspace);
        }
    }

    /// Wakes who waits for the end of a busy script. Called once the keyspace is free again.
    pub fn wake_waiting(&self) {
        self.idle.notify_waiters();
    }

    /// Leaves work to the end of the busy script; gives it back if there is none.
    pub fn later(&self, work: Later) -> Result<(), Later> {
        let mut later = self.later.lock();
        if !self.is_busy() {
            return Err(work);
        }
        later.push(work);
        Ok(())
    }

    /// Waits until no script is busy.
    pub async fn wait_idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if !self.is_busy() {
                return;
            }
            idle.await;
        }
    }

    /// Whether the busy script is to be killed.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// SCRIPT KILL (`is_eval`) and FUNCTION KILL.
    pub fn kill(&self, is_eval: bool) -> Result<(), CommandError> {
        let busy = self.busy.lock();
        let Some(busy) = &*busy else {
            return Err(CommandError::fixed(
                "NOTBUSY No scripts in execution right now.",
            ));
        };
        if busy.obeyed {
            return Err(CommandError::fixed(
                "UNKILLABLE The busy script was sent by a master instance in the context of \
                 replication and cannot be killed.",
            ));
        }
        if self.has_written.load(Ordering::Acquire) {
            return Err(CommandError::fixed(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. \
                 You can either wait the script termination or kill the server in a hard way using \
                 the SHUTDOWN NOSAVE command.",
            ));
        }
        if is_eval != busy.is_eval {
            return Err(busy_error(busy.is_eval));
        }
        self.killed.store(true, Ordering::Release);
        Ok(())
    }
}

fn busy_error(is_eval: bool) -> CommandError {
    CommandError::fixed(if is_eval { BUSY_SCRIPT } else { BUSY_FUNCTION })
}
