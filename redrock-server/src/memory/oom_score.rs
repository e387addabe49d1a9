//! `oom-score-adj`: how readily the kernel kills this process when memory runs out.

use crate::config::Config;
use parking_lot::Mutex;
use std::io;

const PATH: &str = "/proc/self/oom_score_adj";

/// Bounds of the kernel.
const SCORE_MIN: i32 = -1000;
const SCORE_MAX: i32 = 1000;

/// What the score was before the first change.
static INHERITED: Mutex<Option<i32>> = Mutex::new(None);

/// The score for a configuration: `None` leaves what was inherited.
fn wanted(config: &Config, inherited: i32) -> Option<i32> {
    let [master, replica, _] = config.memory.oom_scores;
    let value = if config.replication.master.is_some() {
        replica
    } else {
        master
    };
    let score = match config.memory.oom_score_mode {
        0 => return None,
        1 => inherited.saturating_add(value),
        _ => value,
    };
    Some(score.clamp(SCORE_MIN, SCORE_MAX))
}

/// Sets the score that the configuration asks for, or the inherited one.
pub fn apply(config: &Config) -> io::Result<()> {
    let mut inherited = INHERITED.lock();
    if inherited.is_none() && config.memory.oom_score_mode == 0 {
        return Ok(());
    }
    let base = match *inherited {
        Some(base) => base,
        None => {
            let text = std::fs::read_to_string(PATH)?;
            text.trim()
                .parse()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?
        }
    };
    std::fs::write(PATH, wanted(config, base).unwrap_or(base).to_string())?;
    *inherited = Some(base);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_count_from_the_inherited_one_or_stand_alone() {
        let mut config = Config::default();
        config.memory.oom_scores = [10, 300, 800];
        assert_eq!(wanted(&config, 5), None);
        config.memory.oom_score_mode = 1;
        assert_eq!(wanted(&config, 5), Some(15));
        config.memory.oom_score_mode = 2;
        config.replication.master = Some(("a".into(), 1));
        assert_eq!(wanted(&config, 5), Some(300));
        config.memory.oom_scores = [0, 2000, 0];
        assert_eq!(wanted(&config, 5), Some(1000));
    }
}
