//! Starting and stopping the simulators.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bongsu_runtime::{Shutdown, TaskDied, Tasks};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

use crate::alimtalk::{AlimTalk, Plan as DealerPlan};
use crate::apns::{Apns, Plan};
use crate::assertion::{Assertion, Check, Difference};
use crate::authority::{Authority, AuthorityError};
use crate::compare::{Compare, Comparison, Expected};
use crate::discord::{Discord, Limits};
use crate::email::{Email, PORT_OFFSET, Plan as RelayPlan};
use crate::faults::Faults;
use crate::fcm::{self, Fcm};
use crate::line_api::LineApi;
use crate::recorder::Recorder;
use crate::report::{Analysis, Report};
use crate::seconds::{Second, Seconds};
use crate::sendbird::Sendbird;
use crate::server::{Server, Twin};
use crate::slack::Slack;
use crate::sms::{Plan as SmsPlan, Sms};
use crate::telegram::Telegram;
use crate::webhook::Webhook;
use crate::webpush::WebPush;

/// The windows of a report when nobody asks for others, in milliseconds: the sliding second in which
/// limits are promised.
pub const WINDOWS: &[u64] = &[1_000];

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $word:literal, $make:expr;)+) => {
        /// A provider with a twin.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$meta])* $kind),+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The channel's word, as the command line takes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word),+ }
            }

            fn make(
                self,
                instance: &Instance,
                authority: &Authority,
            ) -> Result<Arc<dyn Twin>, SimulatorError> {
                type Make = fn(&Instance, &Authority) -> Result<Arc<dyn Twin>, SimulatorError>;
                let make: Make = match self { $(Self::$kind => $make),+ };
                make(instance, authority)
            }
        }
    };
}

// The one table of twins: a new one adds its lines here, and a plan to `Instance` when it has one.
kinds! {
    /// A receiver of webhooks.
    Webhook = "webhook", |_, _| Ok(Arc::new(Webhook::default()));
    /// Discord's webhook API.
    Discord = "discord", |instance, _| Ok(Arc::new(Discord::new(instance.limits)));
    /// Apple's push service.
    Apns = "apns", |instance, authority| {
        instance.apns.validate().map_err(SimulatorError::Faults)?;
        let (plan, dir) = (instance.apns.clone(), instance.credentials_dir.as_deref());
        Ok(Arc::new(Apns::new(plan, authority, dir)?))
    };
    /// A dealer of AlimTalk.
    AlimTalk = "alimtalk", |instance, _| {
        instance.alimtalk.validate().map_err(SimulatorError::Faults)?;
        Ok(Arc::new(AlimTalk::new(instance.alimtalk.clone())))
    };
    /// A push service of browsers.
    WebPush = "webpush", |_, _| Ok(Arc::<WebPush>::default());
    /// The SMS vendors.
    Sms = "sms", |instance, _| {
        instance.sms.validate().map_err(SimulatorError::Faults)?;
        Ok(Arc::new(Sms::new(instance.sms.clone())))
    };
    /// Firebase Cloud Messaging.
    Fcm = "fcm", |instance, _| {
        instance.fcm.validate().map_err(SimulatorError::Faults)?;
        let (plan, dir) = (instance.fcm.clone(), instance.credentials_dir.as_deref());
        Ok(Arc::new(Fcm::new(plan, dir)?))
    };
    /// Telegram's Bot API.
    Telegram = "telegram", |_, _| Ok(Arc::new(Telegram::default()));
    /// Slack's incoming webhooks and Web API.
    Slack = "slack", |_, _| Ok(Arc::new(Slack::default()));
    /// Sendbird's Platform API.
    Sendbird = "sendbird", |_, _| Ok(Arc::new(Sendbird::default()));
    /// LINE's Messaging API.
    Line = "line", |_, _| Ok(Arc::new(LineApi::default()));
    /// A mail relay.
    Email = "email", |instance, _| {
        instance.email.validate().map_err(SimulatorError::Faults)?;
        Ok(Arc::new(Email::new(instance.email.clone())))
    };
}

impl Kind {
    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word)
    }
}

