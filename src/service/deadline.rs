//! The header `grpc-timeout`.

use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};

use super::errors::{reason, shown, status};

/// How long the caller waits for the answer, where it says so: at most eight digits and a unit, as gRPC over HTTP/2 has it.
///
/// # Errors
///
/// INVALID_ARGUMENT, where the header is anything else.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or_else(|| {
        let value = shown(&String::from_utf8_lossy(value.as_bytes()));
        let message = format!("grpc-timeout is {value:?}; it may be 1 to 8 digits and one of H, M, S, m, u, n");
        status(Code::InvalidArgument, reason::MALFORMED_TIMEOUT, message, [("grpc-timeout", value)])
    })
}

fn parse(value: &str) -> Option<Duration> {
    let unit = value.chars().next_back()?;
    let digits = value.strip_suffix(unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The error for a call whose deadline has passed.
#[must_use]
pub fn exceeded(timeout: Duration) -> Status {
    let shown = humantime::format_duration(timeout).to_string();
    let message = format!("the deadline of {shown} has passed");
    status(Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED, message, [("timeout", shown)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nothing_else() {
        for (value, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("50m", Duration::from_millis(50)),
            ("7u", Duration::from_micros(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(value), Some(expected), "{value}");
        }
        for value in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "１S", "1é"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn the_largest_value_is_no_overflow() {
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
    }
}
