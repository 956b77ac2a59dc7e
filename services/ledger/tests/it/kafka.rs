//! Real Kafka and a real PostgreSQL.

use bongsu_runtime::Secret;
use bongsu_schemas::Topics;
use bongsu_stream::kafka::{KafkaCluster, settings::Settings};
use bongsu_testkit::{Names, Postgres, TestKafka};

use crate::world::{World, counted, outcomes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_survive_crashes_and_an_outage_of_the_database() {
    let kafka = Settings {
        bootstrap_servers: TestKafka::shared().bootstrap().to_owned(),
        ..Settings::default()
    };
    let cluster = KafkaCluster::connect(kafka).unwrap();
    let database = Postgres::start().unwrap();
    let settings = bongsu_store::Settings {
        url: Secret::new(database.url()),
        acquire_timeout: bongsu_runtime::Duration::secs(1),
        ..bongsu_store::Settings::default()
    };
    let store = bongsu_store::open(&settings).await.unwrap();
    let names = Names::new("ledger");
    let topics = Topics::new(names.topic_prefix());
    let world = World::new(cluster, topics, store).await;

    let first = world.start();
    world.publish(&outcomes(0..200)).await;
    world.until_counted(200).await;
    database.set_reachable(false).unwrap();
    world.publish(&outcomes(200..300)).await;
    first.until_unready("store").await;
    first.kill();
    database.set_reachable(true).unwrap();

    let second = world.start();
    let third = world.start();
    world.publish(&outcomes(250..400)).await;
    world.until_counted(400).await;
    second.stop().await;
    world.publish(&outcomes(400..450)).await;
    world.until_counted(450).await;
    world.until_committed().await;
    assert_eq!(counted(&world.store).await, 450);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_against_mass_retirement_holds_on_kafka_and_postgresql() {
    let kafka = Settings {
        bootstrap_servers: TestKafka::shared().bootstrap().to_owned(),
        ..Settings::default()
    };
    let cluster = KafkaCluster::connect(kafka).unwrap();
    let database = Postgres::start().unwrap();
    let settings = bongsu_store::Settings {
        url: Secret::new(database.url()),
        ..bongsu_store::Settings::default()
    };
    let store = bongsu_store::open(&settings).await.unwrap();
    let names = Names::new("guard");
    let topics = Topics::new(names.topic_prefix());
    let world = World::new(cluster, topics, store).await;
    crate::hygiene::the_guard_stops(&world).await;
}
