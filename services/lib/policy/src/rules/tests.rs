use std::sync::Arc;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Consent, Content, ContentHash, Delivery, DeliveryId,
    OnUncertain, Ordering, Pairs, Platform, Purpose, Reason, RecipientTerms, Timestamp,
};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::night::day_begins;
use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn delivery(purpose: Purpose, terms: RecipientTerms) -> Delivery {
    let id = AddressId("a".into());
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "shop",
            event_id: "e",
            channel: "webhook",
            recipient: "r",
            address_id: &id,
            step: 0,
        }),
        event_id: "e".into(),
        sender: "shop".into(),
        class: Class::Bulk,
        purpose,
        category: None,
        recipient: "r".into(),
        terms,
        address: Address {
            channel: Channel::Webhook,
            address: "https://example.com/".into(),
            id,
            account: "default".into(),
            platform: Platform::Server,
            app: None,
            registered_at: None,
        },
        content: Content::default(),
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(0),
        expires_at: Timestamp(i64::MAX),
        ordering: Ordering::Sender,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}

fn terms(time_zone: Option<&str>, country: Option<&str>) -> RecipientTerms {
    RecipientTerms {
        time_zone: time_zone.map(str::to_owned),
        country: country.map(str::to_owned),
        night_consent: false,
    }
}

fn nights(channel: Channel) -> Nights {
    Nights::new(Arc::default(), channel)
}

#[test]
fn advertising_waits_from_nine_until_eight_where_the_recipient_is() {
    let mut nights = nights(Channel::Webhook);
    let korean = delivery(Purpose::Advertising, terms(None, Some("KR")));
    let mut decide = |d: &Delivery, text| nights.decide(d, at(text));
    assert_eq!(decide(&korean, "2026-11-25T20:59:59+09:00"), None);
    let morning = Some(at("2026-11-26T08:00:00+09:00"));
    assert_eq!(decide(&korean, "2026-11-25T21:00:00+09:00"), morning);
    assert_eq!(decide(&korean, "2026-11-26T00:00:00+09:00"), morning);
    assert_eq!(decide(&korean, "2026-11-26T07:59:59.999+09:00"), morning);
    assert_eq!(decide(&korean, "2026-11-26T08:00:00+09:00"), None);
    // The same moment is noon for a Korean in Paris.
    let abroad = delivery(
        Purpose::Advertising,
        terms(Some("Europe/Paris"), Some("KR")),
    );
    assert_eq!(decide(&abroad, "2026-11-25T21:00:00+09:00"), None);
    // Nobody said where: the operator's zone.
    let somewhere = delivery(Purpose::Advertising, terms(None, None));
    assert_eq!(decide(&somewhere, "2026-11-25T21:00:00+09:00"), morning);
}

#[test]
fn nothing_else_waits_nor_who_agreed_to_the_night() {
    let mut nights = nights(Channel::Webhook);
    let night = at("2026-11-25T23:00:00+09:00");
    for purpose in [Purpose::Transactional, Purpose::Informational] {
        let other = delivery(purpose, terms(None, Some("KR")));
        assert_eq!(nights.decide(&other, night), None);
    }
    let mut agreed = delivery(Purpose::Advertising, terms(None, Some("KR")));
    agreed.terms.night_consent = true;
    assert_eq!(nights.decide(&agreed, night), None);
}

#[test]
fn a_country_of_many_zones_has_day_when_all_of_them_have() {
    let mut nights = nights(Channel::Webhook);
    let american = delivery(Purpose::Advertising, terms(None, Some("US")));
    // Noon in New York is seven in Honolulu (and in the Aleutians).
    let morning = at("2026-11-25T08:00:00-10:00");
    let noon = at("2026-11-25T12:00:00-05:00");
    assert_eq!(nights.decide(&american, noon), Some(morning));
    assert_eq!(nights.decide(&american, morning), None);
    // Eight in Honolulu tomorrow, for it is night in New York from nine.
    let evening = at("2026-11-25T21:30:00-05:00");
    let tomorrow = Some(at("2026-11-26T08:00:00-10:00"));
    assert_eq!(nights.decide(&american, evening), tomorrow);
}

