//! Damaged records: each must end in the dead letters with its bytes and its reason, and everything
//! around it must be delivered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::partition_of;
use bongsu_stream::port::{Headers, Isolation, Outgoing, Record};

use crate::audit::range;
use crate::load::Load;
use crate::world::{PARTITIONS, World};

/// One damaged record and the reason it must get.
pub(crate) struct Damaged {
    pub(crate) reason: &'static str,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The kinds of damage of the issue, for a sender of the run.
pub(crate) fn kinds(load: &Load) -> Vec<Damaged> {
    let sender = load.sender(0);
    let key = sender.clone().into_bytes();
    let event = |sender: &str, channel: &str, pad: usize| {
        serde_json::json!({
            "id": format!("damaged-{channel}-{pad}"), "sender": sender,
            "plan": {"channels": [channel]},
            "target": {"recipients": [{"id": "r", "addresses": [
                {"channel": "webhook", "address": format!("{}/hook/damaged", load.simulator)}]}]},
            "content": {"body": "x".repeat(pad.max(1))},
        })
        .to_string()
        .into_bytes()
    };
    let mut unknown_schema = vec![0xC3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8];
    unknown_schema.extend_from_slice(b"body");
    vec![
        Damaged {
            reason: "unreadable",
            key: key.clone(),
            value: noise(500 * 1024),
        },
        Damaged {
            reason: "unknown_schema",
            key: key.clone(),
            value: unknown_schema,
        },
        Damaged {
            reason: "key_mismatch",
            key: Vec::new(),
            value: event(&sender, "webhook", 1),
        },
        Damaged {
            reason: "key_mismatch",
            key: key.clone(),
            value: event("other", "webhook", 1),
        },
        Damaged {
            reason: "unknown_channel",
            key: key.clone(),
            value: event(&sender, "pigeon", 1),
        },
        Damaged {
            reason: "event_too_large",
            key,
            value: event(&sender, "webhook", 600 * 1024),
        },
    ]
}

/// Bytes without a framing that anybody knows.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut out = vec![0xff];
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Publishes every kind into the partition of the run's first sender.
pub(crate) async fn publish(world: &World, load: &Load) -> anyhow::Result<Vec<Damaged>> {
    let producer = world.cluster.producer(Duration::ZERO)?;
    let damaged = kinds(load);
    for record in &damaged {
        let partition = partition_of(load.sender(0).as_bytes(), PARTITIONS);
        producer
            .send(Outgoing {
                topic: "bongsu.events".into(),
                partition,
                key: Some(record.key.clone().into()),
                value: Some(record.value.clone().into()),
                headers: Headers::default(),
            })
            .await
            .with_context(|| record.reason)?;
    }
    Ok(damaged)
}

/// Which of the damaged records are not in the dead letters with their bytes and reason.
pub(crate) async fn missing(
    world: &World,
    damaged: &[Damaged],
    patience: Duration,
) -> anyhow::Result<Vec<&'static str>> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let letters = letters(world).await?;
        let absent: Vec<&'static str> = damaged
            .iter()
            .filter(|d| {
                !letters.iter().any(|l| {
                    l.headers.text("bongsu-reason") == Some(d.reason)
                        && l.value.as_deref() == Some(d.value.as_slice())
                })
            })
            .map(|d| d.reason)
            .collect();
        if absent.is_empty() || tokio::time::Instant::now() > deadline {
            return Ok(absent);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn letters(world: &World) -> anyhow::Result<Vec<Record>> {
    let ranges = (0..PARTITIONS)
        .map(|p| range("bongsu.dead-letters", p, 0))
        .collect();
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record: Record| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    });
    world
        .cluster
        .read_tails(ranges, Isolation::Committed, each)
        .await?;
    let letters = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(letters)
}

/// A 600 KiB event by HTTP; gives the status.
pub(crate) async fn too_large_by_http(world: &World, load: &Load) -> anyhow::Result<u16> {
    let large = kinds(load).pop().context("no large event")?;
    let answer = world
        .client
        .post(format!("{}/v1/events", load.gateway))
        .header("content-type", "application/json")
        .body(large.value)
        .send()
        .await?;
    Ok(answer.status().as_u16())
}
