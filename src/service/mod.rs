//! The gRPC service. Everything that knows protobuf is here.
//!
//! A call comes in by one of the [`connections`], passes the [`gate`], and is answered by a handler:
//!
//! - [`pb`]: the generated code
//! - [`errors`]: statuses with details
//! - [`limits`]: what requests and connections must keep to
//! - [`admission`]: how much work is taken on at once
//! - [`deadline`]: how long a caller waits
//! - [`tokens`], [`tls`]: who may call
//! - [`telemetry`]: what the server tells of itself
//! - [`served`], [`shadow`], [`reload`]: the model that answers, one that labels beside it, and how a new one takes over
//! - [`offsets`]: byte offsets to those the caller counts in
//! - [`convert`]: requests to the domain's types, answers to responses
//! - [`classifier`], [`models`], [`health`], [`reflection`], [`admin`]: the handlers
//! - [`gate`]: what every call passes
//! - [`connections`]: from a listener to the end of the last call
//! - `turns`: how answers get to the wire
//! - [`watch`]: files that change
//! - [`server`]: all of it together, from the start to a clean stop

pub mod admin;
pub mod admission;
pub mod classifier;
pub mod connections;
pub mod convert;
pub mod deadline;
pub mod errors;
pub mod gate;
pub mod health;
pub mod limits;
pub mod models;
pub mod offsets;
pub mod reflection;
pub mod reload;
pub mod served;
pub mod server;
pub mod shadow;
pub mod telemetry;
pub mod tls;
pub mod tokens;
mod turns;
pub mod watch;

pub use limits::{ConnectionLimits, Limits};

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
