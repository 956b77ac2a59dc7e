//! Sending what was handed over, all of it at once.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings::rd_kafka_flush;
use rdkafka::client::Client;
use rdkafka::{ClientConfig, ClientContext};

use crate::port::Outgoing;

/// How long librdkafka waits for the rest of what is handed over in one go, unless it is told before
/// by [`send_now`]. Were it shorter than a hand-over takes, the first records of a partition would go
/// alone, and the thread that has the others would spin until they are answered: see
/// `producer/lines.rs`.
pub(super) const HAND_OVER: Duration = Duration::from_millis(50);

/// Sends all that was handed over, without waiting for more, for `time` or until everything is answered
/// and the answers were taken, which another thread has to do. Whole milliseconds, one at least.
///
/// librdkafka's own call: the one of its wrapper polls meanwhile, which takes 100 ms each time.
#[expect(unsafe_code, reason = "the wrapper has no such call")]
pub(super) fn send_now<C: ClientContext>(client: &Client<C>, time: Duration) {
    let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: the client outlives the call, and the call may be made from any thread.
    // It tells nothing but whether all was answered, which the callbacks say for each record.
    let _ = unsafe { rd_kafka_flush(client.native_ptr(), millis) };
}

/// What one request to a partition holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub records: usize,
    pub bytes: usize,
}

impl Room {
    /// The limits of a producer's configuration, with a quarter to spare: what librdkafka adds to a
    /// record is estimated.
    pub(super) fn of(config: &ClientConfig) -> Self {
        let limit = |key: &str| -> usize {
            let set = config.get(key).and_then(|value| value.parse().ok());
            set.unwrap_or(1_usize) / 4 * 3
        };
        Self {
            records: limit("batch.num.messages"),
            bytes: limit("batch.size"),
        }
    }

    /// How many of these records have room, from the first on; one always has.
    pub(super) fn fits<'a>(self, records: impl Iterator<Item = &'a Outgoing>) -> usize {
        let mut bytes = 0;
        let within = records.take(self.records).take_while(|record| {
            bytes += size_in_a_request(record);
            bytes <= self.bytes
        });
        within.count().max(1)
    }
}

/// Bytes of a record in a request, at most.
fn size_in_a_request(record: &Outgoing) -> usize {
    /// Lengths, offset and time, as long as they get.
    const FRAME: usize = 40;
    let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let headers: usize = record
        .headers
        .0
        .iter()
        .map(|(name, value)| name.as_str().len() + length(value) + 10)
        .sum();
    length(&record.key) + length(&record.value) + headers + FRAME
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Headers;

    fn record(bytes: usize) -> Outgoing {
        Outgoing {
            topic: "t".into(),
            partition: 0,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Headers::default().with("name", vec![0; 100]),
        }
    }

    #[test]
    fn a_request_has_room_for_the_first_and_for_what_fits_beside_it() {
        let mut config = ClientConfig::new();
        config
            .set("batch.size", "4000")
            .set("batch.num.messages", "8");
        let room = Room::of(&config);
        let fits = |sizes: &[usize]| {
            let records: Vec<Outgoing> = sizes.iter().map(|bytes| record(*bytes)).collect();
            room.fits(records.iter())
        };
        assert_eq!(fits(&[1_000, 1_000, 1_000, 1_000]), 2, "headers count");
        assert_eq!(fits(&[10_000, 1]), 1, "one always goes");
        assert_eq!(fits(&[1, 10_000]), 1, "a large one goes alone");
        assert_eq!(fits(&[1; 20]), 6, "not more than a batch has");
    }
}
