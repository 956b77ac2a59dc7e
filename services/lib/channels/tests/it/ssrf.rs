//! Targets that must not be called, on default settings: by their URL, by what their name resolves
//! to, and by what it resolves to the second time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_channels::provider::{AttemptResult, Provider};
use bongsu_channels::ssrf::{Lookup, PrivateTarget, PublicOnly, keep_public};
use bongsu_channels::webhook::{WebhookProvider, config::Account};
use bongsu_channels::{ClientSettings, Settings};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::Clock;
use futures_util::future::BoxFuture;
use url::{Host, Url};

use crate::server::{Reply, Server};
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

/// Literal addresses, however they are written. `PORT` is that of a server on 127.0.0.1.
const LITERAL: &[&str] = &[
    // Loopback.
    "http://127.0.0.1:PORT/",
    "http://127.0.0.2:PORT/",
    "http://127.255.255.254:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.1:PORT/",
    "http://017700000001:PORT/",
    "http://0177.0.0.01:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.0.0.1:PORT\\@example.com/",
    "http:\\\\127.0.0.1:PORT\\x",
    "http:127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    " http://127.0.0.1:PORT/ ",
    "HTTP://127.0.0.1:PORT/",
    "http://127.0.\t0.1:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://１２７.０.０.１:PORT/",
    "http://127。0。0。1:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    // Private, shared, link-local, metadata.
    "http://10.0.0.5:8080/x",
    "http://012.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://0xc0a80101/",
    "http://100.64.0.1/",
    "http://100.127.255.255/",
    "http://169.254.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0251.0376.0251.0376/",
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/opc/v2/instance/",
    "http://168.63.129.16/machine/",
    // Documentation, benchmarks, relays, multicast, reserved, broadcast.
    "http://192.0.2.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://198.18.0.1/",
    "http://192.88.99.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250:1900/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    // IPv6.
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::127.0.0.1]:PORT/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[fe80::1]/",
    "http://[febf::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fd20:ce::254]/computeMetadata/v1/",
    "http://[ff02::1]/",
    "http://[ff0e::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2002:c0a8:101::1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[2001::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[100::1]/",
    "http://[5f00::1]/",
    "http://[2606:4700::5efe:10.0.0.1]/",
];

/// Names, with what they resolve to; none where the name alone is refused.
const NAMED: &[(&str, &[&str])] = &[
    ("http://localhost:PORT/", &[]),
    ("http://LOCALHOST.:PORT/", &[]),
    ("http://a.b.localhost:PORT/", &[]),
    ("http://metadata.google.internal/computeMetadata/v1/", &[]),
    ("http://db.internal/", &[]),
    ("http://printer.local/", &[]),
    ("http://router.home.arpa/", &[]),
    ("http://localhost.localdomain:PORT/", &[]),
    ("http://loopback.example:PORT/", &["127.0.0.1"]),
    ("http://loopback.example.:PORT/", &["127.0.0.1"]),
    ("https://loopback.example:PORT/", &["127.0.0.1"]),
    ("http://six.example:PORT/", &["::1"]),
    ("http://both.example:PORT/", &["127.0.0.1", "::1"]),
    ("http://mapped.example:PORT/", &["::ffff:127.0.0.1"]),
    ("http://nothing.example:PORT/", &["0.0.0.0"]),
    ("http://ten.example/", &["10.1.2.3"]),
    ("http://shared.example/", &["100.64.1.1"]),
    ("http://metadata.example/", &["169.254.169.254"]),
    ("http://unique.example/", &["fd12:3456::1"]),
    ("http://nat64.example/", &["64:ff9b::192.168.0.1"]),
    ("http://relay.example/", &["2002:a00:1::"]),
    ("http://kafka:PORT/", &["172.18.0.2"]),
    (
        "http://xn--oy2b35ckwhba574atvuzkc.example/",
        &["192.168.9.9"],
    ),
    ("http://한국.example/", &["192.168.9.9"]),
];

/// What is no target whatever it resolves to.
const NO_TARGET: &[&str] = &[
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://:password@example.com/",
    "http://example.com@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT@example.com/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1/",
    "http://256.256.256.256/",
    "http://127.0.0.1.1/",
    "http://0x100000000/",
    "http://example.com:99999/",
    "http://example.com:22/",
    "http://example.com:25/",
    "http://example.com:6379/",
    "http://example.com:2375/containers/json",
    "http://8.8.8.8:11211/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_x",
    "dict://127.0.0.1:PORT/info",
    "unix:/var/run/docker.sock",
    "javascript:alert(1)",
    "data:text/plain,x",
    "//127.0.0.1:PORT/",
    "/hook/x",
    "example.com/hook",
    "http://",
    "http://exa mple.com/",
    "",
];

/// A name server that gives each name its answers in turn, the last one for ever.
#[derive(Default)]
struct Names {
    answers: HashMap<String, Vec<Vec<SocketAddr>>>,
    asked: Mutex<HashMap<String, usize>>,
}

impl Names {
    fn say(mut self, name: &str, answers: &[&[&str]]) -> Self {
        let read = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        let answers = answers.iter().map(|a| a.iter().map(read).collect());
        self.answers.insert(name.to_owned(), answers.collect());
        self
    }
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        let name = name.trim_end_matches('.').to_owned();
        Box::pin(async move {
            let answers = self
                .answers
                .get(&name)
                .ok_or(std::io::ErrorKind::NotFound)?;
            let mut asked = self.asked.lock().unwrap();
            let n = asked.entry(name).or_default();
            let answer = answers[(*n).min(answers.len() - 1)].clone();
            *n += 1;
            Ok(answer)
        })
    }
}

