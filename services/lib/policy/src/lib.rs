//! Pure decision machines: no tokio, no Kafka, no clock and no randomness of their own.
//!
//! * [`sequencer`]: what of one partition may start, what waits, what is complete, what may be
//!   committed;
//! * [`flood`]: which sender fills a partition that others wait in;
//! * [`yielding`]: what bulk leaves to transactional deliveries that are late;
//! * [`retry`]: what follows an attempt;
//! * [`repeats`]: which events were seen before;
//! * [`repeat_guard`]: which contents an address has had too often;
//! * [`rules`]: what law and providers ask of advertising;
//! * [`hygiene`]: which addresses are dead; [`suppressions`]: what is not sent to;
//! * [`stops`]: what people hold back; [`newest`]: what of a backlog is superseded.

pub mod flood;
pub mod hashing;
pub mod hygiene;
pub mod newest;
pub mod pacing;
pub mod repeat_guard;
pub mod repeats;
pub mod retry;
pub mod rules;
pub mod sequencer;
pub mod stops;
pub mod suppressions;
pub mod yielding;

pub use flood::{Floods, Turns};
pub use newest::{Newest, Sieve, Unit};
pub use repeat_guard::{Copied, RepeatGuard, RepeatKey, RepeatLimit, Verdict};
pub use repeats::{Repeat, Repeats};
pub use retry::{AttemptClass, Next, RetryPolicy};
pub use rules::{Advertising, Nights, Rules, Window, Zone};
pub use sequencer::{Admission, Packing, Permit, Sequencer, SettledTags};
pub use stops::{Choice, Chosen, Facts, StoppedUntil, Stops};
pub use suppressions::Suppressions;
