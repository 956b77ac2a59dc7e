//! Web Push (RFC 8030): encrypted notifications to browsers, through the push service that each
//! browser's maker runs. Beside the usual four files: `vapid` proves to the push service who sends,
//! `encryption` hides from it what is sent, `pauses` keeps away from a service that asked for it,
//! `standing` tells a foreign subscription from an account that is at fault.

pub mod classify;
pub mod config;
pub mod encryption;
pub mod pauses;
pub mod payload;
mod provider;
pub mod standing;
pub mod vapid;

pub use provider::WebPushProvider;

use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};

impl HttpAccount for config::Account {
    const CHANNEL: Channel = Channel::WebPush;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        self.validate(prefix)
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(WebPushProvider::new(settings, worker, clock)?))
    }

    fn too_large(content: &Content, _whole: bool) -> Option<String> {
        payload::too_large(content)
    }

    fn describe() -> Vec<Section> {
        vec![Section::new(
            "accounts.<name>",
            "One account of the Web Push channel: an application server key.",
            Self::describe(),
        )]
    }
}
