//! `channels.fcm.accounts.<name>`.

use std::sync::Arc;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Content};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Clock, Secret};
use url::Url;

use super::FcmProvider;
use super::payload;
use super::service_account::ServiceAccount;
use crate::limits::Limits;
use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};

/// Where FCM lives. [R: discovery document, 2026-08]
pub const ENDPOINT: &str = "https://fcm.googleapis.com";
/// Where subscriptions to topics are kept. [M: from memory, as Google's own SDKs call it]
pub const TOPICS_ENDPOINT: &str = "https://iid.googleapis.com";
/// Requests at a time on one connection; more end it. [R: pushiko; firebase-admin-node 2943]
pub const STREAMS: usize = 100;
/// The most connections of one account in one process: 25,000 a second at 300 ms each, in 100
/// streams, are 75.
pub const MOST_CONNECTIONS: usize = 100;

bongsu_runtime::settings! {
    /// One account of the FCM channel: a Firebase project and a service account that may send to it.
    pub struct Account {
        /// The content of the service account's JSON file, best written as
        /// `file:/path/service-account.json`.
        pub service_account: Secret = Secret::default(),
        /// The Firebase project's id; empty for the one that the file names.
        pub project: String = String::new(),
        /// Scheme, host and port instead of Google's own; for simulators and proxies. Always `https`.
        pub endpoint: String = ENDPOINT.to_owned(),
        /// Where access tokens are fetched; empty for what the file says.
        pub token_endpoint: String = String::new(),
        /// Scheme, host and port of the service that keeps who subscribed to a topic
        /// (`bongsu fcm topics`). Always `https`.
        pub topics_endpoint: String = TOPICS_ENDPOINT.to_owned(),
        /// The most connections of this account in one process, 1 to 100. The next one is opened when
        /// one is half full.
        pub connections: usize = 4,
        /// The most messages at a time on one connection, 1 to 100.
        pub streams: usize = STREAMS,
        /// Whether FCM only checks messages and sends none: a rehearsal at Google itself.
        pub validate_only: bool = false,
        /// Limits of the account. Google's own default is 600,000 messages a minute per project.
        pub limits: Limits = Limits::default(),
    }
}

/// Something is wrong with a key of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFault {
    /// The key within the account.
    pub key: &'static str,
    /// What is wrong and what to do, without any secret.
    pub message: String,
}

fn fault(key: &'static str, message: impl Into<String>) -> AccountFault {
    AccountFault {
        key,
        message: message.into(),
    }
}

fn origin(key: &'static str, text: &str) -> Result<Url, AccountFault> {
    // The operator writes it, so private hosts are fine.
    let url = check_url(text, true).map_err(|e| fault(key, e.to_string()))?;
    if url.scheme() != "https" {
        return Err(fault(key, "is not https; FCM is never called without TLS"));
    }
    if url.path() != "/" || url.query().is_some() {
        let message = "has a path; write scheme, host and port only";
        return Err(fault(key, message));
    }
    Ok(url)
}

impl Account {
    /// Where messages go.
    ///
    /// # Errors
    /// [`AccountFault`] about `endpoint`.
    pub fn url(&self) -> Result<Url, AccountFault> {
        origin("endpoint", &self.endpoint)
    }

    /// Where subscriptions to topics are changed.
    ///
    /// # Errors
    /// [`AccountFault`] about `topics_endpoint`.
    pub fn topics_url(&self) -> Result<Url, AccountFault> {
        origin("topics_endpoint", &self.topics_endpoint)
    }

    /// The service account.
    ///
    /// # Errors
    /// [`AccountFault`] about `service_account`.
    pub fn credential(&self) -> Result<ServiceAccount, AccountFault> {
        if self.service_account.is_empty() {
            let message = "is empty; write file:/path/service-account.json";
            return Err(fault("service_account", message));
        }
        ServiceAccount::read(&self.service_account).map_err(|e| fault("service_account", e))
    }

