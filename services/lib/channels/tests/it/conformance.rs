//! The same suite for every channel.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, TryError};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Delivery, Reason};
use bongsu_runtime::Clock;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::server::{Reply, Server, Speaks};
use crate::subject::subject;
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

/// The channels that speak HTTP, for what only HTTP can say; of the others docs/channels tells what
/// stands in its place.
fn over_http() -> impl Iterator<Item = &'static Channel> {
    Channel::ALL
        .iter()
        .filter(|channel| subject(**channel).speaks != Speaks::Smtp)
}

/// A provider whose account `test` reaches `base`, and an address there.
fn setup(channel: Channel, base: &str) -> (Arc<dyn Provider>, String) {
    let subject = subject(channel);
    let mut settings = Settings::default();
    (subject.account)(&mut settings, base);
    let provider = build(channel, &settings, "worker-1", Clock::system()).unwrap();
    (provider, (subject.address)(base))
}

async fn one(channel: Channel, reply: Reply, patience: Duration) -> (AttemptResult, Server) {
    let server = Server::start_for(channel, reply).await;
    let (provider, address) = setup(channel, &server.url());
    let result = attempt(&*provider, &delivery(channel, &address, "e1"), patience).await;
    (result, server)
}

#[tokio::test]
async fn an_accepted_request_says_who_sends_it() {
    for channel in over_http() {
        let (result, server) = one(*channel, subject(*channel).taken, PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted, "{channel}");
        let request = server.requests().remove(0).to_lowercase();
        for line in [
            "post /",
            "bongsu-worker: worker-1\r\n",
            "bongsu-attempt: 1\r\n",
            "user-agent: bongsu/",
        ] {
            assert!(request.contains(line), "{channel}: {line} in {request}");
        }
    }
}

