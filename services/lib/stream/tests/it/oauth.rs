//! SASL `OAUTHBEARER`: tokens of an endpoint of the test's own, and Kafka's own check of unsigned ones.

mod endpoint;

use std::sync::Arc;
use std::time::Duration;

use bongsu_stream::error::{AdminError, ConsumeError, ProduceError, TransactionError};
use bongsu_stream::kafka::Settings;
use bongsu_stream::port::*;
use serde_json::{Value, json};

use self::endpoint::{Endpoint, Mood};
use crate::secure::{refusal, secure_broker, settings, use_every_client};
use crate::world::{Driven, World, commit_of, range, text, value, within};

/// How long a refusal may take to be told.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to look that something does not happen.
const NOT: Duration = Duration::from_secs(1);

fn with_tokens(secure: &Value, endpoint: &Endpoint) -> Settings {
    settings(secure, "OAUTHBEARER", &[("/sasl", endpoint.sasl())])
}

/// Nobody listens there: what is asked is the token endpoint.
fn without_broker(sasl: Value) -> World {
    let settings = json!({"bootstrap_servers": "127.0.0.1:1", "sasl": sasl});
    World::kafka_with(serde_json::from_value(settings).unwrap())
}

/// Clients that are kept while tokens come and go.
struct Clients<'a> {
    world: &'a World,
    topic: Arc<str>,
    target: Arc<str>,
    producer: Arc<dyn Producer>,
    transactional: Box<dyn TransactionalProducer>,
    member: Driven,
    follower: Box<dyn Follower>,
    written: i64,
}

impl<'a> Clients<'a> {
    async fn start(world: &'a World) -> Self {
        let topic = world.topic("kept", 1).await;
        let target = world.topic("kept-target", 1).await;
        let all = vec![range(&topic, 0, From::Beginning, None)];
        Self {
            world,
            producer: world.producer(),
            transactional: world
                .cluster
                .transactional(&world.name("kept-slot"))
                .await
                .unwrap(),
            member: Driven::new(world.join(&[&topic])),
            follower: world.cluster.follow(all, Isolation::Committed).unwrap(),
            topic,
            target,
            written: 0,
        }
    }

    /// Writes a record and finds it by every way.
    async fn round(&mut self) {
        let sent = self.producer.send(text(&self.topic, 0, &self.next()));
        sent.await.unwrap();
        self.found().await;
        let group = self.member.consumer.group_metadata().await.unwrap();
        let offsets = vec![commit_of(&self.topic, 0, self.written, "")];
        let records = vec![text(&self.target, 0, "x")];
        self.transactional
            .run(records, offsets, group)
            .await
            .unwrap();
    }

    fn next(&self) -> String {
        self.written.to_string()
    }

    /// The record just written comes to the member, to the follower, and moves the end.
    async fn found(&mut self) {
        let expected = self.next();
        self.written += 1;
        let all = usize::try_from(self.written).unwrap();
        self.member.until(|d| d.records.len() == all).await;
        let followed = self.follower.next().await.unwrap();
        assert_eq!(
            followed.iter().map(value).collect::<Vec<_>>(),
            vec![expected]
        );
        let partition = TopicPartition::new(self.topic.clone(), 0);
        let ends = self.world.cluster.ends(vec![partition.clone()]).await;
        assert_eq!(ends.unwrap()[&partition], self.written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_a_new_token_before_the_old_one_ends_on_kafka() {
    let (_broker, secure) = secure_broker();
    within(async {
        let endpoint = Endpoint::start(Mood::Good).await;
        let world = World::kafka_with(with_tokens(&secure, &endpoint));
        use_every_client(&world).await;
        let mut clients = Clients::start(&world).await;
        assert!(endpoint.answered().tokens <= 2, "one token for all clients");
        // With the third token the first one's end is over, which ended the sessions it opened.
        for tokens in [1, 2, 3] {
            endpoint.until(|a| a.tokens >= tokens).await;
            clients.round().await;
        }
        assert_eq!(endpoint.answered().refusals, 0);

        // The third further try comes after the last token's end: each waits twice as long.
        endpoint.become_of(Mood::Busy);
        endpoint.until(|a| a.refusals >= 4).await;
        let told = world.cluster.ping(NOT).await.unwrap_err();
        assert!(matches!(told, AdminError::Unavailable(_)), "{told}");
        assert!(
            told.to_string().contains("token_url: it answers 503"),
            "{told}"
        );
        let record = text(&clients.topic, 0, &clients.next());
        let mut sent = clients.producer.send(record);
        assert!(
            tokio::time::timeout(NOT, &mut sent).await.is_err(),
            "written without a token"
        );
        endpoint.become_of(Mood::Good);
        sent.await.unwrap();
        clients.found().await;
        clients.member.consumer.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_broker_refuses_is_told_on_kafka() {
    let (_broker, secure) = secure_broker();
    within(async {
        let endpoint = Endpoint::start(Mood::Nonsense).await;
        let (setting, told) = refusal(with_tokens(&secure, &endpoint)).await;
        assert_eq!(setting, "kafka.sasl.oauth", "{told}");
        assert!(told.contains("the broker does not accept"), "{told}");
        assert!(!told.contains("sesame"), "a token is told: {told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_ends_a_start_at_once_and_is_told() {
    within(async {
        let endpoint = Endpoint::start(Mood::Good).await;
        let mut sasl = endpoint.sasl();
        sasl["oauth"]["client_secret"] = json!("torch");
        let world = without_broker(sasl);
        let (cluster, topic) = (&world.cluster, world.name("any"));
        // What every service asks first.
        let started = tokio::time::timeout(PATIENCE, cluster.topics(vec![topic]));
        let told = started.await.expect("it hangs").unwrap_err().to_string();
        assert!(told.starts_with("kafka.sasl.oauth is refused: check client_id, client_secret"));
        assert!(told.contains("401 invalid_client"), "{told}");
        assert!(!told.contains("torch"), "a secret is told: {told}");
        let options = GroupOptions {
            group: world.name("group"),
            topics: vec!["any".into()],
            reset: Reset::Earliest,
            session_timeout: Duration::from_secs(6),
            buffer_bytes: 1 << 20,
        };
        assert!(matches!(
            cluster.join(options),
            Err(ConsumeError::Client(_))
        ));
        let produced = cluster.producer(Duration::ZERO);
        assert!(matches!(produced, Err(ProduceError::Client(_))));
        let transactional = cluster.transactional("any").await;
        assert!(matches!(transactional, Err(TransactionError::Fatal(_))));
        assert_eq!(endpoint.answered().tokens, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_is_told_and_waited_for() {
    within(async {
        let endpoint = Endpoint::start(Mood::Busy).await;
        let world = without_broker(endpoint.sasl());
        // Made all the same: the token may come.
        let producer = world.producer();
        let told = world.cluster.ping(NOT).await.unwrap_err().to_string();
        assert!(
            told.contains("kafka.sasl.oauth.token_url: it answers 503"),
            "{told}"
        );
        endpoint.become_of(Mood::Good);
        endpoint.until(|a| a.tokens >= 1).await;
        drop(producer);
    })
    .await;
}
