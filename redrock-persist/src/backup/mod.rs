//! Backup sets: consistent copies of a data set that share their unchanging files with it.

pub mod set;
