//! Tokens for SASL `OAUTHBEARER`: one thread fetches them and gives them to every client there is.
//!
//! librdkafka asks for a token through a client's main queue, which admin clients never serve and
//! others serve only after the first call that would need the token. So nobody waits to be asked: a new
//! client gets the token in force, and all of them get the next one before that ends. librdkafka opens
//! no connection before it has a token, and authenticates again by itself when the broker's session
//! nears its end.
//!
//! Invariant: a token is only given to clients that are entered, and leaving waits until a giving is
//! over.

mod source;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_resp_err_t};
use rdkafka::types::RDKafka;
use tokio::sync::{oneshot, watch};

pub(super) use self::source::NoToken;
use self::source::{Source, Token};
use super::settings::{OauthBearer, SettingsError, fault};

/// Wait after the first failure; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(500);

/// Longest wait after a failure.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Two tokens are never asked for within this time, however short they live.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps the tokens of a cluster's clients. Its thread starts with the first client, and ends when the
/// cluster and all clients are gone.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    source: Source,
    /// The thread runs as long as this is held; `None` when it could not be started.
    running: OnceLock<Option<oneshot::Sender<()>>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

struct Shared {
    standing: watch::Sender<Standing>,
    clients: Mutex<Clients>,
    principal: CString,
}

/// What is known about tokens.
#[derive(Default)]
struct Standing {
    token: Option<Arc<Token>>,
    /// Why the last fetch failed.
    failed: Option<NoToken>,
}

impl Standing {
    /// The token, if it is still good.
    fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref().filter(|t| t.ends > Instant::now())
    }

    /// Why there is no token, when waiting does not help.
    fn refusal(&self) -> Option<&NoToken> {
        self.failed
            .as_ref()
            .filter(|f| f.certain && self.token().is_none())
    }
}

#[derive(Default)]
struct Clients {
    next: u64,
    entered: BTreeMap<u64, Handle>,
}

/// A client of librdkafka's.
struct Handle(*mut RDKafka);

#[expect(
    unsafe_code,
    reason = "a pointer of librdkafka's is used by another thread"
)]
// SAFETY: librdkafka's clients may be used by any thread.
unsafe impl Send for Handle {}

/// A client's place at the keeper; dropping it gives the place up.
pub(super) struct Place {
    keeper: Arc<Keeper>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeper.shared.clients().entered.remove(&self.number);
    }
}

impl Keeper {
    /// A keeper; it asks for nothing yet.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub(super) fn new(settings: &OauthBearer) -> Result<Arc<Self>, SettingsError> {
        let source = Source::new(settings)?;
        let principal = CString::new(settings.client_id.as_str())
            .map_err(|_| fault("sasl.oauth.client_id", "it contains a NUL"))?;
        Ok(Arc::new(Self {
            shared: Arc::new(Shared {
                standing: watch::Sender::default(),
                clients: Mutex::default(),
                principal,
            }),
            source,
            running: OnceLock::new(),
        }))
    }

    /// Waits for a token. Cancel safe.
    ///
    /// # Errors
    /// The reason, at once when the endpoint refuses the client, else after `patience`.
    pub(super) async fn ready(&self, patience: Duration) -> Result<(), NoToken> {
        self.start();
        let mut standing = self.shared.standing.subscribe();
        let settled = standing.wait_for(|now| now.token().is_some() || now.refusal().is_some());
        // The outcome is read below, whichever it is.
        drop(tokio::time::timeout(patience, settled).await);
        let now = self.shared.standing.borrow();
        match (now.token(), &now.failed) {
            (Some(_), _) => Ok(()),
            (None, Some(failed)) => Err(failed.clone()),
            (None, None) => Err(NoToken::unanswered()),
        }
    }

    /// Why there is no token, when waiting does not help.
    pub(super) fn refusal(&self) -> Option<NoToken> {
        self.shared.standing.borrow().refusal().cloned()
    }

    /// Enters a client: it has the token in force when this returns, and gets every later one.
    ///
    /// # Safety
    /// `client` must be a client of librdkafka's that lives until the place is dropped.
    #[expect(
        unsafe_code,
        reason = "only the caller knows how long the client lives"
    )]
    pub(super) unsafe fn enter(self: &Arc<Self>, client: *mut RDKafka) -> Place {
        self.start();
        let mut clients = self.shared.clients();
        let number = clients.next;
        clients.next += 1;
        let handle = Handle(client);
        // With the lock held: a token that comes meanwhile is given right after.
        let token = self.shared.standing.borrow().token().cloned();
        if let Some(token) = token {
            self.shared.give(&handle, &token);
        }
        clients.entered.insert(number, handle);
        Place {
            keeper: Arc::clone(self),
            number,
        }
    }

    fn start(&self) {
        self.running.get_or_init(|| {
            let (running, dropped) = oneshot::channel();
            let (shared, source) = (Arc::clone(&self.shared), self.source.clone());
            let started = std::thread::Builder::new()
                .name("kafka-tokens".to_owned())
                .spawn(move || run(&shared, &source, dropped));
            match started {
                Ok(_) => Some(running),
                Err(error) => {
                    self.shared.fail(NoToken::impossible(&error));
                    None
                }
            }
        });
    }
}

