//! Sending rules: what law and providers ask of advertising, as pure decisions.
//!
//! Two moments. **Fanout** asks [`Rules::decide_advertising`] once per recipient: whether the
//! recipient agreed, and what the content must carry. **Dispatch** asks [`Nights`] before every
//! attempt and every retry: whether it is night where the recipient is. Other purposes are never
//! held nor changed. Which purposes a channel carries at all is `Channel::takes`.

pub mod marking;
pub mod night;
pub mod zones;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bongsu_domain::{Channel, Consent, Purpose, Reason};

pub use self::marking::Marking;
pub use self::night::{Nights, Window};
pub use self::zones::{UnknownZone, Zone};

/// What one country's law asks of advertising.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Law {
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// What title or text must begin with.
    pub mark: &'static str,
    /// When it must not be sent without a consent of its own.
    pub night: Window,
}

/// The laws this version knows. Korea: Network Act, article 50 (prior consent; a consent of its own
/// for 21:00 to 08:00; the mark; sender, contact and free opt-out at the end). A country that is not
/// here asks for nothing but the night, which holds everywhere. [R: providers.md 4.8, 2026-11-22]
pub const LAWS: &[Law] = &[Law {
    country: "KR",
    mark: "(광고)",
    night: Window::NIGHT,
}];

/// Channels whose providers take no advertising for longer than the law's night: Kakao from 20:50.
/// [R: providers.md 4.8 and 10.6, 2026-11-22]
pub const PROVIDER_NIGHTS: &[(Channel, Window)] = &[(
    Channel::AlimTalk,
    Window {
        from: 20 * 60 + 50,
        until: 8 * 60,
    },
)];

/// What an operator decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Country of a recipient whose publisher named neither country nor time zone; two letters.
    pub country: String,
    /// Time zone where neither the recipient's own nor the country's is known.
    pub zone: Zone,
    /// Hours without advertising, by channel; they add to the law's and the provider's.
    pub nights: BTreeMap<Channel, Window>,
    /// Whether advertising needs the recipient's consent in the event, where the law asks for it.
    pub needs_consent: bool,
    /// What ends an advertisement, by sender: who speaks, how to reach them, how to opt out for
    /// free. `*` is for every sender without one of its own.
    pub closings: BTreeMap<String, String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            country: "KR".to_owned(),
            zone: Zone::seoul(),
            nights: BTreeMap::new(),
            needs_consent: true,
            closings: BTreeMap::new(),
        }
    }
}

/// Whether advertising may go to a recipient, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Advertising<'a> {
    /// As it is: not advertising, or no law that asks for a mark.
    AsItIs,
    /// With the mark and the closing.
    Marked(Marking<'a>),
    /// Not at all.
    Refused(Reason, &'static str),
}

impl Rules {
    /// The law a recipient is under: that of the country named, else of the country of the zone
    /// named, else of the operator's.
    #[must_use]
    pub fn law(&self, country: Option<&str>, time_zone: Option<&str>) -> Option<&'static Law> {
        let country = country
            .filter(|c| zones::is_country(c))
            .or_else(|| time_zone.and_then(zones::country_of))
            .unwrap_or(&self.country);
        LAWS.iter()
            .find(|law| law.country.eq_ignore_ascii_case(country))
    }

    /// What becomes of a notification of `purpose` from `sender` for a recipient. Pure; costs a
    /// comparison for what is no advertising.
    pub fn decide_advertising(
        &self,
        purpose: Purpose,
        sender: &str,
        (country, time_zone): (Option<&str>, Option<&str>),
        consents: &[Consent],
    ) -> Advertising<'_> {
        if purpose != Purpose::Advertising {
            return Advertising::AsItIs;
        }
        let Some(law) = self.law(country, time_zone) else {
            return Advertising::AsItIs;
        };
        if self.needs_consent && !consents.contains(&Consent::Advertising) {
            return Advertising::Refused(
                Reason::ConsentMissing,
                "advertising to this recipient needs consents: [\"advertising\"] in the event",
            );
        }
        let closing = self.closings.get(sender).or_else(|| self.closings.get("*"));
        match closing {
            Some(closing) if !closing.trim().is_empty() => Advertising::Marked(Marking {
                mark: law.mark,
                closing: closing.trim(),
            }),
            Some(_) | None => Advertising::Refused(
                Reason::MarkingMissing,
                "the law asks for sender, contact and free opt-out at the end; the operator writes \
                 them into rules.closings",
            ),
        }
    }

    /// The hours without advertising on a channel: the law's, the provider's and the operator's
    /// together.
    #[must_use]
    pub fn night(&self, channel: Channel) -> Window {
        let of_provider = PROVIDER_NIGHTS.iter().find(|(c, _)| *c == channel);
        let night = of_provider.map_or(Window::NIGHT, |(_, night)| Window::NIGHT.with(*night));
        let own = self.nights.get(&channel);
        own.map_or(night, |own| night.with(*own))
    }
}
