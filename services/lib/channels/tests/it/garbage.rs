//! Answers of any kind: nothing panics, and nobody is condemned by what is not the provider's word.

use std::time::Duration;

use bongsu_channels::fcm::classify::Reaction;
use bongsu_channels::provider::AttemptResult;
use bongsu_channels::verdict::{Reactions, Verdict};
use bongsu_channels::{fcm, line, sendbird, slack, telegram};
use bongsu_domain::{AddressForm, Reason};
use proptest::prelude::*;

const DEAD: AttemptResult = AttemptResult::Refused(Reason::InvalidAddress);

/// What every channel makes of an answer.
fn results(status: u16, body: &[u8], wait: Option<Duration>) -> Vec<AttemptResult> {
    let own = Reactions::new();
    let facts = fcm::classify::Facts {
        retry_after: wait,
        content_passed: true,
    };
    let fcm = match fcm::classify::classify(status, body, facts) {
        Reaction::Result(result) => result,
        Reaction::RenewToken => AttemptResult::NotProcessed,
        Reaction::PlatformFault => AttemptResult::AccountFault,
    };
    let told = |verdict: Verdict| verdict.result(wait);
    vec![
        fcm,
        told(telegram::classify::classify(status, body, wait, &own).verdict),
        slack::classify::webhook(status, body, wait, &own),
        slack::classify::api(status, body, wait, &own, false),
        told(sendbird::classify::classify(status, body, wait, &own, true)),
        told(line::classify::classify(status, body, wait, &own)),
    ]
}

fn waits() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of((0_u64..100_000).prop_map(Duration::from_secs))
}

proptest! {
    #[test]
    fn bytes_condemn_nobody(
        status in 100_u16..600,
        body in proptest::collection::vec(any::<u8>(), 0..600),
        wait in waits(),
    ) {
        for result in results(status, &body, wait) {
            prop_assert_ne!(result, DEAD);
            prop_assert_ne!(result, AttemptResult::AccountFault);
        }
    }

    /// JSON that begins as an error of each, with whatever where a text or a number should be.
    #[test]
    fn a_broken_error_never_panics(
        status in 400_u16..600,
        text in "\\PC{0,40}",
        number in any::<i64>(),
        wait in waits(),
    ) {
        for value in [serde_json::json!(text), serde_json::json!(number), serde_json::json!([{}])] {
            let body = serde_json::json!({
                "ok": false, "error": value, "code": value, "message": value,
                "description": value, "parameters": value, "details": value,
            });
            results(status, body.to_string().as_bytes(), wait);
            let body = serde_json::json!({"error": {
                "status": value, "message": value, "details": [value, {"errorCode": value}],
            }});
            results(status, body.to_string().as_bytes(), wait);
        }
    }

    #[test]
    fn an_address_in_its_one_form_is_read_as_itself(text in "(token:|fid:|topic:|condition:|@|-|)\\PC{0,60}") {
        for form in [
            AddressForm::DeviceToken,
            AddressForm::PushTarget,
            AddressForm::TelegramChat,
            AddressForm::Slack,
            AddressForm::SendbirdChannel,
            AddressForm::Line,
        ] {
            if let Ok(normal) = form.read(&text) {
                let again = form.read(&normal);
                prop_assert_eq!(again.as_deref(), Ok(&*normal), "{:?}", form);
            }
        }
    }
}
