//! Tests from outside: the service in process, the program as a process, the corpus and the model that ship with it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_precision_loss, reason = "a test fails by panicking")]

mod cli;
mod corpus;
mod default_model;
mod overload;
mod raw;
mod reflection;
mod reload;
mod running;
mod security;
mod serve;
mod service;
mod statuses;
mod telemetry;
mod train;
