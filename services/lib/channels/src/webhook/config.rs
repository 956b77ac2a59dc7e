//! `channels.webhook.accounts.<name>` and the signing keys made of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_runtime::Secret;
use bongsu_runtime::settings::Complaint;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::limits::Limits;

bongsu_runtime::settings! {
    /// One account of the webhook channel: who signs, and where it may call.
    pub struct Account {
        /// Signing secrets, `whsec_` and base64 of 24 to 64 bytes each. Every request is signed with
        /// all of them, so that receivers can move from an old secret to a new one; the newest first.
        /// Without any, requests are not signed.
        pub secrets: Vec<Secret> = Vec::new(),
        /// Whether targets in private networks may be called. Off, because a webhook's URL is
        /// written by somebody else.
        pub allow_private: bool = false,
        /// Whether all addresses of the account belong to one receiver (a gateway of your own, say):
        /// its `429` and its outages then concern the whole account, not the one address.
        pub one_receiver: bool = false,
        /// Limits of the account; a webhook's own receiver is limited by `per_address_per_second`.
        pub limits: Limits = Limits::default(),
    }
}

/// The prefix of a symmetric secret. [R: Standard Webhooks, 2026-08]
const PREFIX: &str = "whsec_";

impl Account {
    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let secrets = self.secrets.iter().enumerate().filter_map(|(i, secret)| {
            let message = read_secret(secret).err()?;
            Some(Complaint::new(format!("{prefix}.secrets[{i}]"), message))
        });
        let limits = self.limits.validate(&format!("{prefix}.limits"));
        secrets.chain(limits).collect()
    }
}

/// A key ready to sign: the padded key is hashed once, not once per request.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Reads a `whsec_` secret.
    ///
    /// # Errors
    /// What is wrong with it, without its value.
    pub fn new(secret: &Secret) -> Result<Self, &'static str> {
        let bytes = read_secret(secret)?;
        Hmac::new_from_slice(&bytes)
            .map(Self)
            .map_err(|_| "cannot be a key")
    }

    /// A copy of the keyed state, to be fed with what is signed.
    pub(super) fn start(&self) -> Hmac<Sha256> {
        self.0.clone()
    }
}

fn read_secret(secret: &Secret) -> Result<Vec<u8>, &'static str> {
    let encoded = secret.expose().strip_prefix(PREFIX).ok_or(
        "does not start with `whsec_`; make one with: echo whsec_$(openssl rand -base64 32)",
    )?;
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| "is not base64 after `whsec_`")?;
    if (24..=64).contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err("is not 24 to 64 bytes long")
    }
}
