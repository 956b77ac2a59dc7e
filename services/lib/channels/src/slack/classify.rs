//! Answer to result, as tables. Pure.
//!
//! An incoming webhook answers with a status and a word as plain text, the Web API with status 200
//! and a word in its body. [R: Slack, changelog "Changes to errors from incoming webhooks",
//! "chat.postMessage" and "Rate limits", 2026-08, unless tagged; M = from memory, D = decided here]
//!
//! | webhook | result |
//! |---|---|
//! | 2xx `ok` | accepted |
//! | any other 2xx | unknown |
//! | 400 invalid_payload, user_not_found; no_text, invalid_blocks, too_many_attachments (M) | refused, `invalid_content` |
//! | 403 action_prohibited, invalid_token; 404 channel_not_found, no_service, no_team; 410 channel_is_archived | refused, `invalid_address` |
//! | 500 rollup_error | unavailable |
//! | 429 | throttled for `Retry-After`, this webhook |
//!
//! | Web API | result |
//! |---|---|
//! | ok | accepted |
//! | channel_not_found, is_archived, channel_is_archived, user_not_found | refused, `invalid_address` |
//! | not_in_channel, no_permission, access_denied, team_access_not_granted, restricted_action…, cannot_dm_bot, messages_tab_disabled (M) | refused, `not_reachable` |
//! | no_text, msg_too_long, invalid_blocks, … (M) | refused, `invalid_content` |
//! | missing_scope of an override with `username` or an icon, which need a scope of their own | refused, `provider_refused` |
//! | invalid_auth, not_authed, token_revoked, token_expired, account_inactive, missing_scope, … | account fault |
//! | ratelimited, rate_limited (M), 429 | throttled for `Retry-After`, this conversation |
//! | internal_error, service_unavailable, request_timeout (M) | unavailable |
//! | fatal_error (M): some of it may have happened | unknown |
//! | any other word | refused, `provider_refused` (D) |

use std::time::Duration;

use bongsu_domain::Reason;
use serde::Deserialize;

use crate::provider::{AttemptResult, ThrottleScope};
use crate::verdict::{Line, Reactions, Verdict, begins_ok, look_up};

/// Words of incoming webhooks.
const WEBHOOK: &[Line] = &[
    (
        &[
            "invalid_payload",
            "user_not_found",
            "no_text",
            "invalid_blocks",
            "too_many_attachments",
        ],
        Verdict::InvalidContent,
    ),
    (
        &[
            "action_prohibited",
            "invalid_token",
            "channel_not_found",
            "no_service",
            "no_active_hooks", // [M]
            "no_team",
            "channel_is_archived",
        ],
        Verdict::InvalidAddress,
    ),
    (&["rollup_error"], Verdict::Unavailable),
];

const MISSING_SCOPE: &str = "missing_scope";

/// Words of `chat.postMessage`. Which there are is documented, not which stay. [R/M]
const API: &[Line] = &[
    (
        &[
            "channel_not_found",
            "is_archived",
            "channel_is_archived",
            "user_not_found",
        ],
        Verdict::InvalidAddress,
    ),
    (
        &[
            "not_in_channel",
            // Of this conversation: the app is no member, or it belongs to another workspace.
            "no_permission",
            "access_denied",
            "team_access_not_granted",
            "restricted_action",
            "restricted_action_read_only_channel",
            "restricted_action_thread_only_channel",
            "restricted_action_non_threadable_channel",
            "cannot_dm_bot",
            "messages_tab_disabled",
        ],
        Verdict::NotReachable,
    ),
    (
        &[
            "no_text",
            "msg_too_long",
            "msg_blocks_too_long",
            "invalid_blocks",
            "invalid_blocks_format",
            "invalid_attachments",
            "too_many_attachments",
            "attachment_payload_limit_exceeded",
            "invalid_arguments",
            "invalid_array_arg",
            "invalid_json",
            "json_not_object",
            "metadata_too_large",
        ],
        Verdict::InvalidContent,
    ),
    (
        &[
            "invalid_auth",
            "not_authed",
            "token_revoked",
            "token_expired",
            "account_inactive",
            MISSING_SCOPE,
            "not_allowed_token_type",
            "org_login_required",
            "ekm_access_denied",
            "enterprise_is_restricted",
            "team_not_found",
            "method_deprecated",
        ],
        Verdict::AccountFault,
    ),
    (
        &["ratelimited", "rate_limited", "message_limit_exceeded"],
        Verdict::ThrottledAddress,
    ),
    (
        &["internal_error", "service_unavailable", "request_timeout"],
        Verdict::Unavailable,
    ),
    (&["fatal_error"], Verdict::Unknown),
];

/// Bytes of a webhook's word; more is somebody's page.
const WORD: usize = 100;

/// What a webhook's answer means.
pub fn webhook(status: u16, body: &[u8], wait: Option<Duration>, own: &Reactions) -> AttemptResult {
    if status == 429 {
        return throttled(wait);
    }
    let said = body.get(..WORD).unwrap_or(body);
    let word = std::str::from_utf8(said).unwrap_or_default().trim();
    let verdict = match status {
        200..=299 if word == "ok" => Some(Verdict::Accepted),
        400..=599 => look_up(word, own, WEBHOOK),
        _ => None,
    };
    let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    verdict
        .or(match (status, is_word) {
            (400, true) => Some(Verdict::InvalidContent),
            (403 | 404 | 410, true) => Some(Verdict::ProviderRefused),
            _ => None,
        })
        .unwrap_or_else(|| Verdict::of_status(status, wait))
        .result(wait)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    ok: Option<bool>,
    error: String,
}

