//! Waiting for something to become true, with a deadline and without a fixed sleep.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

const POLL: Duration = Duration::from_millis(10);

/// Asks `condition` every 10 ms until it says yes.
///
/// Reads tokio's clock: under a paused clock it costs no real time.
///
/// # Panics
/// With `what`, when `deadline` has passed and the answer is still no. A condition that hangs is cut
/// off at the deadline too.
pub async fn wait_until<F, Fut>(deadline: Duration, what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    wait_for(deadline, what, || {
        let asked = condition();
        async move { asked.await.then_some(()) }
    })
    .await;
}

/// Asks `look` every 10 ms until it finds something, and returns that.
///
/// # Panics
/// With `what`, when `deadline` has passed first.
pub async fn wait_for<T, F, Fut>(deadline: Duration, what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let until = Instant::now() + deadline;
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0_u64;
    let found = tokio::time::timeout_at(until, async {
        loop {
            ticks.tick().await;
            asked += 1;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
    .await;
    match found {
        Ok(found) => found,
        Err(_) => panic!("waited {deadline:?} in vain for: {what} (asked {asked} times)"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_returns_as_soon_as_the_condition_holds() {
        let count = Cell::new(0);
        wait_until(Duration::from_secs(5), "three looks", || {
            count.set(count.get() + 1);
            let now = count.get();
            async move { now == 3 }
        })
        .await;
        assert_eq!(count.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "in vain for: the moon")]
    async fn it_names_what_never_came() {
        wait_until(Duration::from_secs(1), "the moon", || async { false }).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "in vain for: an answer")]
    async fn a_hanging_condition_is_cut_off() {
        wait_until(Duration::from_secs(1), "an answer", std::future::pending).await;
    }
}
