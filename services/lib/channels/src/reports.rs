//! What a provider says later: callbacks to be checked, reports to be read, polls to be made.
//!
//! The gateway calls this: it owns the HTTP side and Kafka, a [`ReportSource`] the provider's form.
//! Reading and checking are pure; only [`ReportSource::poll`] and [`ReportSource::confirm`] do I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Channel, Outcome, Reason, Reference, Timestamp};
use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use thiserror::Error;
use tokio::time::Instant;

use crate::registry::{BuildError, Settings};

/// A callback as it came.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The query of its URL as it came, without `?`; empty for none.
    pub query: &'a str,
    /// Who is connected to us; `None` inside one process.
    pub peer: Option<IpAddr>,
    /// Our time.
    pub now: Timestamp,
}

/// Why a callback is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The account takes no callbacks.
    #[error("the account takes no callbacks; set its reports.mode to `webhook`")]
    NotTaken,
    /// It comes from an address that is not on the list.
    #[error("it comes from an address that is not in the account's reports.allow_from")]
    Source,
    /// The signature is missing or was not made with the account's secret.
    #[error("its signature is missing or wrong")]
    Signature,
    /// The signed time is too far from ours.
    #[error("its time lies too far from ours")]
    Time,
}

/// A body that is no report.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the body is no report of this provider: {0}")]
pub struct NotAReport(pub String);

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The provider's own id of the notification.
    pub key: String,
    /// What tells two reports of one notification apart: the medium tried and the code.
    pub said: String,
    /// The delivery it is about, by our reference.
    pub reference: Result<Reference, NotOurs>,
    /// What it makes of the delivery; `None` is nothing final.
    pub verdict: Option<(Outcome, Reason)>,
    /// When the provider says it happened.
    pub at: Option<Timestamp>,
    /// The report as it came.
    pub raw: Vec<u8>,
}

/// Reports fetched at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What they are acknowledged by.
    pub id: String,
    /// The reports.
    pub told: Vec<Told>,
}

/// A poll came to nothing. Transient: it is made again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PollError {
    /// No answer, or one that is not the provider's.
    #[error("the provider did not answer a poll")]
    NoAnswer,
    /// The provider refuses to be asked.
    #[error("the provider refused a poll: {0}")]
    Refused(String),
}

/// One account's reports.
pub trait ReportSource: Send + Sync {
    /// The channel they are about.
    fn channel(&self) -> Channel;

    /// Whether a callback may be believed, by all that is known before its body is read.
    ///
    /// # Errors
    /// [`Refusal`].
    fn verify(&self, callback: &Callback<'_>) -> Result<(), Refusal>;

    /// Whether it may be believed once its body is there, for providers that sign that, too.
    ///
    /// # Errors
    /// [`Refusal`].
    fn verify_body(&self, _callback: &Callback<'_>, _body: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    /// Reads a callback's body.
    ///
    /// # Errors
    /// [`NotAReport`].
    fn read(&self, callback: &Callback<'_>, body: &[u8]) -> Result<Vec<Told>, NotAReport>;

    /// The body of the answer that tells the provider that its reports are kept.
    fn acknowledgement(&self, told: &[Told]) -> String;

    /// How long to wait between polls that find nothing; `None` when the account is not polled.
    fn poll_interval(&self) -> Option<Duration>;

    /// Fetches reports; `None` when there are none. Cancel safe: what is not confirmed is given
    /// again.
    fn poll(&self, deadline: Instant) -> BoxFuture<'_, Result<Option<Fetched>, PollError>>;

    /// Tells the provider that a fetch is kept.
    fn confirm<'a>(
        &'a self,
        id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), PollError>>;
}

/// Every account that has reports, by provider's word and account.
#[derive(Clone, Default)]
pub struct ReportSources(BTreeMap<(&'static str, String), Arc<dyn ReportSource>>);

impl ReportSources {
    /// The sources of all channels.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(settings: &Settings) -> Result<Self, BuildError> {
        let sources = settings.report_sources()?.into_iter();
        let keyed = sources.map(|(provider, account, source)| ((provider, account), source));
        Ok(Self(keyed.collect()))
    }

    /// One account's.
    #[must_use]
    pub fn get(&self, provider: &str, account: &str) -> Option<&Arc<dyn ReportSource>> {
        let mut all = self.0.iter();
        all.find(|((p, a), _)| *p == provider && a == account)
            .map(|(_, source)| source)
    }

    /// All of them: provider's word, account, source.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, &Arc<dyn ReportSource>)> {
        self.0
            .iter()
            .map(|((provider, account), source)| (*provider, account.as_str(), source))
    }
}

impl std::fmt::Debug for ReportSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
