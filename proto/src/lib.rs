//! The contract between RedRock's daemons.
//!
//! - [`v1`] is generated from `proto/redrock/v1/*.proto`; those files are the
//!   reference for units, limits, ordering and retry safety.
//! - [`model`] holds the domain types. What a peer sent becomes one of them
//!   before anything acts on it, and only then has been validated.
//! - [`error`] is the one small error enum, mapped to and from gRPC statuses.
//! - [`client`] connects to a daemon's Unix socket with bounded waits.
//!
//! This crate knows no file format and no business rule; it panics on no input.

pub mod client;
pub mod error;
pub mod model;

/// Generated messages, clients and servers of the package `redrock.v1`.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes,
        rustdoc::all,
        reason = "generated code"
    )]
    tonic::include_proto!("redrock.v1");
}

pub use error::{ErrorCode, RpcError};

/// Encoded `FileDescriptorSet` of the package, for `grpc.reflection`.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("redrock_descriptor");
