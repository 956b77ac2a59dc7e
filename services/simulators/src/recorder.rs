//! What was read and what was answered, compactly: about 130 bytes per request.
//!
//! Owns the order of events: a request's number is given under the lock at the moment it was read
//! whole, together with its time, so numbers and times rise together. Called by the servers for
//! every request and by the reports, which copy one chunk at a time so that no report stops the
//! traffic it counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

/// Requests per chunk: what a report copies while it holds the lock (about 8 MB, a few ms).
const CHUNK: usize = 65_536;

/// A request as it was read, before it is recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrived<'a> {
    /// Unit of deduplication; empty when the request did not say.
    pub delivery_id: &'a str,
    /// The event it came from.
    pub event_id: &'a str,
    /// Who speaks.
    pub sender: &'a str,
    /// Which address it reached.
    pub path: &'a str,
    /// Position within the sender's stream, when the request said.
    pub seq: Option<i64>,
    /// Which worker sent it.
    pub worker: &'a str,
    /// Number of the attempt, from 1; 0 when the request did not say.
    pub attempt: u32,
}

/// A recorded request. Also one line of the NDJSON log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Seen<'a> {
    /// Number in the order of reading, from 0.
    pub n: u64,
    /// When it was read whole: Unix microseconds on a clock that never goes back.
    pub read_us: u64,
    /// When its answer was handed to the connection, on the same clock.
    pub answered_us: Option<u64>,
    /// The status answered; absent when nothing was (yet) answered.
    pub status: Option<u16>,
    /// Unit of deduplication.
    pub delivery_id: &'a str,
    /// The event.
    pub event_id: &'a str,
    /// Who speaks.
    pub sender: &'a str,
    /// Which address it reached.
    pub path: &'a str,
    /// Position within the sender's stream.
    pub seq: Option<i64>,
    /// Which worker sent it.
    pub worker: &'a str,
    /// Number of the attempt.
    pub attempt: u32,
}

impl Seen<'_> {
    /// Whether the simulator answered with an error (status 400 and above). A reset and a missing
    /// answer are none: the request was read whole.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.status.is_some_and(|status| status >= 400)
    }

    /// Whether it was answered 2xx.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

/// Points at a recorded request; void after a reset.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    generation: u64,
    /// The request's number.
    pub n: u64,
    /// When it was read.
    pub read_us: u64,
}

/// Running totals, cheap enough to be polled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Counts {
    /// Requests read whole.
    pub requests: u64,
    /// Answered 2xx, copies included.
    pub accepted: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Read and not answered: in flight, reset or left hanging.
    pub unanswered: u64,
}

#[derive(Debug, Clone, Copy)]
struct Text {
    start: u32,
    len: u16,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    read_us: u64,
    answered_us: u64,
    seq: Option<i64>,
    delivery_id: Text,
    event_id: Text,
    sender: u32,
    path: u32,
    worker: u32,
    attempt: u32,
    status: u16,
}

#[derive(Debug, Clone, Default)]
struct Chunk {
    entries: Vec<Entry>,
    texts: String,
}

impl Chunk {
    fn keep(&mut self, text: &str) -> Text {
        // Ids are far shorter; what is not is cut, and the pair (event, path) still tells it apart.
        let mut end = text.len().min(512);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        let start = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push_str(text);
        Text {
            start,
            len: u16::try_from(text.len()).unwrap_or(u16::MAX),
        }
    }

    fn text(&self, at: Text) -> &str {
        let start = at.start as usize;
        self.texts
            .get(start..start + usize::from(at.len))
            .unwrap_or_default()
    }
}

/// Names that many requests share.
#[derive(Debug, Default)]
struct Names {
    list: Vec<Arc<str>>,
    index: HashMap<Arc<str>, u32>,
}

impl Names {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(number) = self.index.get(name) {
            return *number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.list.push(Arc::clone(&name));
        self.index.insert(name, number);
        number
    }
}

#[derive(Debug, Default)]
struct Inner {
    generation: u64,
    counts: Counts,
    chunks: Vec<Chunk>,
    names: Names,
}

/// The memory of one simulator.
#[derive(Debug)]
pub struct Recorder {
    base: Instant,
    base_us: u64,
    inner: Mutex<Inner>,
}

impl Default for Recorder {
    fn default() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
        Self {
            base: Instant::now(),
            base_us: wall,
            inner: Mutex::default(),
        }
    }
}