    /// Where tokens are fetched.
    ///
    /// # Errors
    /// [`AccountFault`] about `token_endpoint`, or the file's own.
    pub fn token_url(&self, account: &ServiceAccount) -> Result<Url, AccountFault> {
        let (key, text) = match self.token_endpoint.as_str() {
            "" => ("service_account", account.token_uri.as_str()),
            own => ("token_endpoint", own),
        };
        check_url(text, true).map_err(|e| fault(key, format!("token endpoint: {e}")))
    }

    /// The project messages are sent to.
    ///
    /// # Errors
    /// [`AccountFault`] about `project`.
    pub fn project<'a>(&'a self, account: &'a ServiceAccount) -> Result<&'a str, AccountFault> {
        let project = match self.project.as_str() {
            "" => account.project.as_str(),
            own => own,
        };
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if !project.is_empty() && project.bytes().all(known) {
            Ok(project)
        } else {
            Err(fault(
                "project",
                "is no project id; the Firebase console shows it",
            ))
        }
    }

    fn faults(&self) -> Vec<AccountFault> {
        let mut faults: Vec<_> = self.url().err().into_iter().collect();
        faults.extend(self.topics_url().err());
        match self.credential() {
            Err(fault) => faults.push(fault),
            Ok(account) => {
                faults.extend(self.token_url(&account).err());
                faults.extend(self.project(&account).err());
            }
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            faults.push(fault("connections", "must lie between 1 and 100"));
        }
        if !(1..=STREAMS).contains(&self.streams) {
            faults.push(fault("streams", "must lie between 1 and 100"));
        }
        faults
    }
}

impl HttpAccount for Account {
    const CHANNEL: Channel = Channel::Fcm;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        let faults = self.faults().into_iter();
        let mut complaints: Vec<_> = faults
            .map(|f| Complaint::new(format!("{prefix}.{}", f.key), f.message))
            .collect();
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(FcmProvider::new(settings, worker, clock)?))
    }

    fn too_large(content: &Content, _whole: bool) -> Option<String> {
        payload::too_large(content)
    }

    fn describe() -> Vec<Section> {
        let about = "A Firebase project and its service account.";
        vec![Section::new("accounts.<name>", about, Self::describe())]
    }
}

#[cfg(test)]
mod tests {
    use super::super::service_account::tests::file;
    use super::*;

    #[test]
    fn a_whole_account_is_fine_and_every_fault_names_its_key() {
        let (file, _) = file();
        let account = Account {
            service_account: Secret::new(file),
            ..Account::default()
        };
        assert_eq!(account.complaints("a"), []);
        let change = |change: fn(&mut Account)| -> Vec<String> {
            let mut account = account.clone();
            change(&mut account);
            account.complaints("a").into_iter().map(|c| c.key).collect()
        };
        let none = |a: &mut Account| a.service_account = Secret::default();
        assert_eq!(change(none), ["a.service_account"]);
        let wrong = |a: &mut Account| a.service_account = Secret::new("hunter2");
        assert_eq!(change(wrong), ["a.service_account"]);
        let plain = |a: &mut Account| a.endpoint = "http://localhost".into();
        assert_eq!(change(plain), ["a.endpoint"]);
        let path = |a: &mut Account| a.endpoint = "https://localhost/v1".into();
        assert_eq!(change(path), ["a.endpoint"]);
        let topics = |a: &mut Account| a.topics_endpoint = "https://localhost/v1".into();
        assert_eq!(change(topics), ["a.topics_endpoint"]);
        let ftp = |a: &mut Account| a.token_endpoint = "ftp://x".into();
        assert_eq!(change(ftp), ["a.token_endpoint"]);
        assert_eq!(change(|a| a.project = "a b".into()), ["a.project"]);
        assert_eq!(change(|a| a.connections = 0), ["a.connections"]);
        assert_eq!(change(|a| a.streams = 101), ["a.streams"]);
        assert!(!format!("{account:?}").contains("BEGIN"), "{account:?}");
    }
}
