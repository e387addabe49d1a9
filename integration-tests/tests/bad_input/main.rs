//! Bad input, beside a real Redis 7.0 wherever Redis has a behaviour: requests that are no
//! requests, limits, options, and starts that can't be.
//!
//! What must hold: the reply or the reason is Redis's; a start that fails ends with exit code 1
//! and a reason that says what to do; and nothing of the data directory is touched.

mod commands;
mod damage;
mod directories;
mod extremes;
mod fuzz;
mod limits;
mod options;
mod protocol;
mod starts;
mod tree;
mod wire;
