//! `oom-score-adj`: how readily the kernel kills this process when memory runs out.

use crate::config::Config;
use parking_lot::Mutex;
use std::io;

const PATH: &str = "/proc/self/oom_score_adj";

/// Bounds of the kernel.
const SCORE_MIN: i32 = -1000;
const SCORE_MAX: i32 = 1000;

/// What the score was before it was first changed, while the option is in force.
static INHERITED: Mutex<Option<i32>> = Mutex::new(None);

/// The score for a process with this offset: `None` leaves what was inherited.
fn wanted(config: &Config, inherited: i32, value: i32) -> Option<i32> {
    let score = match config.memory.oom_score_mode {
        0 => return None,
        1 => inherited.saturating_add(value),
        _ => value,
    };
    Some(score.clamp(SCORE_MIN, SCORE_MAX))
}

/// The server's own offset, by its role.
fn own_value(config: &Config) -> i32 {
    let [master, replica, _] = config.memory.oom_scores;
    match config.replication.master.is_some() {
        true => replica,
        false => master,
    }
}

/// Sets the score that the configuration asks for; once it asks for none any more, the inherited
/// one. A score that was never ours is left alone.
pub fn apply(config: &Config) -> io::Result<()> {
    let mut inherited = INHERITED.lock();
    if inherited.is_none() && config.memory.oom_score_mode == 0 {
        return Ok(());
    }
    let base = match *inherited {
        Some(base) => base,
        None => read(PATH)?,
    };
    let score = wanted(config, base, own_value(config));
    std::fs::write(PATH, score.unwrap_or(base).to_string())?;
    *inherited = score.map(|_| base);
    Ok(())
}

/// Sets the scores of the companions, which Redis's children stand for. What was inherited from
/// the server is theirs too.
pub fn apply_to_companions(config: &Config, pids: impl Iterator<Item = u32>) {
    let [.., companions] = config.memory.oom_scores;
    let Some(base) = *INHERITED.lock() else {
        return;
    };
    let Some(score) = wanted(config, base, companions) else {
        return;
    };
    for pid in pids {
        let path = format!("/proc/{pid}/oom_score_adj");
        if read(&path).is_ok_and(|present| present != score)
            && let Err(error) = std::fs::write(&path, score.to_string())
        {
            tracing::debug!(pid, %error, "oom-score-adj of a companion not set");
        }
    }
}

fn read(path: &str) -> io::Result<i32> {
    let text = std::fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_count_from_the_inherited_one_or_stand_alone() {
        let mut config = Config::default();
        config.memory.oom_scores = [10, 300, 800];
        let own = |config: &Config| wanted(config, 5, own_value(config));
        assert_eq!(own(&config), None);
        config.memory.oom_score_mode = 1;
        assert_eq!(own(&config), Some(15));
        config.memory.oom_score_mode = 2;
        config.replication.master = Some(("a".into(), 1));
        assert_eq!(own(&config), Some(300));
        config.memory.oom_scores = [0, 2000, 0];
        assert_eq!(own(&config), Some(1000));
    }
}
