//! What the cold part of a save costs without a server: a checkpoint read in order with the persister's
//! own options, its keys and values written to a file, and the file synced. For
//! `scripts/bench-persistence.sh`, with a kept checkpoint (`tier/warm`).
//!
//! ```text
//! plain_copy CHECKPOINT FILE
//! ```

use anyhow::Context as _;
use redrock_persist::snapshot::{checkpoint_read_options, open_checkpoint};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BUFFER_BYTES: usize = 1 << 20;

/// CPU time of the process so far, of threads that have ended too, seconds.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(") ").context("fields")?;
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, file] = &words[..] else {
        anyhow::bail!("see the head of this program's source for what it takes");
    };
    let begun = Instant::now();
    let database = open_checkpoint(Path::new(checkpoint)).map_err(|error| {
        let text = error.message;
        anyhow::anyhow!(text)
    })?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(file)?);
    let mut records = database.raw_iterator_opt(checkpoint_read_options());
    let (mut count, mut bytes) = (0_u64, 0_u64);
    records.seek_to_first();
    while let Some((key, value)) = records.item() {
        out.write_all(key)?;
        out.write_all(value)?;
        count += 1;
        bytes += (key.len() + value.len()) as u64;
        records.next();
    }
    records.status()?;
    out.into_inner()?.sync_all()?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "| plain copy | {count} | {bytes} | {seconds:.2} | {:.2} |",
        cpu_seconds()?
    );
    Ok(())
}
