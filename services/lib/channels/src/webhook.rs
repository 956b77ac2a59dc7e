//! Webhooks: a signed HTTP POST to a URL of the recipient, after Standard Webhooks.

pub mod classify;
pub mod cloudevents;
pub mod config;
pub mod keys;
pub mod oauth;
pub mod payload;
mod provider;

pub use provider::WebhookProvider;

use std::sync::Arc;

use bongsu_domain::Channel;
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};

impl HttpAccount for config::Account {
    const CHANNEL: Channel = Channel::Webhook;
    const OPTIONAL: bool = true;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        self.validate(prefix)
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(WebhookProvider::new(settings, worker, clock)?))
    }

    fn describe() -> Vec<Section> {
        vec![Section::new(
            "accounts.<name>",
            "One account of the webhook channel; `default` is used when an address names none.",
            Self::describe(),
        )]
    }
}
