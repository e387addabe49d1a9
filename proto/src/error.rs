//! One error for all calls, carried in the details of a gRPC status.
//!
//! A status made by [`RpcError`] holds an encoded `ErrorDetail`, so code,
//! message and hint survive the way. A status of other origin (a transport
//! failure, an intermediary) has no details: its gRPC code is mapped to the
//! nearest [`ErrorCode`].

use prost::Message;
use tonic::{Code, Status};

use crate::v1;

/// Longest message or hint sent, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Why a call failed; see `common.proto` for what a caller may do about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    Unavailable,
    Busy,
    StaleEpoch,
    NotFound,
    Invalid,
    NoSpace,
    Corrupt,
    Timeout,
    Unsupported,
    Internal,
    Denied,
    Cancelled,
}

impl ErrorCode {
    /// All codes, for tables and tests.
    pub const ALL: [ErrorCode; 12] = [
        ErrorCode::Unavailable,
        ErrorCode::Busy,
        ErrorCode::StaleEpoch,
        ErrorCode::NotFound,
        ErrorCode::Invalid,
        ErrorCode::NoSpace,
        ErrorCode::Corrupt,
        ErrorCode::Timeout,
        ErrorCode::Unsupported,
        ErrorCode::Internal,
        ErrorCode::Denied,
        ErrorCode::Cancelled,
    ];

    /// Name as in the contract and in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::Unavailable => "UNAVAILABLE",
            ErrorCode::Busy => "BUSY",
            ErrorCode::StaleEpoch => "STALE_EPOCH",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::Invalid => "INVALID",
            ErrorCode::NoSpace => "NO_SPACE",
            ErrorCode::Corrupt => "CORRUPT",
            ErrorCode::Timeout => "TIMEOUT",
            ErrorCode::Unsupported => "UNSUPPORTED",
            ErrorCode::Internal => "INTERNAL",
            ErrorCode::Denied => "DENIED",
            ErrorCode::Cancelled => "CANCELLED",
        }
    }

    /// True if the same request may succeed later without anybody's help.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorCode::Unavailable | ErrorCode::Busy | ErrorCode::Timeout
        )
    }

    fn to_grpc(self) -> Code {
        match self {
            ErrorCode::Unavailable => Code::Unavailable,
            ErrorCode::Busy => Code::Aborted,
            ErrorCode::StaleEpoch => Code::FailedPrecondition,
            ErrorCode::NotFound => Code::NotFound,
            ErrorCode::Invalid => Code::InvalidArgument,
            ErrorCode::NoSpace => Code::ResourceExhausted,
            ErrorCode::Corrupt => Code::DataLoss,
            ErrorCode::Timeout => Code::DeadlineExceeded,
            ErrorCode::Unsupported => Code::Unimplemented,
            ErrorCode::Internal => Code::Internal,
            ErrorCode::Denied => Code::PermissionDenied,
            ErrorCode::Cancelled => Code::Cancelled,
        }
    }

    fn from_grpc(code: Code) -> ErrorCode {
        match code {
            Code::Unavailable => ErrorCode::Unavailable,
            Code::Aborted => ErrorCode::Busy,
            Code::FailedPrecondition => ErrorCode::StaleEpoch,
            Code::NotFound => ErrorCode::NotFound,
            Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => ErrorCode::Invalid,
            Code::ResourceExhausted => ErrorCode::NoSpace,
            Code::DataLoss => ErrorCode::Corrupt,
            Code::DeadlineExceeded => ErrorCode::Timeout,
            Code::Unimplemented => ErrorCode::Unsupported,
            Code::PermissionDenied | Code::Unauthenticated => ErrorCode::Denied,
            Code::Cancelled => ErrorCode::Cancelled,
            Code::Ok | Code::Unknown | Code::Internal => ErrorCode::Internal,
        }
    }

    fn to_wire(self) -> v1::ErrorCode {
        match self {
            ErrorCode::Unavailable => v1::ErrorCode::Unavailable,
            ErrorCode::Busy => v1::ErrorCode::Busy,
            ErrorCode::StaleEpoch => v1::ErrorCode::StaleEpoch,
            ErrorCode::NotFound => v1::ErrorCode::NotFound,
            ErrorCode::Invalid => v1::ErrorCode::Invalid,
            ErrorCode::NoSpace => v1::ErrorCode::NoSpace,
            ErrorCode::Corrupt => v1::ErrorCode::Corrupt,
            ErrorCode::Timeout => v1::ErrorCode::Timeout,
            ErrorCode::Unsupported => v1::ErrorCode::Unsupported,
            ErrorCode::Internal => v1::ErrorCode::Internal,
            ErrorCode::Denied => v1::ErrorCode::Denied,
            ErrorCode::Cancelled => v1::ErrorCode::Cancelled,
        }
    }

    /// `None` for UNSPECIFIED and for numbers of a newer contract.
    fn from_wire(code: i32) -> Option<ErrorCode> {
        let wire = v1::ErrorCode::try_from(code).ok()?;
        ErrorCode::ALL
            .into_iter()
            .find(|code| code.to_wire() == wire)
    }
}