#[tokio::test]
async fn results_come_in_the_order_of_the_batch() {
    for channel in Channel::ALL {
        let good = Server::start_for(*channel, subject(*channel).taken).await;
        let (provider, address) = setup(*channel, &good.url());
        let bad = "not an address";
        let deliveries: Vec<Delivery> = (0..20)
            .map(|i| {
                delivery(
                    *channel,
                    if i % 3 == 0 { bad } else { &address },
                    &format!("e{i}"),
                )
            })
            .collect();
        let batch: Vec<_> = deliveries
            .iter()
            .map(|delivery| Attempt {
                delivery,
                number: 1,
                partition: 0,
            })
            .collect();
        let results = provider
            .attempt(&batch, Instant::now() + PATIENT)
            .await
            .unwrap();
        assert_eq!(results.len(), batch.len());
        for (i, result) in results.iter().enumerate() {
            let expected = if i % 3 == 0 {
                AttemptResult::Refused(Reason::InvalidAddress)
            } else {
                AttemptResult::Accepted
            };
            assert_eq!(*result, expected, "{channel} {i}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_told_exactly() {
    for channel in over_http() {
        let reply = Reply::answer(429, "retry-after: 17\r\n", "{}");
        let (result, _) = one(*channel, reply, PATIENT).await;
        let retry_after = Some(Duration::from_secs(17));
        assert!(
            matches!(result, AttemptResult::Throttled { retry_after: told, .. } if told == retry_after),
            "{channel}: {result:?}"
        );

        let at = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let reply = Reply::answer(503, &format!("retry-after: {at}\r\n"), "");
        let (result, _) = one(*channel, reply, PATIENT).await;
        let AttemptResult::Throttled {
            retry_after: Some(wait),
            ..
        } = result
        else {
            unreachable!("{channel}: {result:?}")
        };
        assert!((97..=100).contains(&wait.as_secs()), "{channel}: {wait:?}");
    }
}

#[tokio::test]
async fn a_silence_after_the_request_is_unknown_and_ends_at_the_deadline() {
    for channel in Channel::ALL {
        let started = Instant::now();
        let patience = subject(*channel).short();
        let (result, server) = one(*channel, Reply::Silence, patience).await;
        assert_eq!(result, AttemptResult::Unknown, "{channel}");
        assert!(started.elapsed() < patience * 3, "{:?}", started.elapsed());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_request_is_unknown_and_is_not_sent_twice() {
    for channel in Channel::ALL {
        let (result, server) = one(*channel, Reply::Close, PATIENT).await;
        assert_eq!(result, AttemptResult::Unknown, "{channel}");
        assert_eq!(server.requests().len(), 1, "{channel}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    for channel in Channel::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let (provider, address) = setup(*channel, &base);
        let result = attempt(&*provider, &delivery(*channel, &address, "e1"), PATIENT).await;
        assert_eq!(result, AttemptResult::Unavailable, "{channel}");
    }
}

#[tokio::test]
async fn a_deadline_before_the_request_was_written_is_unavailable() {
    for channel in Channel::ALL {
        // A TLS handshake that nobody answers: connected, but nothing of the request has left.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let (provider, address) = setup(*channel, &base);
        let delivery = delivery(*channel, &address, "e1");
        let result = attempt(&*provider, &delivery, subject(*channel).short()).await;
        assert_eq!(result, AttemptResult::Unavailable, "{channel}");
        let result = attempt(&*provider, &delivery, Duration::ZERO).await;
        assert_eq!(result, AttemptResult::Unavailable, "{channel}");
    }
}

/// An answer that nobody waits for would be unknown; what was not sent is not.
#[tokio::test]
async fn nothing_is_sent_over_http2_when_no_time_is_left_for_an_answer() {
    for channel in [Channel::Apns, Channel::Fcm] {
        let server = Server::start_for(channel, subject(channel).taken).await;
        let (provider, address) = setup(channel, &server.url());
        let first = delivery(channel, &address, "e1");
        let result = attempt(&*provider, &first, PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted, "{channel}");
        let second = delivery(channel, &address, "e2");
        let result = attempt(&*provider, &second, Duration::from_millis(400)).await;
        assert_eq!(result, AttemptResult::Unavailable, "{channel}");
        assert_eq!(server.requests().len(), 1, "{channel}");
    }
}

#[tokio::test]
async fn a_gateway_time_out_is_unknown_and_other_server_errors_are_unavailable() {
    for channel in over_http() {
        for (status, expected) in [
            (500, AttemptResult::Unavailable),
            (502, AttemptResult::Unavailable),
            (504, AttemptResult::Unknown),
        ] {
            let (result, _) = one(*channel, Reply::answer(status, "", ""), PATIENT).await;
            assert_eq!(result, expected, "{channel} {status}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for channel in over_http() {
        let elsewhere = Server::start_for(*channel, Reply::answer(204, "", "")).await;
        let location = format!("location: {}/hook/x\r\n", elsewhere.url());
        let (result, _) = one(*channel, Reply::answer(307, &location, ""), PATIENT).await;
        assert_eq!(result, AttemptResult::Unavailable, "{channel}");
        assert_eq!(elsewhere.requests().len(), 0, "{channel}");
    }
}

#[tokio::test]
async fn a_huge_or_endless_body_does_not_hold_an_accepted_delivery() {
    for channel in Channel::ALL {
        let huge = Reply::answer(200, "", &"x".repeat(1 << 20));
        let started = Instant::now();
        assert_eq!(
            one(*channel, huge, PATIENT).await.0,
            subject(*channel).wordless
        );
        assert!(started.elapsed() < Duration::from_secs(2), "{channel}");

        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
        let started = Instant::now();
        assert_eq!(
            one(*channel, Reply::Drip(head), PATIENT).await.0,
            subject(*channel).wordless
        );
        assert!(started.elapsed() < Duration::from_secs(4), "{channel}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_unknown() {
    for channel in Channel::ALL {
        let (result, _) = one(
            *channel,
            Reply::Bytes(b"220 mail ready\r\n".to_vec()),
            PATIENT,
        )
        .await;
        assert_eq!(result, AttemptResult::Unknown, "{channel}");
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    for channel in Channel::ALL {
        let server = Server::start_for(*channel, subject(*channel).taken).await;
        let (provider, address) = setup(*channel, &server.url());
        for i in 0..5 {
            let delivery = delivery(*channel, &address, &format!("e{i}"));
            assert_eq!(
                attempt(&*provider, &delivery, PATIENT).await,
                AttemptResult::Accepted
            );
        }
        assert_eq!(server.requests().len(), 5);
        assert_eq!(server.connections(), 1, "{channel}");
    }
}

#[tokio::test]
async fn an_unknown_account_is_an_error_and_nothing_is_sent() {
    for channel in Channel::ALL {
        let server = Server::start_for(*channel, Reply::answer(204, "", "")).await;
        let (provider, address) = setup(*channel, &server.url());
        let known = delivery(*channel, &address, "e1");
        let mut unknown = delivery(*channel, &address, "e2");
        unknown.address.account = "nobody".into();
        let batch = [&known, &unknown].map(|delivery| Attempt {
            delivery,
            number: 1,
            partition: 0,
        });
        let error = provider
            .attempt(&batch, Instant::now() + PATIENT)
            .await
            .unwrap_err();
        let TryError::UnknownAccount { account, .. } = error else {
            unreachable!("{error}")
        };
        assert_eq!(account, "nobody");
        assert_eq!(server.requests().len(), 0, "{channel}");
    }
}

#[tokio::test]
async fn a_dropped_attempt_leaves_the_provider_usable() {
    for channel in Channel::ALL {
        let server = Server::start_for(*channel, Reply::Silence).await;
        let (provider, address) = setup(*channel, &server.url());
        let delivery = delivery(*channel, &address, "e1");
        let dropped = tokio::time::timeout(
            subject(*channel).short(),
            attempt(&*provider, &delivery, PATIENT),
        )
        .await;
        assert!(dropped.is_err());
        assert_eq!(
            attempt(&*provider, &delivery, subject(*channel).short()).await,
            AttemptResult::Unknown
        );
    }
}

#[test]
fn no_address_is_ever_printed() {
    for channel in Channel::ALL {
        let (_, address) = {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let _entered = runtime.enter();
            setup(*channel, "http://127.0.0.1:1")
        };
        let delivery = delivery(*channel, &address, "e1");
        let batch = [Attempt {
            delivery: &delivery,
            number: 1,
            partition: 0,
        }];
        let printed = format!("{batch:?}");
        for secret in ["secret-part", "5ec1e7"] {
            assert!(!printed.contains(secret), "{channel}");
        }
    }
}
