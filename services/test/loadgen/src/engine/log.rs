//! What the simulator read of one run, compactly: 40 bytes per request.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::Deserialize;

/// One request, in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its number at the simulator.
    pub(crate) n: u64,
    pub(crate) read_us: u64,
    /// 0 when nothing was answered.
    pub(crate) answered_us: u64,
    /// Which delivery.
    pub(crate) i: u32,
    pub(crate) attempt: u32,
    pub(crate) worker: u16,
    /// 0 when nothing was answered.
    pub(crate) status: u16,
}

impl Seen {
    /// Read whole and not answered with an error.
    pub(crate) const fn arrived(&self) -> bool {
        self.status < 400
    }

    /// Answered 2xx.
    pub(crate) const fn accepted(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// Names behind small numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    list: Vec<String>,
    index: HashMap<String, u16>,
}

impl Names {
    /// The number of a name, given out on its first use.
    pub(crate) fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.index.get(name) {
            return *number;
        }
        let number = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        self.list.push(name.to_owned());
        self.index.insert(name.to_owned(), number);
        number
    }

    /// The number of a name that was used.
    pub(crate) fn find(&self, name: &str) -> Option<u16> {
        self.index.get(name).copied()
    }
}

/// One line of the simulator's log, as far as a drill needs it.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    n: u64,
    read_us: u64,
    answered_us: Option<u64>,
    status: Option<u16>,
    #[serde(borrow)]
    event_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    sender: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    worker: std::borrow::Cow<'a, str>,
    attempt: u32,
}

/// Requests of one run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) seen: Vec<Seen>,
    pub(crate) workers: Names,
}

impl Log {
    /// Adds a page of the simulator's NDJSON; gives how many lines it had.
    ///
    /// # Errors
    /// When a line of the run cannot be read.
    pub(crate) fn add(&mut self, run: &str, page: &str) -> anyhow::Result<usize> {
        let mut lines = 0;
        for text in page.lines() {
            lines += 1;
            let line: Line<'_> = serde_json::from_str(text).with_context(|| text.to_owned())?;
            let ours = line.sender.strip_prefix(run);
            if !ours.is_some_and(|rest| rest.starts_with('-')) {
                continue;
            }
            self.seen.push(Seen {
                n: line.n,
                read_us: line.read_us,
                answered_us: line.answered_us.unwrap_or(0),
                i: line.event_id.parse().with_context(|| text.to_owned())?,
                attempt: line.attempt,
                worker: self.workers.number(&line.worker),
                status: line.status.unwrap_or(0),
            });
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_runs_own_requests_are_kept() {
        let page = concat!(
            r#"{"n":4,"read_us":10,"answered_us":12,"status":204,"delivery_id":"d","event_id":"7","#,
            r#""sender":"a-1","path":"/hook/a/1","seq":7,"worker":"w-1","attempt":2}"#,
            "\n",
            r#"{"n":5,"read_us":11,"answered_us":null,"status":null,"delivery_id":"d","event_id":"8","#,
            r#""sender":"ab-1","path":"/hook/ab/1","seq":8,"worker":"w-2","attempt":1}"#,
            "\n"
        );
        let mut log = Log::default();
        assert_eq!(log.add("a", page).unwrap(), 2);
        let [seen] = log.seen.as_slice() else {
            panic!("{:?}", log.seen);
        };
        assert_eq!((seen.n, seen.i, seen.attempt, seen.status), (4, 7, 2, 204));
        assert_eq!(log.workers.find("w-1"), Some(seen.worker));
        assert_eq!(log.workers.find("w-2"), None);
    }
}