/// One simulator to start.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Whose twin.
    pub kind: Kind,
    /// Where it listens; port 0 for any free one.
    pub bind: SocketAddr,
    /// What goes wrong from the start.
    pub faults: Faults,
    /// Where every request is appended as NDJSON when it was read; none by default.
    pub log: Option<PathBuf>,
    /// Discord's limits; `None` switches them off.
    pub limits: Option<Limits>,
    /// What the twin of APNs does beside.
    pub apns: Plan,
    /// Where the authority, and what else a client needs, is written; nowhere by default.
    pub credentials_dir: Option<PathBuf>,
    /// What the dealer of AlimTalk does.
    pub alimtalk: DealerPlan,
    /// What the SMS vendors do.
    pub sms: SmsPlan,
    /// What the twin of FCM does beside.
    pub fcm: fcm::Plan,
    /// What the mail relay does.
    pub email: RelayPlan,
}

impl Instance {
    /// A twin on any free port of the loopback interface that takes everything: no faults, no log,
    /// Discord's limits as observed.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            faults: Faults::default(),
            log: None,
            limits: Some(Limits::default()),
            apns: Plan::default(),
            credentials_dir: None,
            alimtalk: DealerPlan::default(),
            sms: SmsPlan::default(),
            fcm: fcm::Plan::default(),
            email: RelayPlan::default(),
        }
    }
}

/// Which simulators to start.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Several of one kind are fine.
    pub instances: Vec<Instance>,
}

impl Settings {
    /// One twin of each kind, as [`Instance::new`] makes them.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self {
            instances: kinds.iter().map(|kind| Instance::new(*kind)).collect(),
        }
    }
}

/// A simulator cannot start, or died.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// Its address cannot be bound.
    #[error("the {kind} simulator cannot listen on {address}")]
    Bind {
        /// Whose twin.
        kind: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its log cannot be opened.
    #[error("the log {path} cannot be opened")]
    Log {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its fault plan cannot be.
    #[error("the fault plan is wrong: {0}")]
    Faults(String),
    /// Certificates and keys cannot be made or written.
    #[error("the certificates of the simulators")]
    Authority(#[from] AuthorityError),
    /// A server ended although nobody asked it to.
    #[error(transparent)]
    Died(#[from] TaskDied),
}

/// One running simulator. Clones are the same one.
#[derive(Clone)]
pub struct Running {
    kind: Kind,
    address: SocketAddr,
    first: Option<SocketAddr>,
    server: Arc<Server>,
}

impl Running {
    /// Whose twin.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address`, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `https://localhost:port`: the same, over TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Silences every present connection for good, without closing it; how many there were.
    pub fn freeze(&self) -> usize {
        self.server.freeze()
    }

    /// The authority of its certificate, as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.server.authority()
    }

    /// Where a protocol is spoken in which the server speaks first, when its provider has one.
    pub(crate) const fn first_address(&self) -> Option<SocketAddr> {
        self.first
    }

    /// The twin itself, when it is of this kind.
    pub(crate) fn twin<T: 'static>(&self) -> Option<&T> {
        let twin: &dyn Any = self.server.twin();
        twin.downcast_ref()
    }

    /// What it has recorded so far.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        self.server.recorder()
    }

    /// Replaces what single addresses are answered, by words of the provider; false of a twin that
    /// does not let that be chosen.
    pub fn set_answers(&self, words: BTreeMap<String, String>) -> bool {
        let own = self.server.twin().words();
        own.map(|own| own.replace(words)).is_some()
    }

    /// Replaces the fault plan from the next request on.
    ///
    /// # Errors
    /// [`SimulatorError::Faults`].
    pub fn set_faults(&self, faults: Faults) -> Result<(), SimulatorError> {
        self.server
            .set_faults(faults)
            .map_err(SimulatorError::Faults)
    }

    /// The report over everything since the start or the last reset. Takes the calling thread
    /// about 1.6 s per million requests (measured on the reference machine).
    #[must_use]
    pub fn report(&self) -> Report {
        report(self.recorder(), WINDOWS)
    }

    /// Compares with what was expected.
    #[must_use]
    pub fn compare(&self, expected: Expected) -> Comparison {
        compare(self.recorder(), expected)
    }

    /// Checks an assertion.
    #[must_use]
    pub fn check(&self, assertion: Assertion) -> Difference {
        check(self.recorder(), assertion)
    }
}

/// Connections waiting to be accepted. A client that starts thousands of attempts at once would
/// overflow the usual 1,024, and each connection lost there costs it a second.
const BACKLOG: u32 = 8_192;

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // As `TcpListener::bind` does: a restarted twin gets its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