/// A failed call: what callers branch on, what people read, what they can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    pub code: ErrorCode,
    /// What happened, one sentence.
    pub message: String,
    /// What can be done about it; may be empty.
    pub hint: String,
}

impl RpcError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> RpcError {
        RpcError {
            code,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> RpcError {
        self.hint = hint.into();
        self
    }

    pub fn unavailable(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Unavailable, message)
    }

    pub fn busy(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Busy, message)
    }

    pub fn not_found(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::NotFound, message)
    }

    pub fn invalid(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Invalid, message)
    }

    pub fn timeout(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Timeout, message)
    }

    pub fn unsupported(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Unsupported, message)
    }

    pub fn corrupt(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Corrupt, message)
    }

    pub fn cancelled(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Cancelled, message)
    }

    pub fn internal(message: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::Internal, message)
    }

    /// As a message inside a stream (`Failed`).
    pub fn to_detail(&self) -> v1::ErrorDetail {
        v1::ErrorDetail {
            code: self.code.to_wire().into(),
            message: cut_text(&self.message).to_owned(),
            hint: cut_text(&self.hint).to_owned(),
        }
    }

    /// From a message inside a stream. An unknown code counts as INTERNAL.
    pub fn from_detail(detail: v1::ErrorDetail) -> RpcError {
        RpcError {
            code: ErrorCode::from_wire(detail.code).unwrap_or(ErrorCode::Internal),
            message: detail.message,
            hint: detail.hint,
        }
    }
}

impl From<RpcError> for Status {
    fn from(error: RpcError) -> Status {
        let detail = error.to_detail();
        let encoded = detail.encode_to_vec();
        Status::with_details(error.code.to_grpc(), detail.message, encoded.into())
    }
}

impl From<Status> for RpcError {
    fn from(status: Status) -> RpcError {
        if !status.details().is_empty()
            && let Ok(detail) = v1::ErrorDetail::decode(status.details())
            && let Some(code) = ErrorCode::from_wire(detail.code)
        {
            return RpcError {
                code,
                message: detail.message,
                hint: detail.hint,
            };
        }
        // tonic reports the client's own request timeout as CANCELLED.
        let code = match status.code() {
            Code::Cancelled if status.message() == "Timeout expired" => ErrorCode::Timeout,
            code => ErrorCode::from_grpc(code),
        };
        let message = if status.message().is_empty() {
            format!("the call failed ({})", status.code())
        } else {
            status.message().to_owned()
        };
        RpcError::new(code, message)
    }
}

/// The longest prefix within the limit that ends between characters.
fn cut_text(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = (0..=TEXT_BYTES_MAX)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_through_a_status() {
        for code in ErrorCode::ALL {
            let error = RpcError::new(code, format!("it failed: {}", code.name()))
                .with_hint("look at the log");
            assert_eq!(RpcError::from(Status::from(error.clone())), error);
            assert_eq!(RpcError::from_detail(error.to_detail()), error);
        }
    }

    #[test]
    fn every_code_survives_without_details() {
        for code in ErrorCode::ALL {
            let status = Status::new(code.to_grpc(), "plain");
            let error = RpcError::from(status);
            assert_eq!(error.code, code);
            assert_eq!(error.message, "plain");
        }
    }

    #[test]
    fn damaged_details_and_unknown_codes_fall_back() {
        let damaged = Status::with_details(Code::NotFound, "gone", vec![0xff, 1, 2].into());
        assert_eq!(RpcError::from(damaged).code, ErrorCode::NotFound);
        let unknown = v1::ErrorDetail {
            code: 999,
            message: "new".into(),
            hint: String::new(),
        };
        let status = Status::with_details(Code::Unavailable, "new", unknown.encode_to_vec().into());
        assert_eq!(RpcError::from(status).code, ErrorCode::Unavailable);
        assert_eq!(RpcError::from_detail(unknown).code, ErrorCode::Internal);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let error = RpcError::internal("ä".repeat(2000));
        let back = RpcError::from(Status::from(error));
        assert_eq!(back.message.len(), TEXT_BYTES_MAX);
        assert!(back.message.chars().all(|c| c == 'ä'));
        let odd = RpcError::internal(format!("x{}", "ä".repeat(2000)));
        assert_eq!(
            RpcError::from(Status::from(odd)).message.len(),
            TEXT_BYTES_MAX - 1
        );
    }
}