/// What the Web API's answer means; `customised` is whether the message asks for a name or an icon of
/// its own.
pub fn api(
    status: u16,
    body: &[u8],
    wait: Option<Duration>,
    own: &Reactions,
    customised: bool,
) -> AttemptResult {
    if status == 429 {
        return throttled(wait);
    }
    let read: Body = serde_json::from_slice(body).unwrap_or_default();
    match read.ok {
        Some(true) => AttemptResult::Accepted,
        // The scope for that is one of its own, `chat:write.customize`: the account is good for the
        // rest.
        Some(false)
            if customised && read.error == MISSING_SCOPE && !own.contains_key(MISSING_SCOPE) =>
        {
            Verdict::ProviderRefused.result(wait)
        }
        Some(false) => look_up(&read.error, own, API)
            .unwrap_or(Verdict::ProviderRefused)
            .result(wait),
        None if matches!(status, 200..=299) && begins_ok(body) => AttemptResult::Accepted,
        None => Verdict::of_status(status, wait).result(wait),
    }
}

/// One message a second per webhook and conversation: the others need not wait.
const fn throttled(retry_after: Option<Duration>) -> AttemptResult {
    AttemptResult::Throttled {
        retry_after,
        scope: ThrottleScope::Address,
    }
}

/// An address that needs the app's token, of an account that has none.
pub const NO_TOKEN: AttemptResult = AttemptResult::Refused(Reason::Credential);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhooks_table_holds() {
        let content = AttemptResult::Refused(Reason::InvalidContent);
        let address = AttemptResult::Refused(Reason::InvalidAddress);
        let none = Reactions::new();
        for (status, word, result) in [
            (200, "ok", AttemptResult::Accepted),
            (400, "invalid_payload", content),
            (400, "user_not_found", content),
            (400, "no_text", content),
            (400, "invalid_blocks", content),
            (400, "too_many_attachments", content),
            (400, "something_new", content),
            (403, "action_prohibited", address),
            (403, "invalid_token", address),
            (404, "channel_not_found", address),
            (404, "no_service", address),
            (404, "no_team", address),
            (410, "channel_is_archived", address),
            (
                410,
                "something_new",
                AttemptResult::Refused(Reason::ProviderRefused),
            ),
            (500, "rollup_error", AttemptResult::Unavailable),
            (200, "<html>", AttemptResult::Unknown),
            (200, "", AttemptResult::Unknown),
            (404, "<html>", AttemptResult::Unavailable),
            (403, "", AttemptResult::Unavailable),
            (504, "", AttemptResult::Unknown),
        ] {
            assert_eq!(
                webhook(status, word.as_bytes(), None, &none),
                result,
                "{status} {word}"
            );
        }
        let wait = Some(Duration::from_secs(30));
        assert_eq!(webhook(429, b"", wait, &none), throttled(wait));
    }

    #[test]
    fn every_word_of_the_web_api_has_its_result() {
        for (words, verdict) in API {
            for word in *words {
                let body = format!(r#"{{"ok":false,"error":"{word}"}}"#);
                let result = api(200, body.as_bytes(), None, &Reactions::new(), false);
                assert_eq!(result, verdict.result(None), "{word}");
            }
        }
        let none = Reactions::new();
        assert_eq!(
            api(200, br#"{"ok":true,"ts":"1"}"#, None, &none, false),
            AttemptResult::Accepted
        );
        assert_eq!(
            api(
                200,
                br#"{"ok":false,"error":"new_word"}"#,
                None,
                &none,
                false
            ),
            AttemptResult::Refused(Reason::ProviderRefused)
        );
        assert_eq!(
            api(200, b"<html>", None, &none, false),
            AttemptResult::Unknown
        );
        let cut = br#"{"ok":true,"message":{"te"#;
        assert_eq!(api(200, cut, None, &none, false), AttemptResult::Accepted);
        assert_eq!(
            api(404, b"<html>", None, &none, false),
            AttemptResult::Unavailable
        );
        let own = Reactions::from([("is_archived".to_owned(), Verdict::NotReachable)]);
        assert_eq!(
            api(
                200,
                br#"{"ok":false,"error":"is_archived"}"#,
                None,
                &own,
                false
            ),
            AttemptResult::Refused(Reason::NotReachable)
        );
    }

    #[test]
    fn a_scope_that_an_override_alone_needs_does_not_stop_the_workspace() {
        let body = br#"{"ok":false,"error":"missing_scope","needed":"chat:write.customize"}"#;
        let none = Reactions::new();
        assert_eq!(
            api(200, body, None, &none, true),
            AttemptResult::Refused(Reason::ProviderRefused)
        );
        assert_eq!(
            api(200, body, None, &none, false),
            AttemptResult::AccountFault
        );
        let own = Reactions::from([("missing_scope".to_owned(), Verdict::InvalidContent)]);
        assert_eq!(
            api(200, body, None, &own, true),
            AttemptResult::Refused(Reason::InvalidContent)
        );
    }
}
