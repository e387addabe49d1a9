//! Functions: libraries of code that FCALL runs by name.
//!
//! [`library`] is what is known of them, shared by all threads; [`metadata`] their first line;
//! [`register`] what their code calls while it is loaded; [`vm`] the Lua state that they live in.
//! Their sources are in every snapshot and in the log, so that they are as durable as data.
//!
//! Invariants:
//! - they change with the keyspace held, so that a snapshot's cut has what the log at its place has;
//! - a data set that is being loaded has a state of its own ([`vm::Staged`]), which takes the place of
//!   the former one when its keys do.

pub mod library;
pub mod metadata;
pub mod register;
pub mod vm;

use super::Scripting;
use super::engine::{Engine, Vm};
use crate::command::error::{CommandError, CommandResult};
use crate::config::Config;
use library::Libraries;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vm::Staged;

/// How long a library of a client may take to load, as in Redis.
pub const LOAD_WAIT: Duration = Duration::from_millis(500);

/// What FUNCTION RESTORE does with the libraries that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePolicy {
    /// They go.
    Flush,
    /// They stay; one of a name that is restored is an error.
    Append,
    /// They stay, except those whose names are restored.
    Replace,
}

/// Frees a state on a thread of its own. Without one, at once.
pub(super) fn free_later(vm: Option<Vm>) {
    let Some(vm) = vm else {
        return;
    };
    let thread = std::thread::Builder::new().name("free-lua".into());
    if let Err(error) = thread.spawn(move || drop(vm)) {
        tracing::warn!(%error, "no thread to free a Lua state");
    }
}

impl Scripting {
    /// FUNCTION LOAD: the library's name. `wait`: how long its code may run.
    pub fn load_library(
        &self,
        config: &Config,
        source: &[u8],
        replace: bool,
        wait: Option<Duration>,
    ) -> CommandResult<Vec<u8>> {
        self.with_engine(|engine| {
            let mut libraries = self.libraries.write();
            let functions = &mut engine.functions;
            let library = vm::load_library(functions, &libraries, config, source, replace, wait)?;
            let name = library.name.clone();
            let old = libraries.add(library)?;
            vm::forget(functions.as_ref(), old.iter());
            Ok(name)
        })
    }

    /// FUNCTION RESTORE: adds all these libraries or none.
    pub fn restore_libraries(
        &self,
        config: &Config,
        sources: &[Vec<u8>],
        policy: RestorePolicy,
    ) -> CommandResult {
        if policy == RestorePolicy::Flush {
            let mut staged = Staged::default();
            for source in sources {
                staged.add(config, source, false)?;
            }
            self.replace_libraries(staged);
            return Ok(());
        }
        self.with_engine(|engine| {
            let mut restored = Libraries::default();
            let functions = &mut engine.functions;
            let loaded = sources.iter().try_for_each(|source| {
                let library = vm::load_library(functions, &restored, config, source, false, None)?;
                restored.add(library).map(|_| ())
            });
            let replace = policy == RestorePolicy::Replace;
            let joined = loaded.and_then(|()| self.libraries.write().join(&restored, replace));
            match &joined {
                Ok(gone) => vm::forget(functions.as_ref(), gone.iter()),
                Err(_) => vm::forget(functions.as_ref(), restored.iter()),
            }
            joined.map(|_| ())
        })
    }

    /// Puts a loaded data set's libraries in the place of all that are there.
    pub fn replace_libraries(&self, staged: Staged) {
        self.with_engine(|engine| {
            let Staged { vm, libraries } = staged;
            *self.libraries.write() = libraries;
            free_later(std::mem::replace(&mut engine.functions, vm));
        });
    }

    /// Adds the libraries of a file that is loaded beside what is there. With `replace` they take the
    /// place of those of their names; else such are an error.
    pub fn add_libraries(&self, config: &Config, staged: Staged, replace: bool) -> CommandResult {
        if self.libraries.read().is_empty() {
            self.replace_libraries(staged);
            return Ok(());
        }
        let sources = staged
            .libraries
            .iter()
            .map(|library| library.source.to_vec());
        let policy = match replace {
            true => RestorePolicy::Replace,
            false => RestorePolicy::Append,
        };
        self.restore_libraries(config, &sources.collect::<Vec<_>>(), policy)
    }

    /// FUNCTION DELETE: whether there was such a library.
    pub fn delete_library(&self, name: &[u8]) -> bool {
        self.with_engine(|engine| {
            let gone = self.libraries.write().remove(name);
            vm::forget(engine.functions.as_ref(), gone.iter());
            gone.is_some()
        })
    }

    /// FUNCTION FLUSH. `later`: the memory is freed by another thread.
    pub fn flush_libraries(&self, later: bool) {
        self.with_engine(|engine| {
            *self.libraries.write() = Libraries::default();
            let vm = engine.functions.take();
            if later {
                free_later(vm);
            }
        });
    }

    fn with_engine<R>(&self, work: impl FnOnce(&mut Engine) -> R) -> R {
        let mut engine = self.engine();
        let engine = engine.get_or_insert_with(Box::default);
        let result = work(engine);
        self.count_function_bytes(engine);
        result
    }

    /// Notes what the functions' state takes, for INFO.
    pub(super) fn count_function_bytes(&self, engine: &Engine) {
        let [_, functions] = &self.state_bytes;
        functions.store(engine.function_bytes(), Ordering::Relaxed);
    }
}

/// The answer to a name that no function has.
pub const NOT_FOUND: CommandError = CommandError::fixed("ERR Function not found");