impl Recorder {
    /// Unix microseconds now, on a clock that never goes back.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        let elapsed = u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.base_us.saturating_add(elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request at the moment it was read whole.
    pub fn read(&self, request: &Arrived<'_>) -> Ticket {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let read_us = self.now_us();
        let sender = inner.names.intern(request.sender);
        let path = inner.names.intern(request.path);
        let worker = inner.names.intern(request.worker);
        if inner.chunks.last().is_none_or(|c| c.entries.len() == CHUNK) {
            inner.chunks.push(Chunk::default());
        }
        if let Some(chunk) = inner.chunks.last_mut() {
            let delivery_id = chunk.keep(request.delivery_id);
            let event_id = chunk.keep(request.event_id);
            chunk.entries.push(Entry {
                read_us,
                answered_us: 0,
                seq: request.seq,
                delivery_id,
                event_id,
                sender,
                path,
                worker,
                attempt: request.attempt,
                status: 0,
            });
        }
        let n = inner.counts.requests;
        inner.counts.requests += 1;
        inner.counts.unanswered += 1;
        Ticket {
            generation: inner.generation,
            n,
            read_us,
        }
    }

    /// Records that an answer is handed to the connection.
    pub fn answered(&self, ticket: Ticket, status: u16) {
        let mut guard = self.lock();
        let now = self.now_us();
        if guard.generation != ticket.generation {
            return;
        }
        let Ok(n) = usize::try_from(ticket.n) else {
            return;
        };
        let inner = &mut *guard;
        let entry = inner
            .chunks
            .get_mut(n / CHUNK)
            .and_then(|c| c.entries.get_mut(n % CHUNK));
        if let Some(entry) = entry {
            entry.answered_us = now;
            entry.status = status;
            inner.counts.unanswered -= 1;
            match status {
                200..=299 => inner.counts.accepted += 1,
                400.. => inner.counts.errors += 1,
                _ => {}
            }
        }
    }

    /// Running totals.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Forgets everything; answers of requests still in flight are not recorded.
    pub fn reset(&self) {
        let mut inner = self.lock();
        let generation = inner.generation + 1;
        *inner = Inner {
            generation,
            ..Inner::default()
        };
    }

    /// Shows every request from number `from` on, in order, until `see` answers false. The lock is
    /// held only while one chunk is copied.
    pub fn visit(&self, from: u64, mut see: impl FnMut(&Seen<'_>) -> bool) {
        let mut at = usize::try_from(from).unwrap_or(usize::MAX);
        let mut names: Vec<Arc<str>> = Vec::new();
        loop {
            let chunk = {
                let inner = self.lock();
                let known = names.len();
                names.extend(inner.names.list.iter().skip(known).cloned());
                let Some(chunk) = inner.chunks.get(at / CHUNK) else {
                    return;
                };
                chunk.clone()
            };
            let name = |number: u32| names.get(number as usize).map_or("", |name| &**name);
            for (i, entry) in chunk.entries.iter().enumerate().skip(at % CHUNK) {
                let answered = entry.status != 0;
                let seen = Seen {
                    n: (at / CHUNK * CHUNK + i) as u64,
                    read_us: entry.read_us,
                    answered_us: answered.then_some(entry.answered_us),
                    status: answered.then_some(entry.status),
                    delivery_id: chunk.text(entry.delivery_id),
                    event_id: chunk.text(entry.event_id),
                    sender: name(entry.sender),
                    path: name(entry.path),
                    seq: entry.seq,
                    worker: name(entry.worker),
                    attempt: entry.attempt,
                };
                if !see(&seen) {
                    return;
                }
            }
            at = (at / CHUNK + 1) * CHUNK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived<'a>(event_id: &'a str, path: &'a str) -> Arrived<'a> {
        Arrived {
            delivery_id: event_id,
            event_id,
            sender: "s",
            path,
            worker: "w",
            attempt: 1,
            ..Arrived::default()
        }
    }

    #[test]
    fn what_is_read_is_shown_in_order_across_chunks() {
        let recorder = Recorder::default();
        let total = CHUNK + 3;
        for i in 0..total {
            let ticket = recorder.read(&arrived(&format!("e{i}"), "/hook/a"));
            recorder.answered(ticket, if i == 1 { 503 } else { 200 });
        }
        let mut n = 0;
        let mut last = 0;
        recorder.visit(0, |seen| {
            assert_eq!(seen.n, n);
            assert_eq!(seen.event_id, format!("e{n}"));
            assert!(seen.read_us >= last && seen.answered_us >= Some(seen.read_us));
            last = seen.read_us;
            n += 1;
            true
        });
        assert_eq!(n, total as u64);
        let mut late = 0;
        recorder.visit(CHUNK as u64 + 1, |_| {
            late += 1;
            true
        });
        assert_eq!(late, 2);
        assert_eq!(
            recorder.counts(),
            Counts {
                requests: total as u64,
                accepted: total as u64 - 1,
                errors: 1,
                unanswered: 0
            }
        );
    }

    #[test]
    fn an_answer_from_before_a_reset_changes_nothing() {
        let recorder = Recorder::default();
        let old = recorder.read(&arrived("old", "/a"));
        recorder.reset();
        recorder.read(&arrived("new", "/a"));
        recorder.answered(old, 200);
        recorder.visit(0, |seen| {
            assert_eq!((seen.event_id, seen.status), ("new", None));
            true
        });
        assert_eq!(recorder.counts().unanswered, 1);
    }
}
