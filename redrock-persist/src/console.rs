//! How far an action of the command line is, for who waits at a terminal or reads a job's output.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::progress::ActionProgress;

/// Between two lines on a terminal, where each replaces the one before.
const TERMINAL_PAUSE: Duration = Duration::from_secs(1);
/// Elsewhere.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);

/// Tells on standard error while it lives. Short actions end before the first line.
#[derive(Debug)]
pub struct Console {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Watches the action of that name.
    pub fn watch(name: &'static str, progress: &ActionProgress) -> Console {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let (ended, progress) = (Arc::clone(&over), progress.clone());
        let thread = std::thread::Builder::new()
            .name("console".into())
            .spawn(move || tell(name, &progress, &ended));
        Console {
            over,
            // Without it the action is silent, no more.
            thread: thread.ok(),
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        *self.over.0.lock() = true;
        self.over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell(name: &str, progress: &ActionProgress, (over, woken): &(Mutex<bool>, Condvar)) {
    let is_terminal = std::io::stderr().is_terminal();
    let pause = if is_terminal {
        TERMINAL_PAUSE
    } else {
        PLAIN_PAUSE
    };
    let mut shown = false;
    let mut over = over.lock();
    while !*over {
        if !woken.wait_for(&mut over, pause).timed_out() {
            continue;
        }
        let note = progress.message().note;
        if note.is_empty() {
            continue;
        }
        shown = true;
        let mut stderr = std::io::stderr().lock();
        // A closed standard error ends the telling, not the action.
        let _ = match is_terminal {
            true => write!(stderr, "\r\x1b[K{name}: {note}"),
            false => writeln!(stderr, "{name}: {note}"),
        };
        let _ = stderr.flush();
    }
    if shown && is_terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}
