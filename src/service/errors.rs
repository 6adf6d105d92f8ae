//! Statuses: one shape for every error (AIP-193).
//!
//! Each error carries an `ErrorInfo` with a reason, the domain [`DOMAIN`] and the values that its message names. Bad
//! arguments carry a `BadRequest` besides, which names each violation by the path of its field.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of our error reasons.
pub const DOMAIN: &str = "depeche.v1";

/// Violations that an error names at most, since details travel in an HTTP/2 header; the message says how many there are.
const NAMED: usize = 50;

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `articles[3].text`.
    pub field: String,
    /// What is wrong, with the value or its size and the limit.
    pub description: String,
}

impl Violation {
    /// A violation.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// INVALID_ARGUMENT, naming all violations.
#[must_use]
pub fn invalid_argument(violations: &[Violation]) -> Status {
    let first = violations.first().map(|first| format!("{}: {}", first.field, first.description)).unwrap_or_default();
    let message = match violations.len() {
        0 | 1 => first,
        count => format!("{count} invalid fields; the first is {first}"),
    };
    let mut details = info("INVALID_ARGUMENT", [("violations", violations.len().to_string())]);
    let named = violations.iter().take(NAMED).map(|violation| FieldViolation::new(&violation.field, &violation.description));
    details.set_bad_request(named.collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// An error with its reason and the values that `message` names.
#[must_use]
pub fn status<const N: usize>(code: Code, reason: &str, message: impl Into<String>, values: [(&str, String); N]) -> Status {
    Status::with_error_details(code, message, info(reason, values))
}

fn info<const N: usize>(reason: &str, values: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
