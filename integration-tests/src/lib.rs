//! Whole processes under test: start and stop them, speak to them, compare what they hold.

pub mod dataset;
pub mod process;
pub mod resp;
