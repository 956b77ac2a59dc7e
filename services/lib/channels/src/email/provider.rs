//! The e-mail channel's I/O.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_domain::{Channel, Mailbox, Reason};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::classify::classify;
use super::config::{Account, EmailSettings, named};
use super::payload::{self, Letterhead};
use super::policy::Refusals;
use super::pool::Pool;
use super::session::{self, Endpoint};
use crate::limits::{Egress, Limits};
use crate::provider::{Attempt, AttemptResult, Provider, TryError, only_known};
use crate::registry::BuildError;

/// Headers of a rehearsal; see [`Account::trace`].
const TRACE_WORKER: &str = "X-Bongsu-Worker";
const TRACE_ATTEMPT: &str = "X-Bongsu-Attempt";
const TRACE_EVENT: &str = "X-Bongsu-Event";
const TRACE_SENDER: &str = "X-Bongsu-Sender";
const TRACE_SEQ: &str = "X-Bongsu-Seq";

/// Sends mails.
pub struct EmailProvider {
    accounts: HashMap<String, Ready>,
    egress: Egress,
    worker: String,
}

/// An account, ready to send.
struct Ready {
    head: Letterhead,
    pool: Pool,
    refusals: Refusals,
    soft_wait: Duration,
    trace: bool,
    limits: Limits,
}

impl EmailProvider {
    /// Reads the accounts; opens no connection.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(settings: &EmailSettings, worker: &str) -> Result<Self, BuildError> {
        let mut accounts = HashMap::new();
        for (name, account) in &settings.accounts {
            let ready = Ready::new(account).map_err(|message| BuildError::Account {
                channel: Channel::Email.as_str(),
                account: name.clone(),
                message,
            })?;
            accounts.insert(name.clone(), ready);
        }
        Ok(Self {
            accounts,
            egress: settings.egress.clone(),
            worker: worker.to_owned(),
        })
    }

    async fn attempt_one(&self, attempt: Attempt<'_>, deadline: Instant) -> AttemptResult {
        let delivery = attempt.delivery;
        // Checked by `only_known` before any attempt of the batch was made.
        let Some(account) = self.accounts.get(&delivery.address.account) else {
            return AttemptResult::Unavailable;
        };
        let Ok(to) = Mailbox::parse(&delivery.address.address) else {
            return AttemptResult::Refused(Reason::InvalidAddress);
        };
        let number = attempt.number.to_string();
        let seq = delivery.content.data.get("seq").map_or("", String::as_str);
        let trace = [
            (TRACE_WORKER, self.worker.as_str()),
            (TRACE_ATTEMPT, &number),
            (TRACE_EVENT, &delivery.event_id),
            (TRACE_SENDER, &delivery.sender),
            (TRACE_SEQ, seq),
        ];
        let trace: &[_] = if account.trace { &trace } else { &[] };
        let mail = payload::mail(delivery, attempt.partition, &to, &account.head, trace);
        let Ok(mail) = mail else {
            return AttemptResult::Refused(Reason::InvalidContent);
        };
        match account.pool.send(&mail, deadline).await {
            Ok(()) => {
                account.refusals.note(false);
                AttemptResult::Accepted
            }
            Err(failure) if account.refusals.note(failure.is_policy()) => {
                tracing::error!(
                    account = delivery.address.account,
                    "the relay refuses most mails for reasons of policy"
                );
                AttemptResult::AccountFault
            }
            Err(failure) => classify(failure, account.soft_wait),
        }
    }
}

impl Ready {
    fn new(account: &Account) -> Result<Self, String> {
        let from = account.sender()?;
        let hello = match account.hello.as_str() {
            "" => from.email.domain().to_owned(),
            given => given.to_owned(),
        };
        let name = ServerName::try_from(account.host.clone())
            .map_err(|_| "host is no name a certificate could be for".to_owned())?;
        let endpoint = Endpoint {
            host: account.host.clone(),
            port: account.port(),
            tls: account.tls,
            name,
            config: session::client_config(account.ca_file.as_deref())?,
            hello,
            username: account.username.clone(),
            password: account.password.clone(),
            connect_timeout: account.connect_timeout.0,
            dsn: account.dsn,
        };
        Ok(Self {
            pool: Pool::new(
                endpoint,
                account.connections,
                account.mails_per_connection,
                account.idle_timeout.0,
            ),
            head: Letterhead {
                from,
                reply_to: named(&account.reply_to),
                return_path: Mailbox::parse(&account.return_path).ok(),
                references: account.reference_key(),
                list_unsubscribe: account.list_unsubscribe.clone(),
            },
            refusals: Refusals::default(),
            soft_wait: account.soft_wait.0,
            trace: account.trace,
            limits: account.limits.clone(),
        })
    }
}

impl Provider for EmailProvider {
    fn limits(&self, account: &str) -> Limits {
        let known = self.accounts.get(account);
        known.map(|ready| ready.limits.clone()).unwrap_or_default()
    }

    fn egress(&self) -> Egress {
        self.egress.clone()
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        async move {
            only_known(Channel::Email, batch, |name| {
                self.accounts.contains_key(name)
            })?;
            Ok(join_all(batch.iter().map(|one| self.attempt_one(*one, deadline))).await)
        }
        .boxed()
    }
}
