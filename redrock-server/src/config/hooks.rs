//! What must happen when options change.
//!
//! A part of the server registers a [`Hook`] for its options. CONFIG SET calls the hooks of what
//! changed before the new configuration is in force; if one refuses, those called before it are
//! called again the other way round and nothing has changed.

use super::Config;
use super::option_set::OptionSet;
use super::settings::find;
use super::table::OPTIONS;

/// Brings a change into effect, from the old to the new configuration. It must be able to go
/// back, must not wait for clients or companions without a bound, and **must not lock the
/// keyspace**: CONFIG SET holds it.
pub type Action = Box<dyn Fn(&Config, &Config) -> Result<(), String> + Send + Sync>;

/// An action and the options that need it.
pub struct Hook {
    /// The options that need it.
    options: OptionSet,
    /// What to do.
    action: Action,
}

/// All hooks, in the order in which they are called.
#[derive(Default)]
pub struct Hooks {
    hooks: Vec<Hook>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.hooks.iter().map(|hook| names(&hook.options));
        f.debug_list().entries(names).finish()
    }
}

fn names(options: &OptionSet) -> Vec<&'static str> {
    let options = options.iter().filter_map(|index| OPTIONS.get(index));
    options.map(|option| option.name).collect()
}

impl Hooks {
    /// Adds a hook for options of these names behind the others.
    pub fn add(
        &mut self,
        options: &'static [&'static str],
        action: impl Fn(&Config, &Config) -> Result<(), String> + Send + Sync + 'static,
    ) {
        let found = options.iter().filter_map(|name| find(name.as_bytes()));
        self.hooks.push(Hook {
            options: found.map(|(index, _)| index).collect(),
            action: Box::new(action),
        });
    }

    /// Calls the hooks of `changed`, the options that differ. On failure all is as before; the error names the option.
    pub fn apply(
        &self,
        changed: &OptionSet,
        old: &Config,
        new: &Config,
    ) -> Result<(), (&'static str, String)> {
        let mut done: Vec<&Hook> = Vec::new();
        for hook in &self.hooks {
            let cause = hook.options.common(changed);
            if cause.is_empty() {
                continue;
            }
            if let Err(why) = (hook.action)(old, new) {
                for hook in done.iter().rev() {
                    if let Err(error) = (hook.action)(new, old) {
                        let options = names(&hook.options);
                        tracing::warn!(?options, %error, "could not go back");
                    }
                }
                return Err((names(&cause).first().copied().unwrap_or_default(), why));
            }
            done.push(hook);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        let changed = old.settings.differences(&new.settings);
        assert_eq!(names(&changed), ["timeout", "hz"]);
        assert_eq!(
            hooks.apply(&changed, &old, &new),
            Err(("timeout", "no".into()))
        );
        assert_eq!(
            *log.lock(),
            [("hz", 10, 50), ("timeout", 10, 50), ("hz", 50, 10)]
        );
        let new = with(&old, "port", "1");
        let changed = old.settings.differences(&new.settings);
        assert_eq!(hooks.apply(&changed, &old, &new), Ok(()));
    }
}
