//! The night: hours in which advertising waits.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_domain::{Channel, Delivery, Purpose, Timestamp};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Rules, zones};
use crate::hashing::ByHash;

const MINUTE_MS: i64 = 60_000;
/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Decisions kept; past it they are forgotten and made again.
const KEPT: usize = 4_096;
/// How often the zones of one country are gone through in search of an hour that is day in all of
/// them; the widest country takes two.
const ROUNDS: usize = 8;

/// Hours of a day, across midnight, in which nothing is sent. Minutes of the recipient's day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First minute of it, in the evening.
    pub from: u16,
    /// First minute after it, in the morning.
    pub until: u16,
}

impl Window {
    /// 21:00 to 08:00, the Korean law's.
    pub const NIGHT: Self = Self {
        from: 21 * 60,
        until: 8 * 60,
    };

    /// Reads `20:50-08:00`. It must lie across midnight and leave some of the day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let (from, until) = text.split_once('-')?;
        let window = Self {
            from: minute(from)?,
            until: minute(until)?,
        };
        (window.until < window.from).then_some(window)
    }

    /// Both together: the earlier begin and the later end.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            until: self.until.max(other.until),
        }
    }

    /// Whether a minute of the day lies in it.
    #[must_use]
    pub const fn contains(self, minute: u16) -> bool {
        minute >= self.from || minute < self.until
    }

    /// When it ends for a clock in `zone` that is in it at `now`; none when it is not.
    fn ends(self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        let moment = jiff::Timestamp::from_millisecond(now.0).ok()?;
        let local = zone.to_datetime(moment);
        let minute = minute_of(local);
        if !self.contains(minute) {
            return None;
        }
        let date = local.date();
        let date = if minute >= self.from {
            date.tomorrow().ok()?
        } else {
            date
        };
        let (hour, minute) = (self.until / 60, self.until % 60);
        let morning = date.at(
            i8::try_from(hour).unwrap_or(8),
            i8::try_from(minute).unwrap_or(0),
            0,
            0,
        );
        let ends = zone.to_timestamp(morning).ok()?.as_millisecond();
        // Where clocks are set back over the window's end, it comes twice.
        Some(Timestamp(
            ends.max(now.0 + MINUTE_MS - now.0.rem_euclid(MINUTE_MS)),
        ))
    }
}

fn minute_of(local: DateTime) -> u16 {
    let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
    u16::try_from(minute).unwrap_or(0).min(DAY - 1)
}

/// When it is day in all of the zones, from `now`; none when it is day already.
#[must_use]
pub fn day_begins(window: Window, zones: &[TimeZone], now: Timestamp) -> Option<Timestamp> {
    let mut at = now;
    for _ in 0..ROUNDS {
        let latest = zones.iter().filter_map(|zone| window.ends(zone, at)).max();
        match latest {
            None => break,
            Some(later) => at = later,
        }
    }
    (at > now).then_some(at)
}

/// Whether it is night for a delivery, asked before each of its attempts.
///
/// A decision holds for the rest of its minute and is kept for it, so that asking for a campaign
/// costs a look-up. Memory: at most 4,096 decisions of 32 bytes.
#[derive(Debug, Clone)]
pub struct Nights {
    rules: Arc<Rules>,
    window: Window,
    kept: HashMap<u64, (i64, Option<Timestamp>), ByHash>,
}

impl Nights {
    /// The nights of a channel.
    #[must_use]
    pub fn new(rules: Arc<Rules>, channel: Channel) -> Self {
        Self {
            window: rules.night(channel),
            rules,
            kept: HashMap::default(),
        }
    }

    /// When an attempt may be made that may not be made at `now`; none when it may. Only advertising
    /// waits, and not to those who agreed to be woken.
    pub fn decide(&mut self, delivery: &Delivery, now: Timestamp) -> Option<Timestamp> {
        if delivery.purpose != Purpose::Advertising || delivery.terms.night_consent {
            return None;
        }
        let zone = delivery.terms.time_zone.as_deref();
        let country = delivery.terms.country.as_deref();
        let key = bongsu_domain::identity::hash64(&[
            zone.unwrap_or_default().as_bytes(),
            country.unwrap_or_default().as_bytes(),
        ]);
        let minute = now.0.div_euclid(MINUTE_MS);
        if let Some((at, kept)) = self.kept.get(&key)
            && *at == minute
        {
            return *kept;
        }
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        let zones = zones::zones_for(zone, country, &self.rules.zone);
        let decided = day_begins(self.window, &zones, now);
        self.kept.insert(key, (minute, decided));
        decided
    }
}
