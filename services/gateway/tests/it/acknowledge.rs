//! What is told when Kafka does not acknowledge everything, and what is never done then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_domain::Class;
use bongsu_gateway::check::Ready;
use bongsu_gateway::publish::Publisher;
use bongsu_gateway::{ItemState, Problem, ProblemCode, Settings};
use bongsu_runtime::Health;
use bongsu_schemas::convert::event_hash;
use bongsu_stream::error::ProduceError;
use bongsu_stream::local::{FaultPlan, LocalCluster};
use bongsu_stream::port::{Headers, Outgoing, Producer};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, event, settings};

/// What one call of `send` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Good,
    /// Acknowledged, but not at once.
    Later,
    QueueFull,
    Failed,
    /// Not at once, and nothing will ever be taken again.
    Dead,
    Silent,
}

/// A producer that follows a script, and what it was asked for.
struct Scripted {
    script: Mutex<VecDeque<Step>>,
    appended: Mutex<Vec<String>>,
    asked: Mutex<Vec<(String, Step)>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            appended: Mutex::default(),
            asked: Mutex::default(),
        })
    }
}

impl Producer for Scripted {
    fn send(&self, record: Outgoing) -> BoxFuture<'static, Result<i64, ProduceError>> {
        let step = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Step::Good);
        let name = record.headers.text("name").unwrap().to_owned();
        self.asked.lock().unwrap().push((name.clone(), step));
        let failed = ProduceError::NotAcknowledged {
            topic: record.topic.to_string(),
            reason: "timed out".into(),
        };
        let mut appended = self.appended.lock().unwrap();
        let offset = i64::try_from(appended.len()).unwrap();
        match step {
            Step::Good | Step::Later => appended.push(name),
            Step::QueueFull | Step::Failed | Step::Dead | Step::Silent => {}
        }
        match step {
            Step::Good => ready(Ok(offset)).boxed(),
            Step::Later => async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                Ok(offset)
            }
            .boxed(),
            Step::QueueFull => ready(Err(ProduceError::QueueFull)).boxed(),
            Step::Failed => ready(Err(failed)).boxed(),
            Step::Dead => async {
                tokio::time::sleep(Duration::from_millis(3)).await;
                Err(ProduceError::Fatal("out of sequence".into()))
            }
            .boxed(),
            Step::Silent => pending().boxed(),
        }
    }

    fn drain(&self, _: Duration) -> BoxFuture<'_, Result<(), usize>> {
        ready(Ok(())).boxed()
    }
}

fn item(name: usize) -> Ready {
    let name = format!("{name:03}");
    Ready {
        id: name.clone(),
        sender: "shop-1".into(),
        class: Class::Transactional,
        deliveries: 1,
        unreachable_recipients: 0,
        expires_at: None,
        record: Outgoing {
            topic: "t.events".into(),
            partition: 2,
            key: Some("shop-1".into()),
            value: None,
            headers: Headers::default().with("name", name),
        },
    }
}

