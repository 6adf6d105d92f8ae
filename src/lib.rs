//! Depeche labels French-language news pages by topic and by the stance of their source. It is a TF-IDF and
//! logistic-regression classifier, served over gRPC.
//!
//! ```text
//! serving    page → passages → body and noise → terms → features → scores → calibrated probabilities → answer
//! training   labelled pages → the same passages, terms and features → solver → calibration → model file
//! ```
//!
//! The modules stand in the order in which data flows, and each imports only from those before it:
//!
//! - [`page`] cuts a page into passages.
//! - [`terms`] reads words and their character n-grams.
//! - [`spill`] keeps on disk what does not fit into memory.
//! - [`features`] turns words and their n-grams into sparse vectors.
//! - [`model`] holds the heads, their calibration and the model file; [`model::Classifier`] answers for a page.
//! - [`evaluate`] compares labels with the truth.
//! - [`train`] makes a model from labelled articles and marked pages.
//! - [`service`] answers over gRPC.
//! - [`cli`] is the command line; where it prints answers as JSON, and where it asks a server for its shadow report, it borrows `service`'s messages.
//!
//! `train` and `service` know nothing of each other.

pub mod page;
pub mod terms;
pub mod spill;
pub mod features;
pub mod model;
pub mod evaluate;
pub mod train;
pub mod service;
pub mod cli;
