//! What a simulator answers about itself: `/healthz` and `/_sim/…`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 `ok` |
//! | `GET /_sim/` | all of it as a page that refreshes itself |
//! | `GET`, `PUT /_sim/faults` | the fault plan |
//! | `GET /_sim/counts` | running totals, cheap |
//! | `GET /_sim/report?windows=1000,60000` | the report; windows in milliseconds |
//! | `GET /_sim/seconds` | how much was taken and refused in every second |
//! | `POST /_sim/compare` | losses, strangers and copies against the expected deliveries |
//! | `POST /_sim/assert` | 200, or 422 with the difference |
//! | `GET /_sim/requests?from=N&limit=M&path=P` | the requests as NDJSON |
//! | `POST /_sim/reset` | forgets every request |
//! | `POST /_sim/freeze` | silences every present connection without closing it; how many |
//! | `GET`, `PUT /_sim/answers` | what single addresses are answered, where the twin lets that be chosen |
//! | `GET /_sim/authority` | the authority of its certificate, as PEM |
//! | `GET /_sim/apns` | connections, streams and tokens of the twin of APNs |
//! | `GET`, `PUT /_sim/apns/plan` | its plan beside the fault plan |
//! | `GET /_sim/apns/credentials` | authority, key and client certificate for its clients |
//! | `POST /_sim/apns/goaway`, `…/cut` | tells every connection; how many there were |

mod page;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use crate::assertion::Assertion;
use crate::compare::{Expected, address_path};
use crate::faults::Faults;
use crate::server::{Answer, Server, plain, with};
use crate::simulators::{WINDOWS, check, compare, report, seconds};
use crate::words::Words;

/// The most requests of one page of the log.
const PAGE: u64 = 100_000;

/// The longest list of windows and the longest window, so that a report stays cheap.
const MAX_WINDOWS: usize = 8;
const MAX_WINDOW_MS: u64 = 3_600_000;

pub(crate) async fn answer(server: Arc<Server>, parts: Parts, body: Bytes) -> Answer {
    // A report reads every request: not on a thread that serves others.
    let answered = tokio::task::spawn_blocking(move || route(&server, &parts, &body)).await;
    answered.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
}

fn route(server: &Server, parts: &Parts, body: &[u8]) -> Answer {
    let query = query_of(parts);
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/healthz") => text(StatusCode::OK, "ok"),
        (&Method::GET, "/_sim/") => page::page(server.twin()),
        (&Method::GET, "/_sim/faults") => json(StatusCode::OK, &*server.faults()),
        (&Method::PUT, "/_sim/faults") => put_faults(server, body),
        (&Method::GET, "/_sim/counts") => json(StatusCode::OK, &server.recorder().counts()),
        (&Method::GET, "/_sim/report") => match windows_of(&query) {
            Ok(windows) => json(StatusCode::OK, &report(server.recorder(), &windows)),
            Err(why) => text(StatusCode::BAD_REQUEST, &why),
        },
        (&Method::GET, "/_sim/seconds") => json(StatusCode::OK, &seconds(server.recorder())),
        (&Method::POST, "/_sim/compare") => match Expected::parse(body) {
            Ok(expected) => json(StatusCode::OK, &compare(server.recorder(), expected)),
            Err(error) => text(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::POST, "/_sim/assert") => post_assert(server, body),
        (&Method::POST, "/_sim/reset") => {
            server.recorder().reset();
            plain(StatusCode::NO_CONTENT)
        }
        (&Method::GET, "/_sim/requests") => requests(server, &query),
        (&Method::POST, "/_sim/freeze") => json(StatusCode::OK, &server.freeze()),
        (method, "/_sim/answers") => match server.twin().words() {
            Some(words) => answers(words, method, body),
            None => text(
                StatusCode::NOT_FOUND,
                "this twin's answers cannot be chosen",
            ),
        },
        (&Method::GET, "/_sim/authority") => typed(
            StatusCode::OK,
            "application/x-pem-file",
            server.authority().as_bytes().to_vec(),
        ),
        _ => server.twin().control(parts, body).unwrap_or_else(unknown),
    }
}

