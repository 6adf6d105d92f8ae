//! Statuses: one shape for every error (AIP-193), those of the framework included.
//!
//! Each error carries an `ErrorInfo` with a [`reason`], the domain [`DOMAIN`] and the values that its message names. Bad
//! arguments carry a `BadRequest` besides, which names each violation by the path of its field; what may be tried again
//! carries a `RetryInfo`.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb::Status as RpcStatus;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of our error reasons.
pub const DOMAIN: &str = "depeche.v1";

/// Reasons of errors. There are no others, so that they may be counted by.
pub mod reason {
    /// Fields are wrong.
    pub const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    /// The request as a message is over the limit, also after decompression.
    pub const REQUEST_TOO_LARGE: &str = "REQUEST_TOO_LARGE";
    /// The response as a message would be over the limit.
    pub const RESPONSE_TOO_LARGE: &str = "RESPONSE_TOO_LARGE";
    /// What was sent is no message of the method.
    pub const MALFORMED_REQUEST: &str = "MALFORMED_REQUEST";
    /// The header `grpc-timeout` can't be read.
    pub const MALFORMED_TIMEOUT: &str = "MALFORMED_TIMEOUT";
    /// There is no such method.
    pub const METHOD_UNKNOWN: &str = "METHOD_UNKNOWN";
    /// The request is compressed in a way that is not known here.
    pub const ENCODING_UNSUPPORTED: &str = "ENCODING_UNSUPPORTED";
    /// There is no such model.
    pub const MODEL_NOT_FOUND: &str = "MODEL_NOT_FOUND";
    /// Health is asked of a service that does not exist.
    pub const SERVICE_UNKNOWN: &str = "SERVICE_UNKNOWN";
    /// As much work is in flight as is taken on.
    pub const OVERLOADED: &str = "OVERLOADED";
    /// The deadline of the call has passed.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// The caller gave up.
    pub const CANCELLED: &str = "CANCELLED";
    /// The call has no token, or one that is not known.
    pub const TOKEN_INVALID: &str = "TOKEN_INVALID";
    /// The token does not reach so far.
    pub const SCOPE_MISSING: &str = "SCOPE_MISSING";
    /// There is no file to load a model from.
    pub const MODEL_NOT_RELOADABLE: &str = "MODEL_NOT_RELOADABLE";
    /// The model file is refused.
    pub const MODEL_REFUSED: &str = "MODEL_REFUSED";
    /// No shadow model labels beside the one that answers.
    pub const NO_SHADOW: &str = "NO_SHADOW";
    /// A defect of the server.
    pub const INTERNAL: &str = "INTERNAL";

    /// All of them.
    pub const ALL: [&str; 18] = [
        INVALID_ARGUMENT,
        REQUEST_TOO_LARGE,
        RESPONSE_TOO_LARGE,
        MALFORMED_REQUEST,
        MALFORMED_TIMEOUT,
        METHOD_UNKNOWN,
        ENCODING_UNSUPPORTED,
        MODEL_NOT_FOUND,
        SERVICE_UNKNOWN,
        OVERLOADED,
        DEADLINE_EXCEEDED,
        CANCELLED,
        TOKEN_INVALID,
        SCOPE_MISSING,
        MODEL_NOT_RELOADABLE,
        MODEL_REFUSED,
        NO_SHADOW,
        INTERNAL,
    ];
}

/// Violations that an error names at most, since details travel in an HTTP/2 header; the message says how many there are.
const NAMED: usize = 50;

/// Bytes of a message at most, for the same reason. Clients take 8 KiB of headers unless they are told otherwise, and a message
/// travels in percent encoding and in the details once more.
const MESSAGE_BYTES: usize = 1 << 10;

