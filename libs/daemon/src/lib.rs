//! What every RedRock daemon needs to live: logging, signals, tasks that end
//! together, its Unix socket, its companions, metrics.
//!
//! A daemon's `main` is: arguments, config, [`logging::init`], the
//! [`role_lock`], [`tasks::Tasks`], [`signals::install`], the services on
//! [`uds`], then wait for [`tasks::Tasks::stopped`] and drain.
//!
//! Invariants:
//! - every wait and every buffer here is bounded, and says by what;
//! - nothing here forks: companions are spawned without copying memory;
//! - nothing here knows what the daemons do.

pub mod companion_args;
pub mod disk;
pub mod error_text;
pub mod handoff;
pub mod huge_pages;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod parent_watch;
pub mod role_lock;
pub mod schedule;
pub mod signals;
pub mod size;
pub mod supervise;
pub mod tasks;
pub mod turns;
pub mod uds;