fn unknown() -> Answer {
    text(
        StatusCode::NOT_FOUND,
        "known: GET /_sim/, GET|PUT /_sim/faults, GET /_sim/counts, GET /_sim/report, GET /_sim/seconds, \
         POST /_sim/compare, POST /_sim/assert, POST /_sim/reset, GET /_sim/requests, \
         GET /_sim/authority, POST /_sim/freeze, GET /healthz",
    )
}

fn answers(words: &Words, method: &Method, body: &[u8]) -> Answer {
    if method == Method::PUT {
        match serde_json::from_slice(body) {
            Ok(read) => words.replace(read),
            Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    json(StatusCode::OK, &words.all())
}

fn put_faults(server: &Server, body: &[u8]) -> Answer {
    let read = serde_json::from_slice::<Faults>(body).map_err(|e| e.to_string());
    match read.and_then(|faults| server.set_faults(faults)) {
        Ok(()) => json(StatusCode::OK, &*server.faults()),
        Err(why) => text(StatusCode::BAD_REQUEST, &why),
    }
}

fn post_assert(server: &Server, body: &[u8]) -> Answer {
    let assertion = match serde_json::from_slice::<Assertion>(body) {
        Ok(assertion) => assertion,
        Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let difference = check(server.recorder(), assertion);
    let status = if difference.ok {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    json(status, &difference)
}

fn requests(server: &Server, query: &HashMap<String, String>) -> Answer {
    let number = |name: &str, default: u64| {
        query
            .get(name)
            .map_or(Some(default), |text| text.parse().ok())
    };
    let (Some(from), Some(limit)) = (number("from", 0), number("limit", PAGE)) else {
        return text(StatusCode::BAD_REQUEST, "from and limit are numbers");
    };
    let path = query.get("path").map(|path| address_path(path));
    let mut left = limit.min(PAGE);
    let mut lines = Vec::new();
    server.recorder().visit(from, |seen| {
        if left > 0 && path.as_deref().is_none_or(|path| path == seen.path) {
            left -= 1;
            // Writing to memory does not fail.
            if serde_json::to_writer(&mut lines, seen).is_ok() {
                lines.push(b'\n');
            }
        }
        left > 0
    });
    typed(StatusCode::OK, "application/x-ndjson", lines)
}

fn windows_of(query: &HashMap<String, String>) -> Result<Vec<u64>, String> {
    let Some(list) = query.get("windows") else {
        return Ok(WINDOWS.to_vec());
    };
    let windows: Option<Vec<u64>> = list
        .split(',')
        .map(|text| text.trim().parse().ok())
        .collect();
    match windows {
        Some(windows)
            if windows.len() <= MAX_WINDOWS
                && windows.iter().all(|w| (1..=MAX_WINDOW_MS).contains(w)) =>
        {
            Ok(windows)
        }
        _ => Err(format!(
            "windows are up to {MAX_WINDOWS} numbers of milliseconds, each 1 to {MAX_WINDOW_MS}, \
             with commas between"
        )),
    }
}

/// The query's pairs; `%XX` and `+` are decoded.
fn query_of(parts: &Parts) -> HashMap<String, String> {
    parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return String::from_utf8_lossy(&bytes).into_owned(),
            [b'%', high, low, after @ ..] => {
                let digits = [*high, *low].map(|d| char::from(d).to_digit(16));
                let byte = match digits {
                    [Some(high), Some(low)] => u8::try_from(high * 16 + low).ok(),
                    _ => None,
                };
                match byte {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(&[b'%', *high, *low]),
                }
                rest = after;
            }
            [first, after @ ..] => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
}

pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => typed(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(crate) fn text(status: StatusCode, body: &str) -> Answer {
    typed(
        status,
        "text/plain; charset=utf-8",
        body.as_bytes().to_vec(),
    )
}

fn typed(status: StatusCode, form: &'static str, body: Vec<u8>) -> Answer {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(form))]);
    with(status, headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decode("%2Fhook%2fa+b%3Fx"), "/hook/a b?x");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%ED%95%9C"), "%zz한");
    }

    #[test]
    fn windows_are_bounded() {
        let of = |text: &str| windows_of(&HashMap::from([("windows".into(), text.into())]));
        assert_eq!(of("1000, 60000"), Ok(vec![1_000, 60_000]));
        assert!(of("0").is_err() && of("x").is_err() && of("1,1,1,1,1,1,1,1,1").is_err());
    }
}
