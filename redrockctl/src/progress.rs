//! Long actions: follows their stream to the end and shows how far they are.
//!
//! On a terminal one line on standard error is rewritten; otherwise a line is
//! printed at each change of phase. With `--json` each message is a line on
//! standard output. The outcome goes to standard output.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use redrock_proto::client::next_within;
use redrock_proto::{RpcError, v1};
use tonic::Streaming;

use crate::output::Output;
use crate::{json, table};

/// A server sends at least one message a second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Follows an action until it is done. A stream that ends without an outcome
/// is an error: what became of the action isn't known.
pub(crate) async fn follow(
    mut stream: Streaming<v1::Progress>,
    output: &Output,
    name: &str,
) -> Result<(), RpcError> {
    let mut line = Line::new(!output.is_json());
    while let Some(progress) = next_within(&mut stream, SILENCE_MAX).await? {
        if output.is_json() {
            output.json_line(&json::progress(&progress))?;
        } else {
            line.show(name, &progress);
        }
        if progress.phase() == v1::Phase::Done {
            line.clear();
            let outcome = progress.outcome.unwrap_or_default();
            if !output.is_json() {
                output.show(
                    || json::outcome(&outcome),
                    || table::outcome(name, &outcome),
                )?;
            }
            return Ok(());
        }
    }
    Err(
        RpcError::unavailable(format!("the server stopped telling about the {name}"))
            .with_hint("`redrockctl status` shows how it ended"),
    )
}

/// The line on standard error. Failures to write it are of no interest.
struct Line {
    enabled: bool,
    terminal: bool,
    phase: v1::Phase,
}

impl Line {
    fn new(enabled: bool) -> Line {
        let terminal = std::io::stderr().is_terminal();
        Line {
            enabled,
            terminal,
            phase: v1::Phase::Unspecified,
        }
    }

    fn show(&mut self, name: &str, progress: &v1::Progress) {
        let changed = self.phase != progress.phase();
        self.phase = progress.phase();
        if !self.enabled || !(self.terminal || changed) || self.phase == v1::Phase::Done {
            return;
        }
        let text = table::progress(name, progress);
        let mut stderr = std::io::stderr().lock();
        let _ = match self.terminal {
            true => write!(stderr, "\r\x1b[K{text}"),
            false => writeln!(stderr, "{text}"),
        };
        let _ = stderr.flush();
    }

    fn clear(&mut self) {
        if self.enabled && self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // An error message must not be appended to the progress.
        if self.phase != v1::Phase::Done {
            self.clear();
        }
    }
}
