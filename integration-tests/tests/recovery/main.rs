//! What survives which death, and what the other server makes of the files.

mod damage;
mod effects;
mod exchange;
mod full_disk;
mod kill;
mod load;
mod power;
mod scripts;
mod sync_fails;
mod unbegun;

use std::path::{Path, PathBuf};

const AOF: [&str; 2] = ["--appendonly", "yes"];

fn policy(fsync: &str) -> Vec<&str> {
    vec!["--appendonly", "yes", "--appendfsync", fsync]
}

fn segment(folder: &Path) -> PathBuf {
    folder.join("appendonlydir/appendonly.aof.1.incr.aof")
}
