//! Figures, printed and not judged: `cargo test -p bongsu-stream --release -- --ignored --nocapture`.
#![expect(clippy::print_stderr, reason = "a measurement is read by a person")]

use std::time::{Duration, Instant};

use bongsu_stream::port::*;

use crate::world::{Driven, World, range, text, within};

fn median(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort();
    (all[all.len() / 2], all[all.len() - 1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn transactions() {
    within(async {
        let world = World::kafka();
        let source = world.topic("source", 1).await;
        let target = world.topic("target", 8).await;
        let mut member = Driven::new(world.join(&[&source]));
        member.until(|d| d.owned.len() == 1).await;
        let mut producer = world.cluster.transactional(&world.name("slot")).await.unwrap();
        for (records, pause) in [(1, 0), (100, 0), (1_000, 0), (1_000, 20)] {
            let mut took = Vec::new();
            for n in 0..50 {
                let all = (0..records).map(|r| text(&target, r % 8, &"x".repeat(300))).collect();
                let started = Instant::now();
                let group = member.consumer.group_metadata().await.unwrap();
                let offsets = vec![crate::world::commit_of(&source, 0, n, "")];
                producer.run(all, offsets, group).await.unwrap();
                took.push(started.elapsed());
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let (middle, worst) = median(took.split_off(5));
            eprintln!("transaction of {records} records, {pause} ms between: median {middle:?}, worst {worst:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn produce_and_read() {
    within(async {
        let world = World::kafka();
        let topic = world.topic("rate", 8).await;
        let producer = world.cluster.producer(Duration::from_millis(5)).unwrap();
        let total = 200_000;
        let value = "x".repeat(100);
        let started = Instant::now();
        let mut waiting = std::collections::VecDeque::new();
        for n in 0..total {
            if waiting.len() >= 40_000 {
                let first: futures_util::future::BoxFuture<'static, Result<i64, _>> =
                    waiting.pop_front().unwrap();
                first.await.unwrap();
            }
            waiting.push_back(producer.send(text(&topic, n % 8, &value)));
        }
        producer.drain(Duration::from_secs(30)).await.unwrap();
        let took = started.elapsed();
        eprintln!(
            "produced {total} in {took:?}: {:.0}/s",
            f64::from(total) / took.as_secs_f64()
        );
        let mut one = Vec::new();
        let quick = world.cluster.producer(Duration::ZERO).unwrap();
        for _ in 0..100 {
            let started = Instant::now();
            quick.send(text(&topic, 0, "x")).await.unwrap();
            one.push(started.elapsed());
        }
        eprintln!("one record acknowledged: median, worst {:?}", median(one));

        let mut member = Driven::new(world.join(&[&topic]));
        member.until(|d| d.owned.len() == 8).await;
        let started = Instant::now();
        member.until(|d| d.records.len() >= 200_100).await;
        let took = started.elapsed();
        eprintln!(
            "read {total} in {took:?}: {:.0}/s",
            f64::from(total) / took.as_secs_f64()
        );
        let mut lag = Vec::new();
        for _ in 0..50 {
            let seen = member.records.len();
            let started = Instant::now();
            drop(quick.send(text(&topic, 0, "x")));
            member.until(|d| d.records.len() > seen).await;
            lag.push(started.elapsed());
        }
        eprintln!("from send to the owner: median, worst {:?}", median(lag));
        let mut commits = Vec::new();
        for n in 0..50 {
            let started = Instant::now();
            member
                .consumer
                .commit(vec![crate::world::commit_of(&topic, 0, n, "m")])
                .await
                .unwrap();
            commits.push(started.elapsed());
        }
        eprintln!("commit: median, worst {:?}", median(commits));

        let before = processor_time();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let used = processor_time() - before;
        eprintln!(
            "idle, one group consumer and two producers: {:.2} % of a core",
            used / 5.0 * 100.0
        );
        let started = Instant::now();
        member.consumer.close().await;
        eprintln!("close: {:?}", started.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn tails() {
    within(async {
        let world = World::kafka();
        let topic = world.topic("tails", 16).await;
        for partition in 0..16 {
            world.write(&topic, partition, 0..200).await;
        }
        let mut took = Vec::new();
        for _ in 0..10 {
            let ranges = (0..16)
                .map(|p| range(&topic, p, From::Beginning, None))
                .collect();
            let started = Instant::now();
            let (records, _) = world.tails(ranges, Isolation::Committed).await;
            took.push(started.elapsed());
            assert_eq!(records.len(), 3_200);
        }
        eprintln!(
            "tails of 16 partitions, 200 records each: median, worst {:?}",
            median(took)
        );
    })
    .await;
}

/// User and system time of this process, seconds.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
