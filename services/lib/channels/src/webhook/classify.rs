//! Answer to result, as a table. Pure.
//!
//! | answer | result | source |
//! |---|---|---|
//! | 2xx | accepted | Standard Webhooks |
//! | 410 | refused, `invalid_address` | Standard Webhooks: disable the endpoint |
//! | 429 | throttled, with `Retry-After` when given | Standard Webhooks |
//! | 502, 503 with `Retry-After` | throttled | Standard Webhooks (502), RFC 9110 15.6.4 (503) |
//! | 502, 503 without it | unavailable | the same backoff, but no word about a rate |
//! | 504 | unknown | RFC 9110 15.6.5: a gateway passed the request on and saw no answer in time |
//! | 3xx | unavailable | Standard Webhooks: a failure, never followed |
//! | 401, 403, 404 | doubted | tried again; an endpoint that says so for days is retired (hygiene) |
//! | other 4xx, 5xx | unavailable | Standard Webhooks: receivers get mended; attempts are capped |
//!
//! Standard Webhooks counts 504 as throttling; we say unknown, because a publisher who asked for
//! `never_resend` must not get a second copy when a proxy gave up on a slow receiver. With the
//! default policy both are tried again.

use reqwest::StatusCode;
use std::time::Duration;

use bongsu_domain::Reason;

use crate::provider::{AttemptResult, ThrottleScope};

/// What an answer means. `retry_after` is the header, when there was one; `scope` is whom a "not now"
/// concerns: receivers are strangers to one another unless the account says otherwise.
pub fn classify(
    status: StatusCode,
    retry_after: Option<Duration>,
    scope: ThrottleScope,
) -> AttemptResult {
    match (status.as_u16(), retry_after) {
        (200..=299, _) => AttemptResult::Accepted,
        (410, _) => AttemptResult::Refused(Reason::InvalidAddress),
        (401 | 403 | 404, _) => AttemptResult::Doubted,
        (429, retry_after) | (502 | 503, retry_after @ Some(_)) => {
            AttemptResult::Throttled { retry_after, scope }
        }
        (504, _) => AttemptResult::Unknown,
        _ => AttemptResult::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        let wait = Some(Duration::from_secs(7));
        let not_now = |retry_after| AttemptResult::Throttled {
            retry_after,
            scope: ThrottleScope::Address,
        };
        let throttled = not_now(wait);
        for (status, header, result) in [
            (200, None, AttemptResult::Accepted),
            (204, wait, AttemptResult::Accepted),
            (299, None, AttemptResult::Accepted),
            (301, None, AttemptResult::Unavailable),
            (307, wait, AttemptResult::Unavailable),
            (400, None, AttemptResult::Unavailable),
            (401, None, AttemptResult::Doubted),
            (403, wait, AttemptResult::Doubted),
            (404, None, AttemptResult::Doubted),
            (410, None, AttemptResult::Refused(Reason::InvalidAddress)),
            (413, None, AttemptResult::Unavailable),
            (422, None, AttemptResult::Unavailable),
            (429, None, not_now(None)),
            (429, wait, throttled),
            (500, wait, AttemptResult::Unavailable),
            (502, None, AttemptResult::Unavailable),
            (502, wait, throttled),
            (503, None, AttemptResult::Unavailable),
            (503, wait, throttled),
            (504, None, AttemptResult::Unknown),
            (504, wait, AttemptResult::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                classify(status, header, ThrottleScope::Address),
                result,
                "{status}"
            );
        }
    }
}
