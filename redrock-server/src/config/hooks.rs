//! What must happen when options change.
//!
//! A part of the server registers a [`Hook`] for its options. CONFIG SET calls the hooks of what
//! changed before the new configuration is in force; if one refuses, those called before it are
//! called again the other way round and nothing has changed.

use super::Config;
use super::table::OPTIONS;

/// One changed option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedOption {
    /// Its index in [`OPTIONS`].
    pub index: usize,
    /// Its primary name.
    pub name: &'static str,
}

/// The options whose values differ.
pub fn changed(old: &Config, new: &Config) -> Vec<ChangedOption> {
    let all = OPTIONS.iter().enumerate();
    all.filter(|(index, _)| !old.settings.has_same(&new.settings, *index))
        .map(|(index, option)| ChangedOption {
            index,
            name: option.name,
        })
        .collect()
}

/// Brings a change into effect, from the old to the new configuration. It must be able to go
/// back, must not wait for clients or companions without a bound, and **must not lock the
/// keyspace**: CONFIG SET holds it.
pub type Action = Box<dyn Fn(&Config, &Config) -> Result<(), String> + Send + Sync>;

/// An action and the options that need it.
pub struct Hook {
    /// Primary names of options.
    pub options: &'static [&'static str],
    /// What to do.
    pub action: Action,
}

/// All hooks, in the order in which they are called.
#[derive(Default)]
pub struct Hooks {
    hooks: Vec<Hook>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.hooks.iter().map(|hook| hook.options))
            .finish()
    }
}

impl Hooks {
    /// Adds a hook behind the others.
    pub fn add(
        &mut self,
        options: &'static [&'static str],
        action: impl Fn(&Config, &Config) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.hooks.push(Hook {
            options,
            action: Box::new(action),
        });
    }

    /// Calls the hooks of what changed. On failure all is as before; the error names the option.
    pub fn apply(&self, old: &Config, new: &Config) -> Result<(), (&'static str, String)> {
        let changed = changed(old, new);
        let mut done: Vec<&Hook> = Vec::new();
        for hook in &self.hooks {
            let Some(option) = changed.iter().find(|o| hook.options.contains(&o.name)) else {
                continue;
            };
            if let Err(why) = (hook.action)(old, new) {
                for hook in done.iter().rev() {
                    if let Err(error) = (hook.action)(new, old) {
                        tracing::warn!(options = ?hook.options, %error, "could not go back");
                    }
                }
                return Err((option.name, why));
            }
            done.push(hook);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::find;
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn with(config: &Config, name: &str, value: &str) -> Config {
        let mut settings = (*config.settings).clone();
        settings
            .set(find(name.as_bytes()).unwrap().0, &[value.as_bytes()], false)
            .unwrap();
        Config::new(settings, None)
    }

    #[test]
    fn a_refused_change_takes_back_the_hooks_before_it() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut hooks = Hooks::default();
        for (options, fails) in [
            (&["hz"][..], false),
            (&["port"], false),
            (&["timeout"], true),
        ] {
            let log = log.clone();
            hooks.add(options, move |old, new| {
                log.lock().push((options[0], old.hz, new.hz));
                if fails { Err("no".into()) } else { Ok(()) }
            });
        }
        let old = Config::default();
        let new = with(&with(&old, "hz", "50"), "timeout", "9");
        assert_eq!(
            changed(&old, &new)
                .iter()
                .map(|o| o.name)
                .collect::<Vec<_>>(),
            ["timeout", "hz"]
        );
        assert_eq!(hooks.apply(&old, &new), Err(("timeout", "no".into())));
        assert_eq!(
            *log.lock(),
            [("hz", 10, 50), ("timeout", 10, 50), ("hz", 50, 10)]
        );
        assert_eq!(hooks.apply(&old, &with(&old, "port", "1")), Ok(()));
    }
}
