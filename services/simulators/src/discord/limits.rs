//! Discord's rate limits as a pure machine with an injected clock.

use std::collections::HashMap;
use std::net::IpAddr;

/// A number of requests within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub requests: u64,
    /// Within so many microseconds.
    pub window_us: u64,
}

const SECOND: u64 = 1_000_000;

/// The limits. [R: discord-api-docs, 2026-08, and its issues 367, 1454, 6753]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one webhook, announced in headers. Observed: 5 in 2 s.
    pub webhook: Quota,
    /// Of one webhook, announced nowhere. Observed: 30 in 60 s.
    pub hidden: Quota,
    /// Of one address, all webhooks together. Documented: 50 in a second.
    pub global: Quota,
    /// Invalid requests of one address before it is banned. Documented: 10,000 in 10 minutes.
    pub invalid: Quota,
    /// How long a ban lasts. Not documented; an hour was observed, a minute is enough for a twin.
    pub ban_us: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let quota = |requests, seconds| Quota {
            requests,
            window_us: seconds * SECOND,
        };
        Self {
            webhook: quota(5, 2),
            hidden: quota(30, 60),
            global: quota(50, 1),
            invalid: quota(10_000, 600),
            ban_us: 60 * SECOND,
        }
    }
}

/// Requests since the start of a fixed window, which begins with its first request.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    ends_us: u64,
    requests: u64,
}

impl Used {
    /// Counts a request; an error is the time to wait in microseconds.
    fn count(&mut self, quota: Quota, now_us: u64) -> Result<(), u64> {
        if now_us >= self.ends_us {
            *self = Self {
                ends_us: now_us + quota.window_us,
                requests: 0,
            };
        }
        if self.requests >= quota.requests {
            return Err(self.ends_us - now_us);
        }
        self.requests += 1;
        Ok(())
    }
}

/// What the limits say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Served; how many are left of the announced limit, and how long until it starts anew.
    Served {
        /// Left.
        remaining: u64,
        /// Microseconds.
        reset_after_us: u64,
    },
    /// Too many for this webhook; wait so many microseconds.
    Limited(u64),
    /// Too many for this address; wait so many microseconds.
    Global(u64),
    /// The address is banned for so many microseconds.
    Banned(u64),
}

#[derive(Debug, Default)]
struct Address {
    global: Used,
    invalid: Used,
    banned_until_us: u64,
}

/// The state behind the limits.
#[derive(Debug, Default)]
pub struct State {
    webhooks: HashMap<String, [Used; 2]>,
    addresses: HashMap<IpAddr, Address>,
}

impl State {
    /// Whether the address may ask at all, before anything else is looked at.
    ///
    /// # Errors
    /// [`Verdict::Banned`] or [`Verdict::Global`].
    pub fn enter(&mut self, limits: &Limits, peer: IpAddr, now_us: u64) -> Result<(), Verdict> {
        let address = self.addresses.entry(peer).or_default();
        if now_us < address.banned_until_us {
            return Err(Verdict::Banned(address.banned_until_us - now_us));
        }
        address
            .global
            .count(limits.global, now_us)
            .map_err(Verdict::Global)
    }

    /// Counts a request to a webhook.
    pub fn webhook(&mut self, limits: &Limits, id: &str, now_us: u64) -> Verdict {
        if !self.webhooks.contains_key(id) {
            self.webhooks.insert(id.to_owned(), Default::default());
        }
        let Some([shown, hidden]) = self.webhooks.get_mut(id) else {
            return Verdict::Limited(0);
        };
        let counted = shown
            .count(limits.webhook, now_us)
            .and_then(|()| hidden.count(limits.hidden, now_us));
        match counted {
            Ok(()) => Verdict::Served {
                remaining: limits.webhook.requests - shown.requests,
                reset_after_us: shown.ends_us - now_us,
            },
            Err(wait) => Verdict::Limited(wait),
        }
    }

    /// Counts an invalid request (401, 403, 429); too many ban the address.
    pub fn invalid(&mut self, limits: &Limits, peer: IpAddr, now_us: u64) {
        let address = self.addresses.entry(peer).or_default();
        if address.invalid.count(limits.invalid, now_us).is_err() {
            address.banned_until_us = now_us + limits.ban_us;
            address.invalid = Used::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn the_sixth_request_in_two_seconds_waits_for_the_rest_of_them() {
        let (limits, mut state) = (Limits::default(), State::default());
        for i in 0..5 {
            let verdict = state.webhook(&limits, "1", i * 100_000);
            let reset_after_us = 2_000_000 - i * 100_000;
            assert_eq!(
                verdict,
                Verdict::Served {
                    remaining: 4 - i,
                    reset_after_us
                }
            );
        }
        assert_eq!(
            state.webhook(&limits, "1", 500_000),
            Verdict::Limited(1_500_000)
        );
        assert!(matches!(
            state.webhook(&limits, "2", 500_000),
            Verdict::Served { .. }
        ));
        assert!(matches!(
            state.webhook(&limits, "1", 2_000_000),
            Verdict::Served { .. }
        ));
    }

    #[test]
    fn the_hidden_limit_holds_although_the_shown_one_does_not() {
        let (limits, mut state) = (Limits::default(), State::default());
        for i in 0..30 {
            assert!(matches!(
                state.webhook(&limits, "1", i * 1_000_000),
                Verdict::Served { .. }
            ));
        }
        assert_eq!(
            state.webhook(&limits, "1", 30_000_000),
            Verdict::Limited(30_000_000)
        );
    }

    #[test]
    fn an_address_is_limited_over_all_webhooks_and_banned_for_too_many_faults() {
        let limits = Limits {
            invalid: Quota {
                requests: 3,
                window_us: 600_000_000,
            },
            ..Limits::default()
        };
        let mut state = State::default();
        for _ in 0..50 {
            assert_eq!(state.enter(&limits, PEER, 0), Ok(()));
        }
        assert_eq!(
            state.enter(&limits, PEER, 0),
            Err(Verdict::Global(1_000_000))
        );
        for _ in 0..4 {
            state.invalid(&limits, PEER, 1_000_000);
        }
        assert_eq!(
            state.enter(&limits, PEER, 1_000_000),
            Err(Verdict::Banned(60_000_000))
        );
        assert_eq!(state.enter(&limits, PEER, 61_000_000), Ok(()));
    }
}
