//! Who wants to hear of changes of which options.

use super::option_set::OptionSet;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// Waits for changes of some options.
#[derive(Debug)]
pub struct Watcher {
    options: OptionSet,
    changed: Notify,
}

impl Watcher {
    /// Waits until one of the options has changed since this returned last.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// All watchers. One that is dropped is forgotten with the next change.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Vec<Weak<Watcher>>>);

impl Watchers {
    /// A new watcher of `options`.
    pub fn watch(&self, options: OptionSet) -> Arc<Watcher> {
        let watcher = Arc::new(Watcher {
            options,
            changed: Notify::new(),
        });
        self.0.lock().push(Arc::downgrade(&watcher));
        watcher
    }

    /// Wakes those that watch one of `changed`: the others' threads must not pay for options
    /// that are nothing to them.
    pub fn tell(&self, changed: &OptionSet) {
        self.0.lock().retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else {
                return false;
            };
            if !watcher.options.common(changed).is_empty() {
                watcher.changed.notify_one();
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn only_those_who_watch_a_changed_option_hear_of_it() {
        let watchers = Watchers::default();
        let watcher = watchers.watch([1, 100].into_iter().collect());
        let heard = || {
            let mut context = Context::from_waker(Waker::noop());
            pin!(watcher.changed()).poll(&mut context).is_ready()
        };
        watchers.tell(&[2].into_iter().collect());
        assert!(!heard());
        watchers.tell(&[2, 100].into_iter().collect());
        assert!(heard() && !heard());
        drop(watchers.watch(OptionSet::all()));
        watchers.tell(&OptionSet::default());
        assert_eq!(watchers.0.lock().len(), 1);
    }
}
