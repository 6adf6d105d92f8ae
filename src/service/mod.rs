//! The gRPC service. Everything that knows protobuf is here.
//!
//! - [`pb`]: the generated code
//! - [`limits`]: what requests must keep to
//! - [`offsets`]: byte offsets to those the caller counts in
//! - [`convert`]: requests to the domain's types, answers to responses
//! - [`errors`]: statuses with details
//! - [`classifier`], [`models`]: the handlers
//! - [`health`]: whether the server takes calls
//! - [`server`]: all services together, from a listener to a clean stop

pub mod classifier;
pub mod convert;
pub mod errors;
pub mod health;
pub mod limits;
pub mod models;
pub mod offsets;
pub mod server;

pub use limits::Limits;

/// The generated code of package `grpc.health.v1`.
pub mod health_pb {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated"
    )]
    tonic::include_proto!("grpc.health.v1");
}

/// The generated code of package `depeche.v1`, with its proto3 JSON form.
pub mod pb {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::wildcard_enum_match_arm,
        clippy::too_many_lines,
        reason = "generated"
    )]
    tonic::include_proto!("depeche.v1");
    include!(concat!(env!("OUT_DIR"), "/depeche.v1.serde.rs"));

    /// Descriptors of the protos and of all that they import, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
