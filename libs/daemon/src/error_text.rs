//! An error and its causes in one line, as the operator reads it.

use std::error::Error;

/// The error's text followed by those of its causes, each once: many errors repeat their cause
/// in their own text.
pub fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_cause_that_is_repeated_is_told_once() {
        let cause = std::io::Error::other("no room");
        let error = Err::<(), _>(cause).context("write a: no room").unwrap_err();
        let error = error.context("save");
        assert_eq!(whole(error.as_ref()), "save: write a: no room");
    }
}