/// Bytes of a violation's description at most.
const DESCRIPTION_BYTES: usize = 300;

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
    let mut details = info(reason::INVALID_ARGUMENT, [("violations", violations.len().to_string())]);
    let named = violations
        .iter()
        .take(NAMED)
        .map(|Violation { field, description }| FieldViolation::new(field, shortened(description.clone(), DESCRIPTION_BYTES)));
    details.set_bad_request(named.collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, shortened(message, MESSAGE_BYTES), details)
}

/// An error with its reason and the values that `message` names.
#[must_use]
pub fn status<const N: usize>(code: Code, reason: &str, message: impl Into<String>, values: [(&str, String); N]) -> Status {
    Status::with_error_details(code, shortened(message.into(), MESSAGE_BYTES), info(reason, values))
}

/// The same for what may be tried again after `delay`.
#[must_use]
pub fn retry_later<const N: usize>(
    (code, reason): (Code, &str),
    message: impl Into<String>,
    values: [(&str, String); N],
    delay: Duration,
) -> Status {
    let mut details = info(reason, values);
    details.set_retry_info(Some(delay));
    Status::with_error_details(code, shortened(message.into(), MESSAGE_BYTES), details)
}

/// Text that a caller sent, cut to a length that fits into a message.
#[must_use]
pub fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The reason of an error; of one without, INTERNAL.
#[must_use]
pub fn reason_of(status: &Status) -> &'static str {
    let given = status.get_details_error_info().map(|info| info.reason);
    reason::ALL.into_iter().find(|known| Some(*known) == given.as_deref()).unwrap_or(reason::INTERNAL)
}

/// An error as the conventions have it: one that carries no details was made by the framework, which says OUT_OF_RANGE of a
/// message that is too large, says nothing of a method that it does not know, and tells no reasons.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the framework makes no errors of other codes today; those that it may make are internal"
)]
pub fn completed(found: Status, path: &str) -> Status {
    if !found.details().is_empty() {
        return found;
    }
    let message = found.message();
    match found.code() {
        Code::OutOfRange => too_large(message),
        Code::ResourceExhausted if message.contains("decompressing") => too_large(message),
        Code::Unimplemented if message.is_empty() => {
            let path = shown(path);
            status(Code::Unimplemented, reason::METHOD_UNKNOWN, format!("there is no method {path:?}"), [("method", path)])
        }
        Code::Unimplemented => status(Code::Unimplemented, reason::ENCODING_UNSUPPORTED, message, []),
        // The framework calls it unknown where the caller's connection ended in the middle of a request.
        Code::Cancelled | Code::Unknown => status(Code::Cancelled, reason::CANCELLED, message, []),
        // The framework's own errors of this code tell of what the client sent; ours have details.
        Code::Internal => status(Code::Internal, reason::MALFORMED_REQUEST, message, []),
        _ => status(found.code(), reason::INTERNAL, message, []),
    }
}

/// The error for a message over the limit; `found` is the framework's message, which names the numbers.
fn too_large(found: &str) -> Status {
    let mut numbers = found.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    // The size, where it is told, comes before the limit; of a compressed message it is not known, since reading ends at the limit.
    let (size, limit) = match (numbers.next(), numbers.next()) {
        (Some(size), Some(limit)) => (size.to_owned(), limit),
        (Some(limit), None) => (format!("more than {limit}"), limit),
        (None, _) => ("too many".to_owned(), "unknown"),
    };
    let message = format!("the request has {size} bytes as a message; the limit is {limit}");
    status(Code::ResourceExhausted, reason::REQUEST_TOO_LARGE, message, [("size", size), ("limit", limit.to_owned())])
}

/// A status as a message: the details of a status are one already, unless there are none.
#[must_use]
pub fn rpc_status(error: &Status) -> RpcStatus {
    RpcStatus::decode(error.details()).ok().filter(|decoded| decoded.code != 0).unwrap_or_else(|| RpcStatus {
        code: error.code().into(),
        message: error.message().to_owned(),
        details: Vec::new(),
    })
}

/// An error with its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn shortened(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

fn info<const N: usize>(reason: &str, values: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
