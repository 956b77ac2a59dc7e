//! `channels.webpush.accounts.<name>`.

use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Secret};

use super::payload::BODY_BYTES;
use super::vapid::{self, VapidKey};
use crate::limits::Limits;

/// The push services of the large browsers: Chrome and those built on it, Firefox, Safari, Edge.
/// [R: the public documentation of each, 2026-08; `notify.windows.com` M]
pub const KNOWN_SERVICES: &[&str] = &[
    "fcm.googleapis.com",
    "push.services.mozilla.com",
    "push.apple.com",
    "notify.windows.com",
];

bongsu_runtime::settings! {
    /// One account of the Web Push channel: an application server key and who answers for it. A
    /// browser's subscription belongs to the key it was made with.
    pub struct Account {
        /// The private key (VAPID, an EC key on P-256): PEM as `openssl genpkey` writes it, or the 32
        /// bytes in base64url as web-push tools write them; best written as `file:/path`.
        pub key: Secret = Secret::default(),
        /// Whom a push service writes to when something is wrong: `mailto:` or `https:`.
        pub subject: String = String::new(),
        /// How long one token is shown to a push service, 1 h to 23 h: services refuse one that is
        /// good for more than 24 h.
        pub token_life: Duration = Duration::secs(12 * 3_600),
        /// Bytes of an encrypted body at most. Push services must take 4096; what goes on to Firefox
        /// on Android is cut off at 2744 bytes of text.
        pub body_bytes: usize = BODY_BYTES,
        /// Hosts of push services, names below them included, whose refusal of the key stops the
        /// account. Any other host may be a stranger's, whose refusal ends that one delivery only.
        pub services: Vec<String> = KNOWN_SERVICES.iter().map(|s| (*s).to_owned()).collect(),
        /// Whether endpoints in private networks, and without TLS, may be called. Off, because a
        /// subscription is written by somebody else.
        pub allow_private: bool = false,
        /// Limits of the account.
        pub limits: Limits = Limits::default(),
    }
}

/// The shortest body that carries anything: the overhead and some text.
const LEAST_BODY_BYTES: usize = 256;

impl Account {
    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut say = |key: &str, message: &str| {
            complaints.push(Complaint::new(format!("{prefix}.{key}"), message));
        };
        if self.key.is_empty() {
            say(
                "key",
                "is empty; make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            );
        } else if let Err(message) = VapidKey::read(&self.key) {
            say("key", message);
        }
        if !is_subject(&self.subject) {
            say(
                "subject",
                "is neither mailto:… nor https://…; push services write there",
            );
        }
        if !(vapid::SHORTEST_LIFE..=vapid::LONGEST_LIFE).contains(&self.token_life.0) {
            say("token_life", "must lie between 1h and 23h");
        }
        if !(LEAST_BODY_BYTES..=BODY_BYTES).contains(&self.body_bytes) {
            say("body_bytes", "must lie between 256 and 4096");
        }
        if self.services.iter().any(|s| !is_host(s)) {
            say(
                "services",
                "holds something else than host names; write push.example.com",
            );
        }
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    /// Whether a host is one of the known push services, or below one.
    #[must_use]
    pub fn knows(&self, host: &str) -> bool {
        self.services.iter().any(|service| {
            host.strip_suffix(service.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// It stands in a token as it is, so nothing that JSON would have to escape.
fn is_subject(text: &str) -> bool {
    let rest = text
        .strip_prefix("mailto:")
        .or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    })
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webpush::vapid::tests::KEY;

    fn account() -> Account {
        Account {
            key: Secret::new(KEY),
            subject: "mailto:push@example.com".into(),
            ..Account::default()
        }
    }

    #[test]
    fn a_whole_account_is_fine_and_every_fault_names_its_key() {
        assert_eq!(account().validate("a"), []);
        let change = |change: fn(&mut Account)| {
            let mut account = account();
            change(&mut account);
            let told = format!("{:?}", account.validate("a"));
            assert!(!told.contains("hunter2"), "{told}");
            let keys = account.validate("a").into_iter().map(|c| c.key);
            keys.collect::<Vec<_>>()
        };
        assert_eq!(change(|a| a.key = Secret::default()), ["a.key"]);
        assert_eq!(change(|a| a.key = Secret::new("hunter2")), ["a.key"]);
        assert_eq!(change(|a| a.subject.clear()), ["a.subject"]);
        assert_eq!(change(|a| a.subject = "mailto:a\"b".into()), ["a.subject"]);
        assert_eq!(
            change(|a| a.token_life = Duration::secs(25 * 3_600)),
            ["a.token_life"]
        );
        assert_eq!(change(|a| a.body_bytes = 5_000), ["a.body_bytes"]);
        assert_eq!(
            change(|a| a.services = vec!["https://x".into()]),
            ["a.services"]
        );
    }

    #[test]
    fn a_service_is_known_by_its_name_and_those_below_it() {
        let account = account();
        for known in [
            "fcm.googleapis.com",
            "updates.push.services.mozilla.com",
            "web.push.apple.com",
            "wns2-par02p.notify.windows.com",
        ] {
            assert!(account.knows(known), "{known}");
        }
        for stranger in [
            "evilfcm.googleapis.com",
            "fcm.googleapis.com.evil.example",
            "",
        ] {
            assert!(!account.knows(stranger), "{stranger}");
        }
    }
}
