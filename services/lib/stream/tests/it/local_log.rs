//! What only the local log can show: crashes, lost assignments and faults, in virtual time.

use std::time::Duration;

use bongsu_stream::error::{CommitError, TransactionError};
use bongsu_stream::local::FaultPlan;
use bongsu_stream::port::*;

use crate::world::{Driven, World, commit_of, text, until_both};

#[tokio::test(start_paused = true)]
async fn a_crashed_members_partitions_move_after_its_session() {
    let world = World::local();
    let topic = world.topic("crash", 4).await;
    let mut first = Driven::new(world.join_with(&[&topic], Duration::from_secs(6)));
    first.until(|d| d.owned.len() == 4).await;
    let mut second = Driven::new(world.join_with(&[&topic], Duration::from_secs(6)));
    let crashed = tokio::time::Instant::now();
    drop(first);
    second.until(|d| d.owned.len() == 4).await;
    assert_eq!(crashed.elapsed().as_secs(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_lost_assignment_refuses_commits() {
    let world = World::local();
    let topic = world.topic("lost", 2).await;
    let mut first = Driven::new(world.join(&[&topic]));
    first.until(|d| d.owned.len() == 2).await;
    let stale = first.consumer.group_metadata().await.unwrap();
    let mut second = Driven::new(world.join(&[&topic]));
    until_both(&mut first, &mut second, |a, _| !a.revoked.is_empty()).await;
    first.release();
    until_both(&mut first, &mut second, |_, b| b.owned.len() == 1).await;
    assert!(
        world
            .local
            .as_ref()
            .unwrap()
            .lose_assignment(&world.name("group"), 0)
    );
    let kept = first.owned.keys().next().unwrap().clone();
    let commit = commit_of(&topic, kept.partition, 1, "");
    let refused = first.consumer.commit(vec![commit.clone()]).await;
    assert!(
        matches!(refused, Err(CommitError::NotOwner(_))),
        "{refused:?}"
    );
    let mut producer = world.cluster.transactional("slot").await.unwrap();
    let refused = producer.run(vec![], vec![commit], stale).await;
    assert!(
        matches!(refused, Err(TransactionError::Aborted(_))),
        "{refused:?}"
    );
    until_both(&mut first, &mut second, |a, b| {
        a.lost == [kept.clone()] && b.owned.len() == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_open_transaction_holds_committed_readers_until_it_times_out() {
    let world = World::local();
    let topic = world.topic("open", 1).await;
    let mut member = Driven::new(world.join(&[&topic]));
    member.until(|d| d.owned.len() == 1).await;
    let group = member.consumer.group_metadata().await.unwrap();
    let mut producer = world.cluster.transactional("slot").await.unwrap();
    let mut running = producer.run(vec![text(&topic, 0, "never")], vec![], group);
    // One poll writes the records; dropped before the commit, as a process that dies.
    assert!(futures_util::poll!(&mut running).is_pending());
    drop(running);
    drop(producer);
    let started = tokio::time::Instant::now();
    world.write(&topic, 0, 0..1).await;
    member.until(|d| !d.records.is_empty()).await;
    assert_eq!(member.values(), ["0"]);
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(
        world.tail(&topic, 0, Isolation::Uncommitted).await,
        ["never", "0"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_faults() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let world = World::local();
        let topic = world.topic("faults", 1).await;
        let plan = FaultPlan {
            seed: 42,
            unacknowledged_per_mille: 200,
            queue_full_per_mille: 100,
            acknowledge_within: Duration::from_millis(50),
            ..FaultPlan::default()
        };
        world.local.as_ref().unwrap().set_faults(plan);
        let producer = world.producer();
        let mut good = Vec::new();
        for n in 0..200 {
            good.push(producer.send(text(&topic, 0, &n.to_string())).await.ok());
        }
        let written = world.tail(&topic, 0, Isolation::Committed).await;
        let failed = good.iter().filter(|g| g.is_none()).count();
        assert!((20..120).contains(&failed), "{failed}");
        assert!(written.len() > 200 - failed);
        runs.push((good, written));
    }
    assert_eq!(runs[0], runs[1]);
}
