use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_stream::error::{ErrorClass, ProduceError};
use bongsu_stream::port::*;
use bytes::Bytes;

use crate::world::{World, noise, range, text, value};

pub(crate) async fn records_keep_their_order_and_tell_their_offsets(world: World) {
    let topic = world.topic("order", 2).await;
    let producer = world.producer();
    let sent: Vec<_> = (0..2_000)
        .map(|n| producer.send(text(&topic, n % 2, &n.to_string())))
        .collect();
    let mut offsets = Vec::new();
    for one in sent {
        offsets.push(one.await.unwrap());
    }
    assert!(
        (0_i64..)
            .zip(offsets.chunks(2))
            .all(|(n, two)| two == [n, n])
    );
    for partition in 0..2 {
        let read = world.tail(&topic, partition, Isolation::Committed).await;
        let wanted: Vec<_> = (0..1_000)
            .map(|n| (2 * n + partition).to_string())
            .collect();
        assert_eq!(read, wanted);
    }
}

/// A linger of this length makes the Kafka adapter gather records itself.
pub(crate) async fn a_producer_that_lingers_keeps_order_and_answers_every_record(world: World) {
    let topic = world.topic("lingers", 2).await;
    let producer = world.cluster.producer(Duration::from_millis(25)).unwrap();
    let answers = Arc::new(Answers::default());
    let mut sent = Vec::new();
    for n in 0..2_000_i32 {
        let record = text(&topic, n % 2, &n.to_string());
        let ticket = u64::from(n.unsigned_abs());
        if n % 3 == 0 {
            sent.push((ticket, producer.send(record)));
        } else {
            let own = producer.send_for(record, ticket, &answers);
            sent.extend(own.map(|future| (ticket, future)));
        }
    }
    let mut told = BTreeMap::new();
    for (ticket, future) in sent {
        told.insert(ticket, future.await.unwrap());
    }
    while told.len() < 2_000 {
        let mut come = Vec::new();
        std::future::poll_fn(|context| answers.poll_take(context, &mut come)).await;
        told.extend(come.into_iter().map(|(n, result)| (n, result.unwrap())));
    }
    let wanted = (0..2_000).map(|n| (n, i64::try_from(n / 2).unwrap()));
    assert!(told.into_iter().eq(wanted));
    let nowhere = world.name("nowhere").into();
    let refused = producer.send(text(&nowhere, 0, "x")).await.unwrap_err();
    assert!(matches!(refused, ProduceError::Refused { .. }), "{refused}");
    let alone = producer.send(text(&topic, 0, "alone"));
    assert_eq!(alone.await.unwrap(), 1_000);
    let last = producer.send(text(&topic, 1, "last"));
    drop(producer);
    assert_eq!(last.await.unwrap(), 1_000);
}

pub(crate) async fn a_record_keeps_key_value_and_headers(world: World) {
    let topic = world.topic("shape", 1).await;
    let mut whole = text(&topic, 0, "value");
    whole.headers = Headers::default().with("a", "1").with("a", "2");
    whole.headers.0.push((HeaderName::Static("null"), None));
    let bare = Outgoing {
        topic: topic.clone(),
        partition: 0,
        key: None,
        value: None,
        headers: Headers::default(),
    };
    let empty = Outgoing {
        key: Some(Bytes::new()),
        value: Some(Bytes::new()),
        ..bare.clone()
    };
    let all = [whole, bare, empty];
    for record in &all {
        world.producer().send(record.clone()).await.unwrap();
    }
    let (read, _) = world
        .tails(
            vec![range(&topic, 0, From::Beginning, None)],
            Isolation::Committed,
        )
        .await;
    assert_eq!(read.len(), 3);
    for (read, sent) in read.iter().zip(&all) {
        assert_eq!(
            (&read.key, &read.value, &read.headers),
            (&sent.key, &sent.value, &sent.headers)
        );
        assert!(read.timestamp > 1_600_000_000_000);
    }
    assert_eq!(read[0].headers.text("a"), Some("2"));
    assert_eq!(value(&read[0]), "value");
}

pub(crate) async fn a_record_too_large_is_refused_for_good(world: World) {
    let topic = world
        .topic_with("large", 1, &[("max.message.bytes", "20000")])
        .await;
    let producer = world.producer();
    // Compression would make an ordinary text fit.
    let large = text(&topic, 0, &noise(60_000));
    let error = producer.send(large).await.unwrap_err();
    assert!(matches!(error, ProduceError::TooLarge { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Permanent);
    producer.send(text(&topic, 0, "small")).await.unwrap();
    assert_eq!(world.tail(&topic, 0, Isolation::Committed).await, ["small"]);
}

pub(crate) async fn an_unknown_topic_is_refused(world: World) {
    let topic = world.name("nowhere").into();
    let error = world
        .producer()
        .send(text(&topic, 0, "x"))
        .await
        .unwrap_err();
    assert!(matches!(error, ProduceError::Refused { .. }), "{error}");
    let topic = world.topic("small", 1).await;
    let error = world
        .producer()
        .send(text(&topic, 7, "x"))
        .await
        .unwrap_err();
    assert!(matches!(error, ProduceError::Refused { .. }), "{error}");
}

pub(crate) async fn drain_waits_for_every_acknowledgement(world: World) {
    let topic = world.topic("drain", 1).await;
    let producer = world.producer();
    for n in 0..500 {
        // Dropping the future does not take the record back.
        drop(producer.send(text(&topic, 0, &n.to_string())));
    }
    producer.drain(Duration::from_secs(20)).await.unwrap();
    assert_eq!(world.tail(&topic, 0, Isolation::Committed).await.len(), 500);
    // Nor does dropping the producer.
    for n in 0..500 {
        drop(producer.send(text(&topic, 0, &n.to_string())));
    }
    drop(producer);
    while world.tail(&topic, 0, Isolation::Committed).await.len() < 1_000 {}
}
