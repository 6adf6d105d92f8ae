//! Tests from outside: the service in process, the program as a process, the corpus and the model that ship with it.

#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test fails by panicking")]

mod cli;
mod corpus;
mod default_model;
mod serve;
mod service;
mod train;
