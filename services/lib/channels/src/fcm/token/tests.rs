use bongsu_runtime::Secret;
use bongsu_runtime::tasks::detach;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::service_account::tests::file;
use super::*;
use crate::client::Reach;
use crate::settings::ClientSettings;

const LATER: Duration = Duration::from_mins(1);

/// A token endpoint that answers once it may; counts who is connected.
struct Endpoint {
    url: Url,
    may: watch::Sender<bool>,
    connected: watch::Receiver<u32>,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let (may, allowed) = watch::channel(false);
        let (counted, connected) = watch::channel(0);
        detach("test endpoint", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.send_modify(|n| *n += 1);
                let mut allowed = allowed.clone();
                detach("test answer", async move {
                    let mut read = [0; 8_192];
                    let Ok(1..) = stream.read(&mut read).await else {
                        return;
                    };
                    drop(allowed.wait_for(|yes| *yes).await.ok());
                    let body = r#"{"access_token":"test","expires_in":3599}"#;
                    let length = body.len();
                    let head = "HTTP/1.1 200 OK\r\nconnection: close";
                    let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.ok();
                });
            }
        });
        Self {
            url: url.parse().unwrap(),
            may,
            connected,
        }
    }

    fn source(&self, patience: Duration) -> TokenSource {
        let account = ServiceAccount::read(&Secret::new(file().0)).unwrap();
        let client = client::build(&ClientSettings::default(), Reach::Anywhere).unwrap();
        let (url, clock) = (self.url.clone(), Clock::system());
        TokenSource::with_patience(account, client, url, clock, patience)
    }
}

#[tokio::test]
async fn an_exchange_goes_on_without_those_who_waited_for_it() {
    let endpoint = Endpoint::start().await;
    let source = endpoint.source(LATER);
    for _ in 0..3 {
        let soon = Instant::now() + Duration::from_millis(50);
        let none = source.current(soon).await.unwrap_err();
        assert_eq!(none, NoToken::Unavailable);
    }
    // Neither a failure nor asked anew: the first one is still under way.
    assert!(source.0.state().failed.is_none());
    endpoint.may.send_replace(true);
    let token = source.current(Instant::now() + LATER).await.unwrap();
    assert_eq!(token.number, 1);
    assert_eq!(*endpoint.connected.borrow(), 1);
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_a_failure_and_is_left_alone() {
    let endpoint = Endpoint::start().await;
    let patience = Duration::from_millis(100);
    let source = endpoint.source(patience);
    let mut ended = source.0.ended.subscribe();
    // The asker has no more time than the exchange.
    let none = source.current(Instant::now() + patience).await;
    assert_eq!(none.unwrap_err(), NoToken::Unavailable);
    ended.wait_for(|n| *n == 1).await.unwrap();
    let (failed, _) = source.0.state().failed.unwrap();
    assert_eq!(failed, NoToken::Unavailable);
    // At once, without asking: the wait is not over.
    let none = source.current(Instant::now() + LATER).await;
    assert_eq!(none.unwrap_err(), NoToken::Unavailable);
    assert!(*endpoint.connected.borrow() <= 1);
    assert!(!source.0.state().fetching);
}

fn fetched(state: &mut State, now: Instant) -> u64 {
    let header = HeaderValue::from_static("Bearer test");
    state.fetched(Ok((header, 3_599)), 0, now);
    state.made
}

#[test]
fn a_failures_wait_doubles_and_is_never_nothing() {
    let mut state = State::default();
    let now = Instant::now();
    for (none, seconds) in [
        (NoToken::Unavailable, 1),
        (NoToken::Refused, 2),
        (NoToken::Throttled(Some(Duration::ZERO)), 1),
        (NoToken::Throttled(None), 8),
    ] {
        state.fetched(Err(none), 0, now);
        let wait = Duration::from_secs(seconds);
        assert!(state.resting(now + wait / 2).is_some(), "{none:?}");
        assert_eq!(state.resting(now + wait), None, "{none:?}");
    }
}

#[test]
fn a_refused_token_is_replaced_once_in_an_interval() {
    let mut state = State::default();
    let start = Instant::now();
    let first = fetched(&mut state, start);
    assert_eq!(state.refused(first, start), Renewal::Renewed);
    // The same token by another request's answer: it has been given up.
    assert_eq!(state.refused(first, start), Renewal::Renewed);
    let second = fetched(&mut state, start);
    // Accepted and refused by turns, as FCM does in trouble: no token for each.
    let mut now = start;
    for _ in 0..50 {
        state.refused = 0;
        now += Duration::from_secs(1);
        assert_eq!(state.refused(second, now), Renewal::TooSoon);
        assert!(state.held.is_some());
    }
    now = start + RENEWAL_INTERVAL;
    state.refused = 0;
    assert_eq!(state.refused(second, now), Renewal::Renewed);
    assert!(state.held.is_none());
}

#[test]
fn two_tokens_refused_in_a_row_are_the_accounts_fault() {
    let mut state = State::default();
    let now = Instant::now();
    let first = fetched(&mut state, now);
    assert_eq!(state.refused(first, now), Renewal::Renewed);
    let second = fetched(&mut state, now);
    assert_eq!(state.refused(second, now), Renewal::Stuck);
    assert_eq!(state.refused(second, now), Renewal::Stuck);
    // Not given up before the interval is over.
    assert!(state.held.is_some());
}