pub(crate) fn report(recorder: &Recorder, windows: &[u64]) -> Report {
    let mut analysis = Analysis::new(windows);
    recorder.visit(0, |seen| {
        analysis.see(seen);
        true
    });
    analysis.finish()
}

pub(crate) fn seconds(recorder: &Recorder) -> Vec<Second> {
    let mut seconds = Seconds::default();
    recorder.visit(0, |seen| {
        seconds.see(seen);
        true
    });
    seconds.finish()
}

pub(crate) fn compare(recorder: &Recorder, expected: Expected) -> Comparison {
    let mut compare = Compare::new(expected);
    recorder.visit(0, |seen| {
        compare.see(seen);
        true
    });
    compare.finish()
}

pub(crate) fn check(recorder: &Recorder, assertion: Assertion) -> Difference {
    let mut check = Check::new(assertion);
    recorder.visit(0, |seen| {
        check.see(seen);
        true
    });
    check.finish()
}

/// The running simulators; dropping them closes every connection.
pub struct Simulators {
    authority: Authority,
    running: Vec<Running>,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Simulators {
    /// Binds and starts all of them, or none.
    ///
    /// # Errors
    /// [`SimulatorError`] of the first that cannot start.
    pub async fn start(settings: Settings) -> Result<Self, SimulatorError> {
        let mut started = Self {
            authority: Authority::new()?,
            running: Vec::new(),
            tasks: Tasks::new(),
            shutdown: Shutdown::new(),
        };
        for instance in settings.instances {
            started.add(instance).await?;
        }
        Ok(started)
    }

    async fn add(&mut self, instance: Instance) -> Result<(), SimulatorError> {
        let kind = instance.kind;
        let bind = |source| SimulatorError::Bind {
            kind: kind.as_str(),
            address: instance.bind,
            source,
        };
        instance.faults.validate().map_err(SimulatorError::Faults)?;
        let twin = kind.make(&instance, &self.authority)?;
        if let Some(dir) = &instance.credentials_dir {
            self.authority.write(dir)?;
        }
        let listener = listen(instance.bind).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let mut first = None;
        if let Some(talk) = Arc::clone(&twin).speaks_first() {
            let mut at = instance.bind;
            if at.port() != 0 {
                at.set_port(at.port().saturating_add(PORT_OFFSET));
            }
            let listener = listen(at).map_err(bind)?;
            let address = listener.local_addr().map_err(bind)?;
            first = Some((address, listener, talk));
        }
        let log = match &instance.log {
            Some(path) => Some(
                crate::server::open_log(path, &mut self.tasks)
                    .await
                    .map_err(|source| SimulatorError::Log {
                        path: path.display().to_string(),
                        source,
                    })?,
            ),
            None => None,
        };
        Arc::clone(&twin).start(&mut self.tasks, self.shutdown.child());
        let tls = self.authority.server(&["h2", "http/1.1"])?;
        let authority = self.authority.pem().into();
        let server = Arc::new(Server::new(twin, instance.faults, log, authority, tls));
        self.tasks.spawn(
            "simulator",
            Arc::clone(&server).serve(listener, self.shutdown.child()),
        );
        let first = first.map(|(address, listener, talk)| {
            let served = Arc::clone(&server).serve_first(listener, talk, self.shutdown.child());
            self.tasks.spawn("simulator", served);
            address
        });
        tracing::info!(kind = kind.as_str(), %address, "simulator listens");
        self.running.push(Running {
            kind,
            address,
            first,
            server,
        });
        Ok(())
    }

    /// All of them, in the order of the settings.
    #[must_use]
    pub fn running(&self) -> &[Running] {
        &self.running
    }

    /// The first of a kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Running> {
        self.running.iter().find(|running| running.kind == kind)
    }

    /// Runs until `shutdown` is requested, then closes every connection.
    ///
    /// # Errors
    /// [`SimulatorError::Died`] when a server ends before.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), SimulatorError> {
        tokio::select! {
            // Both branches are cancel safe.
            biased;
            () = shutdown.requested() => {}
            ended = self.tasks.next() => if let Some(Err(died)) = ended {
                return Err(died.into());
            }
        }
        self.shutdown.request();
        // Closes the logs: their tasks end when the last sender is gone.
        self.running.clear();
        Ok(self.tasks.join().await?)
    }
}
