//! How the server ends: asked to, or because a part of it failed without which it is of no use.

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug, Default)]
pub struct Fate {
    stop: CancellationToken,
    failure: Mutex<Option<String>>,
}

impl Fate {
    /// Cancelled when the server is to end.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks for an orderly end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether the end was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends the server because of a failure; the first reason stays.
    pub fn fail(&self, reason: impl Into<String>) {
        self.failure.lock().get_or_insert(reason.into());
        self.stop.cancel();
    }

    /// The failure, if one ended the server.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Watches a thread that must live as long as the server: put the guard on its stack.
    pub fn watch(&self, name: impl Into<String>) -> ThreadWatch<'_> {
        ThreadWatch {
            fate: self,
            name: name.into(),
            done: false,
        }
    }
}

impl ThreadWatch<'_> {
    /// The thread's work is done: it may end.
    pub fn done(mut self) {
        self.done = true;
    }
}

/// Ends the server when a thread ends before it, by return or panic.
#[derive(Debug)]
pub struct ThreadWatch<'a> {
    fate: &'a Fate,
    name: String,
    done: bool,
}

impl Drop for ThreadWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fate.fail(format!("thread {} panicked", self.name));
        } else if !self.done && !self.fate.is_stopping() {
            self.fate
                .fail(format!("thread {} ended unexpectedly", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_end_of_a_watched_thread_ends_the_server_unless_it_stops_anyway() {
        for (panics, stops, failure) in [
            (true, false, Some("thread x panicked")),
            (false, false, Some("thread x ended unexpectedly")),
            (false, true, None),
        ] {
            let fate = Arc::new(Fate::default());
            if stops {
                fate.stop();
            }
            let watched = fate.clone();
            let thread = std::thread::spawn(move || {
                let _watch = watched.watch("x");
                if panics {
                    std::panic::resume_unwind(Box::new("for the test"));
                }
            });
            assert_eq!(thread.join().is_err(), panics);
            assert_eq!(fate.failure().as_deref(), failure);
            assert!(fate.is_stopping());
        }
    }
}