/// Keeps the clients' tokens fresh until the keeper is dropped. A runtime of its own, because clients are
/// made in and outside of others, and outlive them.
fn run(shared: &Shared, source: &Source, dropped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                () = shared.refresh(source) => {}
                _ = dropped => {}
            }
        }),
        Err(error) => shared.fail(NoToken::impossible(&error)),
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh(&self, source: &Source) {
        let mut failures = 0;
        loop {
            let pause = match source.fetch().await {
                Ok(token) => {
                    failures = 0;
                    let pause = refresh_after(token.life);
                    tracing::debug!(seconds = token.life.as_secs(), "a new kafka token");
                    self.give_all(token);
                    pause
                }
                Err(failed) => {
                    let pause = backoff(failures);
                    failures += 1;
                    tracing::warn!(error = %failed, again_in = ?pause, "no new kafka token");
                    self.fail(failed);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn fail(&self, failed: NoToken) {
        // The token in force stays: it is good until its end.
        self.standing
            .send_modify(|standing| standing.failed = Some(failed));
    }

    fn give_all(&self, token: Token) {
        let token = Arc::new(token);
        // First known, then given: who enters meanwhile has it either way.
        self.standing.send_replace(Standing {
            token: Some(Arc::clone(&token)),
            failed: None,
        });
        for client in self.clients().entered.values() {
            self.give(client, &token);
        }
    }

    /// Gives a client a token. The caller holds the lock of the clients, so that the client cannot go.
    fn give(&self, client: &Handle, token: &Token) {
        let mut said = [0; 256];
        #[expect(unsafe_code, reason = "rust-rdkafka has no call for this")]
        // SAFETY: the client has not left (see `enter`) and cannot while the lock is held; texts are
        // terminated and copied, there are no extensions, and the buffer has the length told.
        let code = unsafe {
            rd_kafka_oauthbearer_set_token(
                client.0,
                token.text.as_ptr(),
                token.ends_unix_millis,
                self.principal.as_ptr(),
                std::ptr::null_mut(),
                0,
                said.as_mut_ptr(),
                said.len(),
            )
        };
        if code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            // What librdkafka says of a token it does not like has the token in it.
            tracing::warn!(?code, "a kafka client does not take the token");
        }
    }
}

/// How long after it was asked for a token is to be replaced.
fn refresh_after(life: Duration) -> Duration {
    (life / 5 * 4).max(SHORTEST_PAUSE)
}

/// How long to wait after a failure that came after so many others.
fn backoff(failures: u32) -> Duration {
    BACKOFF
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use bongsu_runtime::Secret;
    use rdkafka::ClientConfig;
    use rdkafka::consumer::BaseConsumer;

    use super::*;
    use crate::kafka::client::{Kept, Recipe};
    use crate::kafka::context::Plain;

    /// Else the next token would be given to memory that is somebody else's by then.
    #[test]
    fn a_client_that_goes_gives_its_place_up() {
        let keeper = Keeper::new(&OauthBearer {
            // Nobody listens there: the tokens are made here.
            token_url: "http://127.0.0.1:1/".to_owned(),
            client_id: "a".to_owned(),
            client_secret: Secret::new("b"),
            scope: None,
        })
        .unwrap();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("group.id", "any")
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "OAUTHBEARER");
        let recipe = Recipe::new(config, Some(Arc::clone(&keeper)));
        let token = || Token {
            text: CString::from(c"x"),
            life: Duration::from_secs(60),
            ends: Instant::now() + Duration::from_secs(60),
            ends_unix_millis: i64::MAX / 1_000,
        };
        let first: Kept<BaseConsumer<Plain>> = recipe.make(Plain).unwrap();
        keeper.shared.give_all(token());
        let second: Kept<BaseConsumer<Plain>> = recipe.make(Plain).unwrap();
        assert_eq!(keeper.shared.clients().entered.len(), 2);
        drop(first);
        keeper.shared.give_all(token());
        drop(second);
        assert!(keeper.shared.clients().entered.is_empty());
    }

    #[test]
    fn a_token_is_replaced_before_its_end_but_not_all_the_time() {
        assert_eq!(
            refresh_after(Duration::from_secs(300)),
            Duration::from_secs(240)
        );
        assert_eq!(refresh_after(Duration::from_millis(10)), SHORTEST_PAUSE);
    }

    #[test]
    fn failures_make_the_wait_longer_up_to_a_limit() {
        assert_eq!(backoff(0), BACKOFF);
        assert_eq!(backoff(2), BACKOFF * 4);
        assert_eq!(backoff(6), LONGEST_BACKOFF);
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
    }
}
