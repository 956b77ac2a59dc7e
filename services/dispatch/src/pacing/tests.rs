use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_channels::limits::{Egress, Limits};
use bongsu_channels::provider::{Attempt, StrikeLimit, TryError};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Content, ContentHash, DeliveryId, OnUncertain, Ordering, Pairs,
    Platform, Purpose, RecipientTerms, Timestamp,
};
use bongsu_runtime::{Shutdown, Tasks};
use bongsu_schemas::{Codec, NoLookup, Topics};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Cluster, Headers, Outgoing, TopicSpec};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::exchange::Exchange;
use super::*;

const EPOCH_MS: i64 = 1_760_000_000_000;

/// A provider that bans for bad answers, and has had so many.
#[derive(Default)]
struct Striking(std::sync::atomic::AtomicU64);

impl Provider for Striking {
    fn strike_limit(&self) -> Option<StrikeLimit> {
        Some(StrikeLimit {
            strikes: 1_000,
            window: Duration::from_mins(10),
        })
    }

    fn strikes(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn attempt<'a>(
        &'a self,
        _batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A provider with limits that is never called.
struct Limited(Option<u32>);

impl Provider for Limited {
    fn limits(&self, _account: &str) -> Limits {
        Limits {
            per_second: self.0,
            ..Limits::default()
        }
    }

    fn egress(&self) -> Egress {
        Egress::default()
    }

    fn attempt<'a>(
        &'a self,
        _batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn delivery() -> Delivery {
    let id = AddressId("a-1".into());
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "shop-1",
            event_id: "e-1",
            channel: "webhook",
            recipient: "r-1",
            address_id: &id,
            step: 0,
        }),
        event_id: "e-1".into(),
        sender: "shop-1".into(),
        class: Class::Transactional,
        purpose: Purpose::Transactional,
        category: None,
        recipient: "r-1".into(),
        terms: RecipientTerms::default(),
        address: Address {
            channel: Channel::Webhook,
            address: "https://example.com/".into(),
            id,
            account: "default".into(),
            platform: Platform::Server,
            app: None,
            registered_at: None,
        },
        content: Content::default(),
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(EPOCH_MS),
        expires_at: Timestamp(EPOCH_MS + 86_400_000),
        ordering: Ordering::Sender,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}

fn pacing(limit: Option<u32>, shared: bool, clock: Clock) -> Arc<Pacing> {
    Pacing::new(Arc::new(Limited(limit)), 512, clock, shared, 1)
}

#[tokio::test(start_paused = true)]
async fn a_pass_always_comes_back() {
    let pacing = pacing(None, false, Clock::starting_at(EPOCH_MS));
    let subject = pacing.subject(&delivery());
    for ending in 0..3 {
        let Asked::Go(pass) = pacing.ask(&subject, 0) else {
            panic!("nothing stands against it");
        };
        assert_eq!(pacing.in_flight(), 1);
        match ending {
            0 => pass.answered(AttemptResult::Accepted),
            1 => pass.cancelled(),
            _ => drop(pass),
        }
        assert_eq!(pacing.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_limit_is_closed_until_a_share_was_granted() {
    let pacing = pacing(Some(100), true, Clock::starting_at(EPOCH_MS));
    let subject = pacing.subject(&delivery());
    assert!(matches!(pacing.ask(&subject, 0), Asked::AccountWaits(_)));
}

/// A log with the topic, and exchanges of workers on it.
struct World {
    cluster: LocalCluster,
    topics: Topics,
    clock: Clock,
}

impl World {
    async fn new() -> Self {
        let clock = Clock::starting_at(EPOCH_MS);
        let cluster = LocalCluster::new(clock);
        let topics = Topics::default();
        cluster
            .create_topic(TopicSpec {
                name: topics.limits().to_string(),
                partitions: 1,
                replication: 1,
                settings: BTreeMap::new(),
            })
            .await
            .unwrap();
        Self {
            cluster,
            topics,
            clock,
        }
    }

    fn start(&self, tasks: &mut Tasks, worker: &str, pacing: &Arc<Pacing>) -> Shutdown {
        let shutdown = Shutdown::new();
        let exchange = Exchange {
            cluster: Arc::new(self.cluster.clone()),
            topic: self.topics.limits(),
            codec: Arc::new(Codec::default()),
            schemas: Arc::new(NoLookup),
            channel: Channel::Webhook,
            worker_id: worker.into(),
            egress: "host".into(),
            clock: self.clock,
            pacing: Arc::clone(pacing),
        };
        tasks.spawn("exchange", exchange.run(shutdown.clone()));
        shutdown
    }
}

/// Saturating demand for `seconds`; every attempt takes 50 ms. Gives the starts per worker and the
/// most starts of all workers in any sliding second.
async fn saturate(workers: &[Arc<Pacing>], seconds: u64) -> (Vec<usize>, usize) {
    saturate_with(workers, seconds, &mut |_| AttemptResult::Accepted).await
}

/// The same; `answer` says what becomes of an attempt that ends then.
async fn saturate_with(
    workers: &[Arc<Pacing>],
    seconds: u64,
    answer: &mut dyn FnMut(Instant) -> AttemptResult,
) -> (Vec<usize>, usize) {
    let subjects: Vec<Subject> = workers.iter().map(|w| w.subject(&delivery())).collect();
    let mut open: Vec<(Instant, Pass)> = Vec::new();
    let mut starts = Vec::new();
    let mut counts = vec![0; workers.len()];
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let now = Instant::now();
        while let Some(at) = open.iter().position(|(due, _)| *due <= now) {
            open.swap_remove(at).1.answered(answer(now));
        }
        for (i, (worker, subject)) in workers.iter().zip(&subjects).enumerate() {
            while let Asked::Go(pass) = worker.ask(subject, 0) {
                open.push((now + Duration::from_millis(50), pass));
                starts.push(now);
                counts[i] += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (_, pass) in open {
        pass.answered(AttemptResult::Accepted);
    }
    let second = Duration::from_secs(1);
    let most = (0..starts.len())
        .map(|i| i + 1 - starts.partition_point(|at| *at + second <= starts[i]))
        .max()
        .unwrap_or(0);
    (counts, most)
}

#[tokio::test(start_paused = true)]
async fn two_workers_share_a_limit_and_a_dead_ones_part_comes_free() {
    let world = World::new().await;
    let workers = [
        pacing(Some(100), true, world.clock),
        pacing(Some(100), true, world.clock),
    ];
    let mut first = Tasks::new();
    let mut second = Tasks::new();
    let _one = world.start(&mut first, "w-1", &workers[0]);
    let two = world.start(&mut second, "w-2", &workers[1]);
    let (_, most) = saturate(&workers, 10).await;
    assert!(most <= 100, "{most}");
    let (counts, most) = saturate(&workers, 20).await;
    println!("two workers at 100/s over 20 s: {counts:?}, at most {most} in a second");
    assert!(most <= 100, "{most}");
    assert!(
        counts.iter().all(|n| (800..=1_050).contains(n)),
        "{counts:?}"
    );
    // Killed: its part is free after its grant and a window.
    drop(first);
    let (_, most) = saturate(&workers, 8).await;
    assert!(most <= 100, "{most}");
    let (counts, most) = saturate(&workers, 10).await;
    println!("after a kill, over 10 s: {counts:?}");
    assert_eq!(counts[0], 0, "it spends nothing that it cannot renew");
    assert!(most <= 100 && counts[1] >= 850, "{counts:?} {most}");
    two.request();
    second.join().await.unwrap();
}

/// Alone, whoever came first would keep nearly all of it for minutes.
#[tokio::test(start_paused = true)]
async fn workers_of_a_limit_nobody_told_them_become_equal() {
    const RATE: f64 = 100.0;
    const BURST: f64 = 10.0;
    let world = World::new().await;
    let workers: Vec<_> = (0..4).map(|_| pacing(None, true, world.clock)).collect();
    let mut tasks = Tasks::new();
    let _running: Vec<_> = ["w-1", "w-2", "w-3", "w-4"]
        .iter()
        .zip(&workers)
        .map(|(name, pacing)| world.start(&mut tasks, name, pacing))
        .collect();
    let (mut tokens, mut filled) = (BURST, Instant::now());
    let mut bucket = move |now: Instant| {
        tokens = (tokens + (now - filled).as_secs_f64() * RATE).min(BURST);
        filled = now;
        if tokens >= 1.0 {
            tokens -= 1.0;
            return AttemptResult::Accepted;
        }
        AttemptResult::Throttled {
            retry_after: None,
            scope: ThrottleScope::Account,
        }
    };
    saturate_with(&workers[..1], 10, &mut bucket).await;
    saturate_with(&workers, 15, &mut bucket).await;
    let (counts, _) = saturate_with(&workers, 15, &mut bucket).await;
    println!("four workers on a limit of {RATE}/s nobody told them, over 15 s: {counts:?}");
    assert!(counts.iter().all(|n| (280..=470).contains(n)), "{counts:?}");
}

/// Limits of every channel lie in one topic.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_of_another_channel_ends_nobody() {
    let world = World::new().await;
    let producer = world.cluster.producer(Duration::ZERO).unwrap();
    let garbage = |scope: &str| Outgoing {
        topic: world.topics.limits(),
        partition: 0,
        key: Some(format!("{scope}\u{1f}w-9").into_bytes().into()),
        value: Some("garbage".into()),
        headers: Headers::default(),
    };
    for (scope, ends) in [
        ("account:apns/shop", false),
        ("account:webhook/default", true),
    ] {
        let mut tasks = Tasks::new();
        let _running = world.start(&mut tasks, "w-1", &pacing(Some(10), true, world.clock));
        producer.send(garbage(scope)).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), tasks.join()).await;
        assert_eq!(ended.is_ok_and(|ended| ended.is_err()), ends, "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_told_to_one_worker_is_obeyed_by_the_other() {
    let world = World::new().await;
    let workers = [
        pacing(None, true, world.clock),
        pacing(None, true, world.clock),
    ];
    let mut tasks = Tasks::new();
    let _one = world.start(&mut tasks, "w-1", &workers[0]);
    let _two = world.start(&mut tasks, "w-2", &workers[1]);
    let subjects = [
        workers[0].subject(&delivery()),
        workers[1].subject(&delivery()),
    ];
    tokio::time::sleep(Duration::from_millis(500)).await;
    let Asked::Go(pass) = workers[0].ask(&subjects[0], 0) else {
        panic!("nothing stands against it");
    };
    let until = world.clock.now_millis() + 5_000;
    pass.answered(AttemptResult::Throttled {
        retry_after: Some(Duration::from_secs(5)),
        scope: ThrottleScope::Account,
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    match workers[1].ask(&subjects[1], 0) {
        Asked::AccountWaits(told) => assert_eq!(told, until),
        other @ (Asked::Go(_) | Asked::KeyWaits(_)) => panic!("{other:?}"),
    }
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert!(matches!(workers[1].ask(&subjects[1], 0), Asked::Go(_)));
}

#[tokio::test(start_paused = true)]
async fn workers_of_one_address_rest_before_their_strikes_together_bring_a_ban() {
    let world = World::new().await;
    let providers = [Arc::new(Striking::default()), Arc::new(Striking::default())];
    let made = |provider: &Arc<Striking>| {
        let provider: Arc<dyn Provider> = Arc::<Striking>::clone(provider);
        Pacing::new(provider, 64, world.clock, true, 1)
    };
    let workers = providers.each_ref().map(made);
    let mut first = Tasks::new();
    let mut second = Tasks::new();
    let _one = world.start(&mut first, "w-1", &workers[0]);
    let _two = world.start(&mut second, "w-2", &workers[1]);
    let subjects = workers.each_ref().map(|worker| worker.subject(&delivery()));
    let rests = |i: usize| !matches!(workers[i].ask(&subjects[i], 0), Asked::Go(_));
    let strike = |i: usize, n: u64| {
        let strikes = &providers[i].0;
        strikes.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    let seconds = |n| tokio::time::sleep(Duration::from_secs(n));
    strike(0, 500);
    strike(1, 299);
    seconds(3).await;
    assert!(!rests(0) && !rests(1), "799 of 1,000");
    // Neither has come near to the limit by itself.
    strike(1, 1);
    seconds(3).await;
    assert!(rests(0) && rests(1), "800 of 1,000");
    // One that dies is not forgotten, and a third that comes knows of both.
    drop(first);
    seconds(60).await;
    let third = Pacing::new(Arc::new(Striking::default()), 64, world.clock, true, 1);
    let mut tasks = Tasks::new();
    let _three = world.start(&mut tasks, "w-3", &third);
    let subject = third.subject(&delivery());
    seconds(3).await;
    assert!(rests(1) && !matches!(third.ask(&subject, 0), Asked::Go(_)));
    // Ten minutes later they have passed.
    seconds(620).await;
    assert!(!rests(1) && matches!(third.ask(&subject, 0), Asked::Go(_)));
}