/// A provider on default settings, but for the name server and a shorter patience for connections.
fn provider(names: Names) -> (WebhookProvider, Arc<Names>) {
    let names = Arc::new(names);
    let mut settings = Settings::default().webhook;
    settings.client = ClientSettings {
        connect_timeout: bongsu_runtime::Duration::millis(300),
        ..ClientSettings::default()
    };
    let guard = PublicOnly::new(Arc::clone(&names) as Arc<dyn Lookup>);
    let made = WebhookProvider::guarded_by(guard, &settings, "w", Clock::system());
    (made.unwrap(), names)
}

async fn send(provider: &dyn Provider, url: &str) -> AttemptResult {
    let mut delivery = delivery(Channel::Webhook, url, "e1");
    delivery.address.account = "default".into();
    attempt(provider, &delivery, PATIENT).await
}

#[tokio::test]
async fn no_hostile_target_is_called_on_default_settings() {
    const { assert!(LITERAL.len() + NAMED.len() + NO_TARGET.len() >= 40) };
    let server = Server::start(Reply::answer(204, "", "")).await;
    let port = server.address.port().to_string();
    let names = NAMED.iter().fold(Names::default(), |names, (url, found)| {
        let url = Url::parse(&url.replace("PORT", &port)).unwrap();
        let name = url.host_str().unwrap().trim_end_matches('.').to_owned();
        names.say(&name, &[found])
    });
    let (provider, names) = provider(names);
    let private = AttemptResult::Refused(Reason::PrivateAddress);
    for url in LITERAL {
        let url = url.replace("PORT", &port);
        assert_eq!(send(&provider, &url).await, private, "{url}");
        // What the URL's host is, were it to reach the resolver.
        let address = match Url::parse(url.trim()).unwrap().host().unwrap() {
            Host::Ipv4(ip) => SocketAddr::new(ip.into(), 0),
            Host::Ipv6(ip) => SocketAddr::new(ip.into(), 0),
            Host::Domain(name) => unreachable!("{name} is no literal address"),
        };
        assert_eq!(keep_public([address]), Err(PrivateTarget), "{url}");
    }
    for (url, found) in NAMED {
        let url = url.replace("PORT", &port);
        assert_eq!(send(&provider, &url).await, private, "{url}");
        let name = Url::parse(&url).unwrap().host_str().unwrap().to_owned();
        let asked = names.asked.lock().unwrap();
        let asked = asked.get(name.trim_end_matches('.')).is_some();
        assert_eq!(asked, !found.is_empty(), "{url}: who refused it");
    }
    for url in NO_TARGET {
        let url = url.replace("PORT", &port);
        let result = send(&provider, &url).await;
        assert_eq!(
            result,
            AttemptResult::Refused(Reason::InvalidAddress),
            "{url}"
        );
    }
    assert_eq!((server.requests().len(), server.connections()), (0, 0));
}

#[tokio::test]
async fn a_name_that_turns_private_after_it_was_looked_at_is_refused_when_it_is_called() {
    let server = Server::start(Reply::answer(204, "", "")).await;
    let url = format!("http://rebinding.example:{}/", server.address.port());
    let rebinding: [&[&str]; 2] = [&["8.8.8.8"], &["127.0.0.1"]];
    let (provider, names) = provider(Names::default().say("rebinding.example", &rebinding));
    // Public the first time: let through, to a host that is not there or does not answer so.
    assert_ne!(
        send(&provider, &url).await,
        AttemptResult::Refused(Reason::PrivateAddress)
    );
    assert_eq!(
        send(&provider, &url).await,
        AttemptResult::Refused(Reason::PrivateAddress)
    );
    // Each call asked once, and what it was told is what was called.
    assert_eq!(names.asked.lock().unwrap()["rebinding.example"], 2);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_private_address_among_public_ones_is_not_called() {
    let server = Server::start(Reply::answer(204, "", "")).await;
    let url = format!("http://mixed.example:{}/", server.address.port());
    let mixed: [&[&str]; 1] = [&["127.0.0.1", "8.8.8.8", "::1"]];
    let (provider, _) = provider(Names::default().say("mixed.example", &mixed));
    assert_ne!(send(&provider, &url).await, AttemptResult::Accepted);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn no_redirect_leads_anywhere() {
    let inside = Server::start(Reply::answer(204, "", "")).await;
    for (status, target) in [
        (301, inside.url()),
        (302, inside.url()),
        (303, format!("http://localhost:{}/", inside.address.port())),
        (307, inside.url()),
        (308, "http://169.254.169.254/".to_owned()),
    ] {
        let reply = Reply::answer(status, &format!("location: {target}\r\n"), "");
        let outside = Server::start(reply).await;
        let mut settings = Settings::default().webhook;
        let account = Account {
            allow_private: true,
            ..Account::default()
        };
        settings.accounts.insert("default".into(), account);
        let provider = WebhookProvider::new(&settings, "w", Clock::system()).unwrap();
        let result = send(&provider, &outside.url()).await;
        assert_eq!(result, AttemptResult::Unavailable, "{status}");
        assert_eq!(outside.requests().len(), 1);
    }
    assert_eq!(inside.connections(), 0);
}
