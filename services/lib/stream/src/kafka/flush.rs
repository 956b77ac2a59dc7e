//! Sending what was handed over, all of it at once.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings::rd_kafka_flush;
use rdkafka::client::Client;

/// How long librdkafka waits for the rest of what is handed over in one go, unless it is told before
/// by [`send_now`]. Were it shorter than a hand-over takes, the first records of a partition would go
/// alone, and the thread that has the others would spin until they are answered: see
/// `producer/lines.rs`.
pub(super) const HAND_OVER: Duration = Duration::from_millis(50);

/// Sends all that was handed over, without waiting for more, for `time` or until everything is answered
/// and the answers were taken, which another thread has to do. Whole milliseconds.
///
/// librdkafka's own call: the one of its wrapper polls meanwhile, which takes 100 ms each time.
#[expect(unsafe_code, reason = "the wrapper has no such call")]
pub(super) fn send_now<C: ClientContext>(client: &Client<C>, time: Duration) {
    let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client outlives the call, and the call may be made from any thread.
    // It tells nothing but whether all was answered, which the callbacks say for each record.
    let _ = unsafe { rd_kafka_flush(client.native_ptr(), millis) };
}
