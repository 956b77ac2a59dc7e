//! Where a recipient's clock runs: time zones, and the zones of countries.
//!
//! The zones themselves come with the library; which country has which is `countries.tab`, made of
//! `zone.tab` of the tz database 2025b (public domain). No system file is read, so that every
//! replica decides alike.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::tz::TimeZone;
use thiserror::Error;

const COUNTRIES: &str = include_str!("countries.tab");

static BY_COUNTRY: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    COUNTRIES
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(country, zones)| (country, zones.split(' ').collect()))
        .collect()
});

static BY_ZONE: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let pairs = BY_COUNTRY.iter();
    pairs
        .flat_map(|(country, zones)| zones.iter().map(|zone| (*zone, *country)))
        .collect()
});

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no IANA time zone; write one like Asia/Seoul")]
pub struct UnknownZone(pub String);

/// A time zone by its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Reads a name.
    ///
    /// # Errors
    /// [`UnknownZone`].
    pub fn parse(name: &str) -> Result<Self, UnknownZone> {
        let zone = lookup(name).ok_or_else(|| UnknownZone(name.chars().take(64).collect()))?;
        let name = name.to_owned();
        Ok(Self { name, zone })
    }

    /// Asia/Seoul.
    #[must_use]
    pub fn seoul() -> Self {
        let fixed = || TimeZone::fixed(jiff::tz::offset(9));
        Self {
            name: "Asia/Seoul".to_owned(),
            zone: lookup("Asia/Seoul").unwrap_or_else(fixed),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone.
    #[must_use]
    pub const fn time_zone(&self) -> &TimeZone {
        &self.zone
    }
}

fn lookup(name: &str) -> Option<TimeZone> {
    // The library would take a POSIX rule too; an event names a place.
    let named = name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphabetic());
    named.then(|| TimeZone::get(name).ok()).flatten()
}

fn zones_of(country: &str) -> Option<&'static Vec<&'static str>> {
    BY_COUNTRY.get(country.to_ascii_uppercase().as_str())
}

/// Whether two letters name a country.
#[must_use]
pub fn is_country(text: &str) -> bool {
    text.len() == 2 && zones_of(text).is_some()
}

/// The country a time zone lies in, when it lies in one.
#[must_use]
pub fn country_of(zone: &str) -> Option<&'static str> {
    BY_ZONE.get(zone).copied()
}

/// The zones in which a recipient may be: the one named, else all of the country's, else `default`.
/// Names that nobody knows count as not said.
#[must_use]
pub fn zones_for(zone: Option<&str>, country: Option<&str>, default: &Zone) -> Vec<TimeZone> {
    if let Some(named) = zone.and_then(lookup) {
        return vec![named];
    }
    let of_country: Vec<TimeZone> = country
        .and_then(zones_of)
        .into_iter()
        .flatten()
        .filter_map(|name| lookup(name))
        .collect();
    if of_country.is_empty() {
        return vec![default.time_zone().clone()];
    }
    of_country
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_of_every_country_is_known() {
        assert!(BY_COUNTRY.len() > 240);
        for (country, zones) in BY_COUNTRY.iter() {
            assert!(is_country(country) && !zones.is_empty());
            for zone in zones {
                assert!(Zone::parse(zone).is_ok(), "{country}: {zone}");
                assert_eq!(country_of(zone), Some(*country));
            }
        }
    }

    #[test]
    fn what_names_no_zone_is_told() {
        assert_eq!(Zone::parse("Asia/Seoul").unwrap(), Zone::seoul());
        for text in [
            "",
            "Seoul",
            "KST-9",
            "<+09>-9",
            "Asia/Seoul\0",
            "../etc/passwd",
        ] {
            assert!(Zone::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_zone_named_beats_the_country_and_nonsense_counts_as_unsaid() {
        let seoul = Zone::seoul();
        let names = |zone, country| -> Vec<String> {
            zones_for(zone, country, &seoul)
                .iter()
                .map(|z| z.iana_name().unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(names(Some("Europe/Paris"), Some("KR")), ["Europe/Paris"]);
        assert_eq!(names(None, Some("jp")), ["Asia/Tokyo"]);
        assert_eq!(names(Some("Moon/Base"), Some("JP")), ["Asia/Tokyo"]);
        assert_eq!(names(Some("Moon/Base"), Some("XX")), ["Asia/Seoul"]);
        assert!(names(None, Some("US")).len() > 10);
    }
}
