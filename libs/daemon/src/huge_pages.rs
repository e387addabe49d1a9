//! Transparent huge pages, which a daemon that measures its memory can't live with.
//!
//! Where the kernel hands them out unasked (`always`), a value that leaves memory gives nothing back
//! until all of its 2 MiB are free: resident memory is a multiple of what is in use.

use std::fs;

const SYSTEM_SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Has the kernel give this process, and those that it starts, small pages only, whatever the system's
/// setting is or becomes (`PR_SET_THP_DISABLE`). To be called before much memory is taken: what are huge
/// pages by then stay so. Logs what to do if they stay.
pub fn keep_away() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages can't be turned off for this process");
        warn_if_unasked();
    }
}

/// Logs what to do if the system hands them out unasked (`always`).
pub fn warn_if_unasked() {
    let setting = fs::read_to_string(SYSTEM_SETTING).unwrap_or_default();
    if chosen(&setting) == Some("always") {
        tracing::warn!(
            "WARNING Transparent Huge Pages are enabled: less of maxmemory holds values, and writes wait \
             longer. To fix this issue run 'echo madvise > {SYSTEM_SETTING}' as root and restart"
        );
    }
}

/// The word in brackets of `always [madvise] never`.
fn chosen(setting: &str) -> Option<&str> {
    let (_, rest) = setting.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn the_setting_is_the_word_in_brackets() {
        assert_eq!(chosen("[always] madvise never\n"), Some("always"));
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("always madvise never\n"), None);
        assert_eq!(chosen(""), None);
    }
}
