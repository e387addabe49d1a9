//! Whole processes under test: start and stop them, speak to them, compare what they hold.

pub mod certificates;
pub mod cgroup;
pub mod daemons;
pub mod dataset;
pub mod fake_master;
pub mod job;
pub mod load;
pub mod memory;
pub mod mixed;
pub mod process;
pub mod proxy;
pub mod resp;
pub mod scale;
pub mod small_disk;
