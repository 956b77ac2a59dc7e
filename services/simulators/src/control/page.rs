//! `GET /_sim/`: a page for people that refreshes itself from the JSON beside it. It holds no state
//! and nothing of its own to say.

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::server::{Answer, Twin, with};

const PAGE: &str = include_str!("page.html");
/// Nothing from elsewhere: a name that a sender chose is shown as text and does nothing.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'",
);

/// What of the report is a verdict: where it stands, in words, and the most that it may be.
const VERDICTS: [(&str, &str, u64); 3] = [
    ("duplicates", "extra copies of deliveries", 0),
    (
        "copies_per_address.max",
        "most copies of one event at one address",
        1,
    ),
    ("order_violations", "requests out of order", 0),
];

/// The JSON that is shown of every twin, beside its own.
const SHOWN: [&str; 1] = ["/_sim/faults"];

pub(super) fn page(twin: &dyn Twin) -> Answer {
    let shown: Vec<&str> = SHOWN.iter().chain(twin.shows()).copied().collect();
    let page = PAGE
        .replace("/*verdicts*/", &json!(VERDICTS).to_string())
        .replace("/*shown*/", &json!(shown).to_string());
    let form = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, form), (CONTENT_SECURITY_POLICY, POLICY)]);
    with(StatusCode::OK, headers, page.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    #[test]
    fn every_verdict_is_in_the_report_and_every_place_in_the_page() {
        let report = serde_json::to_value(Report::default()).unwrap();
        for (path, _, _) in VERDICTS {
            let pointer = format!("/{}", path.replace('.', "/"));
            assert!(
                report.pointer(&pointer).is_some_and(|v| v.is_u64()),
                "{path}"
            );
        }
        for place in ["/*verdicts*/", "/*shown*/"] {
            assert_eq!(PAGE.matches(place).count(), 1, "{place}");
        }
        for field in [
            "max_in_window",
            "max_in_window_per_address",
            "addresses",
            "per_status",
            "per_worker",
        ] {
            assert!(
                PAGE.contains(&format!("read.{field}")) && report.get(field).is_some(),
                "{field}"
            );
        }
    }
}