async fn publish(producer: &Arc<Scripted>, count: usize) -> Result<Vec<ItemState>, Problem> {
    let producer: Arc<dyn Producer> = Arc::<Scripted>::clone(producer);
    let publisher = Publisher::new(producer, Duration::from_secs(5), Health::new());
    publisher.publish((0..count).map(item).collect()).await
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_failed_for_good_ends_readiness() {
    for (step, ready) in [(Step::Failed, true), (Step::Dead, false)] {
        let health = Health::new();
        health.set("gateway", Ok(()));
        let publisher = Publisher::new(
            Scripted::new([step]),
            Duration::from_secs(5),
            health.clone(),
        );
        let problem = publisher.publish(vec![item(0)]).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::NotAcknowledged);
        assert_eq!(health.unready().is_empty(), ready, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_and_order_is_kept() {
    use Step::{Later, QueueFull};
    let producer = Scripted::new([Later, QueueFull, QueueFull, Later, QueueFull, Later]);
    let states = publish(&producer, 3).await.unwrap();
    assert!(states.iter().all(|s| s.state == "acknowledged"));
    assert_eq!(*producer.appended.lock().unwrap(), ["000", "001", "002"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stays_full_is_busy_and_nothing_was_published() {
    let producer = Scripted::new(vec![Step::QueueFull; 10_000]);
    let problem = publish(&producer, 2).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::Overloaded);
    assert_eq!(problem.retry_after, Some(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_nothing_more_is_sent_and_each_state_is_told() {
    use Step::{Failed, Later};
    let producer = Scripted::new([Later, Failed]);
    let problem = publish(&producer, 4).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotAcknowledged);
    let states: Vec<_> = problem.events.iter().map(|e| (e.state, e.offset)).collect();
    assert_eq!(
        states,
        [
            ("acknowledged", Some(0)),
            ("unknown", None),
            ("unknown", None),
            ("unknown", None)
        ]
    );
    let asked = producer.asked.lock().unwrap().len();
    assert_eq!(
        asked, 2,
        "the failed one is not tried again, later ones are not sent"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline_and_what_is_known_is_told() {
    use Step::{Good, Later, Silent};
    let producer = Scripted::new([Good, Silent, Later]);
    let before = tokio::time::Instant::now();
    let problem = publish(&producer, 3).await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    let states: Vec<_> = problem.events.iter().map(|e| e.state).collect();
    assert_eq!(states, ["acknowledged", "unknown", "acknowledged"]);
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Good),
        4 => Just(Step::Later),
        3 => Just(Step::QueueFull),
        1 => Just(Step::Failed),
        1 => Just(Step::Silent),
    ]
}

proptest! {
    #[test]
    fn whatever_kafka_does_order_holds_and_no_state_lies(
        script in proptest::collection::vec(step(), 0..40),
        count in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let producer = Scripted::new(script);
        let answer = runtime.block_on(publish(&producer, count));
        let appended = producer.appended.lock().unwrap().clone();
        prop_assert!(appended.is_sorted(), "{appended:?}");
        // Nothing but a full queue is ever asked for twice.
        let asked = producer.asked.lock().unwrap().clone();
        let mut queued: Vec<&String> =
            asked.iter().filter(|(_, s)| *s != Step::QueueFull).map(|(n, _)| n).collect();
        let all = queued.len();
        queued.dedup();
        prop_assert_eq!(all, queued.len());
        let states = match answer {
            Ok(states) => states,
            Err(problem) if problem.code == ProblemCode::Overloaded => {
                prop_assert!(appended.is_empty());
                return Ok(());
            }
            Err(problem) => {
                prop_assert!(problem.events.iter().any(|e| e.state == "unknown"));
                problem.events
            }
        };
        prop_assert_eq!(states.len(), count);
        for state in states.iter().filter(|s| s.state == "acknowledged") {
            let place = usize::try_from(state.offset.unwrap()).unwrap();
            prop_assert_eq!(appended.get(place), Some(&state.id));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_sent_again_under_the_ids_given() {
    let cluster = LocalCluster::default();
    let world = World::new(
        Arc::new(cluster.clone()),
        "t.",
        Settings {
            request_timeout: bongsu_runtime::Duration::secs(5),
            ..settings()
        },
        None,
    )
    .await;
    let mut partial = 0;
    for seed in 0..20 {
        partial += usize::from(fail_then_repeat(&world, &cluster, seed).await);
    }
    assert!(
        partial > 3,
        "the fault plan made only {partial} partial answers"
    );
    // One id never has two contents, so fanout's deduplication makes one notification of each.
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut repeats = 0;
    for record in world.records().await {
        let event = world.decode(&record);
        let hash = event_hash(&event);
        let earlier = seen.insert(event.id, hash);
        repeats += usize::from(earlier.is_some());
        assert!(earlier.is_none_or(|e| e == hash));
    }
    assert!(repeats > 0);
    assert!(seen.len() >= 20 * 12 - 12 * 20 / 2);
}

/// Publishes with faults and, unless all was acknowledged, repeats without; whether the first
/// answer was partial.
async fn fail_then_repeat(world: &World, cluster: &LocalCluster, seed: u64) -> bool {
    cluster.set_faults(FaultPlan {
        seed,
        unacknowledged_per_mille: 150,
        ..FaultPlan::default()
    });
    let mut events: Vec<Value> = (0..12)
        .map(|i| {
            let mut event = event("");
            event["content"]["title"] = json!(format!("{seed}-{i}"));
            event
        })
        .collect();
    let answer = world.publish(json!(events).to_string()).await;
    if answer.status == 202 {
        return false;
    }
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "not_acknowledged")
    );
    assert_eq!(answer.headers["retry-after"], "1");
    let json = answer.json();
    let states = json["events"].as_array().unwrap();
    assert_eq!(states.len(), events.len());
    for (event, state) in events.iter_mut().zip(states) {
        event["id"] = state["id"].clone();
    }
    cluster.set_faults(FaultPlan::default());
    let again = world.publish(json!(events).to_string()).await;
    assert_eq!(again.status, 202);
    assert_eq!(again.ids(), answer.ids());
    states.iter().any(|s| s["state"] == "acknowledged")
}