#[test]
fn the_strictest_hours_of_law_provider_and_operator_hold() {
    let mut rules = Rules::default();
    assert_eq!(rules.night(Channel::Apns), Window::NIGHT);
    assert_eq!(
        Some(rules.night(Channel::AlimTalk)),
        Window::parse("20:50-08:00")
    );
    let own = Window::parse("20:00-07:00").unwrap();
    rules.nights.insert(Channel::Apns, own);
    assert_eq!(
        Some(rules.night(Channel::Apns)),
        Window::parse("20:00-08:00")
    );
    for text in [
        "",
        "21:00",
        "08:00-21:00",
        "24:00-08:00",
        "21:60-08:00",
        "a-b",
    ] {
        assert_eq!(Window::parse(text), None, "{text}");
    }
}

#[test]
fn advertising_needs_consent_and_a_closing_where_the_law_asks() {
    let mut rules = Rules::default();
    let agreed = [Consent::Advertising];
    let kr = (Some("KR"), None);
    let decide = |rules: &Rules, at, consents: &[Consent]| -> Result<Option<String>, Reason> {
        match rules.decide_advertising(Purpose::Advertising, "shop", at, consents) {
            Advertising::AsItIs => Ok(None),
            Advertising::Marked(marking) => Ok(Some(marking.closing.to_owned())),
            Advertising::Refused(reason, _) => Err(reason),
        }
    };
    assert_eq!(decide(&rules, kr, &[]), Err(Reason::ConsentMissing));
    assert_eq!(decide(&rules, kr, &agreed), Err(Reason::MarkingMissing));
    rules.closings.insert("*".into(), "anyone".into());
    assert_eq!(decide(&rules, kr, &agreed), Ok(Some("anyone".into())));
    rules.closings.insert("shop".into(), "the shop".into());
    assert_eq!(decide(&rules, kr, &agreed), Ok(Some("the shop".into())));
    // Unsaid is the operator's country; a zone tells its country; others ask for no mark.
    assert_eq!(
        decide(&rules, (None, None), &[]),
        Err(Reason::ConsentMissing)
    );
    assert_eq!(
        decide(&rules, (None, Some("Asia/Seoul")), &[]),
        Err(Reason::ConsentMissing)
    );
    assert_eq!(decide(&rules, (None, Some("Asia/Tokyo")), &[]), Ok(None));
    assert_eq!(decide(&rules, (Some("JP"), None), &[]), Ok(None));
    rules.needs_consent = false;
    assert_eq!(decide(&rules, kr, &[]), Ok(Some("the shop".into())));
}

/// The clock of the wall, minute by minute.
fn is_night(window: Window, zones: &[TimeZone], now: i64) -> bool {
    zones.iter().any(|zone| {
        let local = zone.to_datetime(jiff::Timestamp::from_millisecond(now).unwrap());
        let minute = u16::try_from(i16::from(local.hour()) * 60 + i16::from(local.minute()));
        window.contains(minute.unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_wait_ends_with_the_first_minute_of_day(
        country in prop::sample::select(vec![
            "KR", "US", "RU", "FR", "AU", "BR", "CL", "EG", "IR", "NP", "NZ", "PF", "MA", "CA",
        ]),
        minute in 29_000_000_i64..31_000_000,
        from in 1_080_u16..1_439, until in 300_u16..660,
    ) {
        let window = Window { from, until };
        let zones = zones::zones_for(None, Some(country), &Zone::seoul());
        let now = minute * 60_000 + 12_345;
        match day_begins(window, &zones, Timestamp(now)) {
            None => prop_assert!(!is_night(window, &zones, now)),
            // A country so wide that no hour is day in all of it waits a bounded time.
            Some(begin) if is_night(window, &zones, begin.0) => {
                prop_assert!(begin.0 - now < 9 * 86_400_000);
            }
            Some(begin) => {
                prop_assert!(begin.0 % 60_000 == 0);
                let mut probe = now;
                while probe < begin.0 {
                    prop_assert!(is_night(window, &zones, probe), "{country} {probe} {}", begin.0);
                    probe += 60_000;
                }
            }
        }
    }
}
