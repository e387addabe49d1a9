//! What a thread keeps from one command to the next.

use super::super::effect::Effect;
use crate::config::Config;
use crate::keyspace::tiering::direct::together::Together;
use crate::keyspace::tiering::one_read::OneRead;
use crate::server::Server;
use std::rc::Rc;
use std::sync::Arc;

/// A worker's own state for running commands, reused from command to command.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) effect: Effect,
    config: Option<Arc<Config>>,
    config_version: u64,
    pub(super) read: Option<OneRead>,
    /// Where reads for several clients are made together.
    together: Option<Rc<Together>>,
    /// The request is all that its client has sent.
    pub is_alone: bool,
}

impl Scratch {
    /// For a thread that serves several clients.
    pub fn of_worker(together: Rc<Together>) -> Self {
        Self {
            together: Some(together),
            ..Self::default()
        }
    }

    /// Where a read for the request may be made together with others, if that is of use.
    pub(super) fn together(&self) -> Option<&Rc<Together>> {
        let together = self.together.as_ref().filter(|_| self.is_alone)?;
        together.pays().then_some(together)
    }

    /// The configuration in force; a load and a compare while it does not change.
    pub fn config(&mut self, server: &Server) -> &Arc<Config> {
        let version = server.config_version();
        if self.config_version != version {
            self.config = None;
            self.config_version = version;
        }
        self.config.get_or_insert_with(|| server.config())
    }
}
