//! From what fails here to the one error that callers see.

use std::io;
use std::path::Path;

use redrock_log::epoch::EpochError;
use redrock_log::fs::is_no_space;
use redrock_log::manifest::{LoadError, ManifestEditError};
use redrock_log::sidecar::SidecarError;
use redrock_proto::{ErrorCode, RpcError};

/// The result of everything that a caller of `Persist` waits for.
pub type Result<T> = std::result::Result<T, RpcError>;

/// An IO error with what was attempted and where. A failed epoch check is STALE_EPOCH, a full
/// disk NO_SPACE, anything else INTERNAL.
pub fn io_error(action: &str, path: &Path, error: &io::Error) -> RpcError {
    let text = format!("{action} {}: {error}", path.display());
    if is_no_space(error) {
        return RpcError::new(ErrorCode::NoSpace, text).with_hint("free some room on this disk");
    }
    let superseded = error
        .get_ref()
        .is_some_and(|inner| matches!(inner.downcast_ref(), Some(EpochError::Superseded { .. })));
    if superseded {
        return RpcError::new(ErrorCode::StaleEpoch, text)
            .with_hint("a newer run of the server owns the data directory");
    }
    RpcError::internal(text)
}

/// A manifest that can't be used.
pub fn manifest_error(error: LoadError) -> RpcError {
    match error {
        LoadError::Io(error) => RpcError::internal(format!("read the manifest: {error}")),
        LoadError::Invalid(error) => RpcError::corrupt(format!("AOF manifest: {error}"))
            .with_hint("`redrock-persist check` shows what is wrong with it"),
    }
}

/// A change that the manifest's rules forbid: a defect, or files changed by a stranger.
pub fn edit_error(error: ManifestEditError) -> RpcError {
    RpcError::internal(format!("change the manifest: {error}"))
        .with_hint("was the append-only folder changed by hand?")
}

/// A sidecar that can't be used.
pub fn sidecar_error(error: SidecarError) -> RpcError {
    match error {
        SidecarError::Damaged { .. } => RpcError::corrupt(error.to_string()),
        SidecarError::Io { .. } | SidecarError::Version { .. } => {
            RpcError::internal(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_what_a_caller_may_do() {
        let path = Path::new("dump.rdb");
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(io_error("write", path, &full).code, ErrorCode::NoSpace);
        let stale = io::Error::new(
            io::ErrorKind::PermissionDenied,
            EpochError::Superseded { mine: 1, found: 2 },
        );
        assert_eq!(io_error("rename", path, &stale).code, ErrorCode::StaleEpoch);
        let other = io::Error::from_raw_os_error(libc::EIO);
        assert_eq!(io_error("sync", path, &other).code, ErrorCode::Internal);
    }
}
