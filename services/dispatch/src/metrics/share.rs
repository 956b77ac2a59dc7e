//! One owner's part of a number that several owners make up together.

use opentelemetry::KeyValue;
use opentelemetry::metrics::UpDownCounter;

/// A part of a gauge: what it was set to last counts, and nothing once it is dropped, so that the
/// gauge returns to zero whatever way its owner ended.
#[derive(Debug)]
pub struct Share {
    sum: UpDownCounter<i64>,
    labels: Vec<KeyValue>,
    last: i64,
}

impl Share {
    pub(super) const fn new(sum: UpDownCounter<i64>, labels: Vec<KeyValue>) -> Self {
        Self {
            sum,
            labels,
            last: 0,
        }
    }

    /// This part is so many now.
    pub fn set(&mut self, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        if number != self.last {
            self.sum.add(number - self.last, &self.labels);
            self.last = number;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
