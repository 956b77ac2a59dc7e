//! From a decoded event to a checked one: every fault at once, each with its field and its fix.

use bongsu_domain::limits;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Consent, Event, FaultCode, Faults, OnUncertain, Ordering,
    Pairs, Platform, Purpose, Recipient, Timestamp,
};

use crate::records::{self, NotificationEvent};

/// Unknown fields of one event that are named; the others are counted.
const NAMED_UNKNOWN: usize = 20;

/// Parses an event from JSON, as `events` and the gateway take it, and names unknown fields: the
/// first 20 by their paths, clipped, so that no event makes a report larger than
/// itself.
///
/// # Errors
/// What is wrong, with the path of the field where JSON tells it.
pub fn parse_json_event(text: &[u8]) -> Result<NotificationEvent, Faults> {
    let mut faults = Faults::default();
    let mut unknown = Vec::new();
    let mut unnamed = 0_usize;
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed: Result<NotificationEvent, _> = serde_ignored::deserialize(
        serde_path_to_error::Deserializer::new(&mut json, &mut track),
        |path| {
            if unknown.len() < NAMED_UNKNOWN {
                unknown.push(clip(&path.to_string().replace(".?", "")));
            } else {
                unnamed += 1;
            }
        },
    );
    match parsed {
        Err(e) => {
            let path = track.path().to_string();
            let field = if path == "." || path == "?" {
                "(event)".to_owned()
            } else {
                path.replace(".?", "")
            };
            faults.add(field, FaultCode::Invalid, e.to_string());
        }
        Ok(event) => {
            if let Err(e) = json.end() {
                faults.add(
                    "(event)",
                    FaultCode::Invalid,
                    format!("text after the event: {e}"),
                );
            }
            for field in unknown {
                faults.add(
                    field,
                    FaultCode::Invalid,
                    "unknown field; see docs/publishing.md for the fields there are",
                );
            }
            if unnamed > 0 {
                faults.add(
                    "(event)",
                    FaultCode::Invalid,
                    format!("and {unnamed} more unknown fields"),
                );
            }
            if faults.is_empty() {
                return Ok(event);
            }
        }
    }
    Err(faults)
}

/// Checks an event as of `now`; `now` is the gateway's clock or, in fanout, the broker's time of the
/// record, so that every replica decides alike.
///
/// # Errors
/// Every fault found.
pub fn check_event(r: &NotificationEvent, now: Timestamp) -> Result<Event, Faults> {
    let mut faults = Faults::default();
    identifier(&mut faults, "id", &r.id);
    identifier(&mut faults, "sender", &r.sender);
    let class = read_word(
        &mut faults,
        "class",
        &r.class,
        Class::Transactional,
        Class::parse,
    );
    let purpose = read_word(
        &mut faults,
        "purpose",
        &r.purpose,
        Purpose::Transactional,
        Purpose::parse,
    );
    let on_uncertain = read_word(
        &mut faults,
        "on_uncertain",
        &r.on_uncertain,
        OnUncertain::Resend,
        OnUncertain::parse,
    );
    let ordering = match r.ordering.as_deref() {
        None => Ordering::Sender,
        Some("none") => Ordering::None,
        Some(other) => {
            faults.add(
                "ordering",
                FaultCode::UnknownWord,
                format!(
                    "`{}` is not an ordering; an event may only say `none`, or leave it out",
                    clip(other)
                ),
            );
            Ordering::Sender
        }
    };
    let channels = check_plan(&mut faults, &r.plan);
    for channel in channels.iter().filter(|c| !c.takes(purpose)) {
        faults.add(
            "purpose",
            FaultCode::Contradiction,
            format!("`{purpose}` is not carried by `{channel}`; leave the channel out"),
        );
    }
    let recipients = check_target(&mut faults, &r.target);
    check_content(&mut faults, &r.content);
    check_times(&mut faults, r, now);
    bounded_map(&mut faults, "labels", &r.labels);
    for (field, value) in [
        ("category", &r.category),
        ("collapse_key", &r.collapse_key),
        ("campaign_id", &r.campaign_id),
    ] {
        if let Some(text) = value {
            identifier(&mut faults, field, text);
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Event {
        id: r.id.clone(),
        sender: r.sender.clone(),
        class,
        purpose,
        category: r.category.clone(),
        recipients,
        channels,
        content: r.content.clone().into(),
        expires_at: r.expires_at.map(Timestamp::from),
        ordering,
        collapse_key: r.collapse_key.clone(),
        on_uncertain,
        campaign_id: r.campaign_id.clone(),
        labels: r.labels.clone(),
    })
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

fn not_built(faults: &mut Faults, field: &str, what: &str) {
    faults.add(
        field,
        FaultCode::NotBuilt,
        format!("not built in this version: {what}"),
    );
}

fn identifier(faults: &mut Faults, field: &str, text: &str) {
    if text.is_empty() {
        faults.add(
            field,
            FaultCode::Missing,
            "is required; give a text that is not empty",
        );
    } else if text.len() > limits::ID_BYTES {
        faults.add(
            field,
            FaultCode::TooLarge,
            format!(
                "has {} bytes; at most {} are taken",
                text.len(),
                limits::ID_BYTES
            ),
        );
    } else if text.chars().any(char::is_control) {
        faults.add(
            field,
            FaultCode::Invalid,
            "contains control characters; remove them",
        );
    }
}

fn read_word<T: Copy>(
    faults: &mut Faults,
    field: &str,
    text: &str,
    default: T,
    parse: impl Fn(&str) -> Result<T, bongsu_domain::UnknownWord>,
) -> T {
    if text.is_empty() {
        return default;
    }
    parse(text).unwrap_or_else(|e| {
        faults.add(field, FaultCode::UnknownWord, e.to_string());
        default
    })
}

fn read_channel(faults: &mut Faults, field: &str, text: &str) -> Option<Channel> {
    match Channel::parse(text) {
        Ok(channel) => Some(channel),
        Err(e) => {
            faults.add(field, FaultCode::UnknownChannel, e.to_string());
            None
        }
    }
}

fn check_plan(faults: &mut Faults, plan: &records::ChannelPlan) -> Vec<Channel> {
    if plan.channels.is_empty() {
        faults.add(
            "plan.channels",
            FaultCode::Missing,
            "is required; name at least one channel, for example [\"webhook\"]",
        );
    }
    if !plan.fallback.is_empty() {
        not_built(faults, "plan.fallback", "fallback steps; leave them out");
    }
    let mut channels = Vec::new();
    for (i, text) in plan.channels.iter().enumerate() {
        let field = format!("plan.channels[{i}]");
        if let Some(channel) = read_channel(faults, &field, text) {
            if channels.contains(&channel) {
                faults.add(
                    field,
                    FaultCode::Contradiction,
                    "is named twice; name it once",
                );
            } else {
                channels.push(channel);
            }
        }
    }
    channels
}

fn check_target(faults: &mut Faults, target: &records::Target) -> Vec<Recipient> {
    if target.audience.is_some() {
        not_built(
            faults,
            "target.audience",
            "stored audiences; name the recipients inline",
        );
    } else if target.recipients.is_empty() {
        faults.add(
            "target.recipients",
            FaultCode::Missing,
            "is required; name at least one recipient with an address",
        );
    }
    if target.recipients.len() > limits::INLINE_RECIPIENTS {
        faults.add(
            "target.recipients",
            FaultCode::TooLarge,
            format!(
                "has {} recipients; at most {} are taken inline, publish several events",
                target.recipients.len(),
                limits::INLINE_RECIPIENTS
            ),
        );
        return Vec::new();
    }
    target
        .recipients
        .iter()
        .enumerate()
        .map(|(i, r)| check_recipient(faults, &format!("target.recipients[{i}]"), r))
        .collect()
}

fn check_recipient(faults: &mut Faults, field: &str, r: &records::Recipient) -> Recipient {
    identifier(faults, &format!("{field}.id"), &r.id);
    if r.addresses.len() > limits::ADDRESSES_PER_RECIPIENT {
        faults.add(
            format!("{field}.addresses"),
            FaultCode::TooLarge,
            format!(
                "has {} addresses; at most {} are taken",
                r.addresses.len(),
                limits::ADDRESSES_PER_RECIPIENT
            ),
        );
    }
    let addresses = r
        .addresses
        .iter()
        .enumerate()
        .take(limits::ADDRESSES_PER_RECIPIENT)
        .filter_map(|(i, a)| check_address(faults, &format!("{field}.addresses[{i}]"), a))
        .collect();
    Recipient {
        id: r.id.clone(),
        addresses,
        time_zone: r.time_zone.clone(),
        country: r.country.clone(),
        locale: r.locale.clone(),
        consents: check_consents(faults, field, &r.consents),
    }
}

fn check_consents(faults: &mut Faults, field: &str, words: &[String]) -> Vec<Consent> {
    let mut consents: Vec<Consent> = words
        .iter()
        .take(Consent::ALL.len())
        .enumerate()
        .filter_map(|(i, word)| match Consent::parse(word) {
            Ok(consent) => Some(consent),
            Err(e) => {
                let field = format!("{field}.consents[{i}]");
                faults.add(field, FaultCode::UnknownWord, e.to_string());
                None
            }
        })
        .collect();
    if words.len() > Consent::ALL.len() {
        let message = format!("has {} words; each is named once", words.len());
        faults.add(
            format!("{field}.consents"),
            FaultCode::Contradiction,
            message,
        );
    }
    consents.sort_unstable();
    consents.dedup();
    consents
}

fn check_address(faults: &mut Faults, field: &str, a: &records::Address) -> Option<Address> {
    let channel = read_channel(faults, &format!("{field}.channel"), &a.channel)?;
    let text = a.address.trim();
    if text.is_empty() {
        faults.add(
            format!("{field}.address"),
            FaultCode::Missing,
            "is required; give the token, URL or number",
        );
        return None;
    }
    if text.len() > limits::ADDRESS_BYTES {
        faults.add(
            format!("{field}.address"),
            FaultCode::TooLarge,
            format!(
                "has {} bytes; at most {} are taken",
                text.len(),
                limits::ADDRESS_BYTES
            ),
        );
        return None;
    }
    let account = a.account.clone().unwrap_or_else(|| "default".to_owned());
    identifier(faults, &format!("{field}.account"), &account);
    if let Some(id) = &a.address_id {
        identifier(faults, &format!("{field}.address_id"), id);
    }
    let platform = match &a.platform {
        None => channel.default_platform(),
        Some(word) => {
            let fallback = channel.default_platform();
            read_word(
                faults,
                &format!("{field}.platform"),
                word,
                fallback,
                Platform::parse,
            )
        }
    };
    let id = a.address_id.clone().map_or_else(
        || AddressId::derive(channel.as_str(), &account, text),
        AddressId,
    );
    Some(Address {
        channel,
        address: text.to_owned(),
        id,
        account,
        platform,
        app: a.app.clone(),
        registered_at: a.registered_at.map(Timestamp::from),
    })
}

fn check_content(faults: &mut Faults, c: &records::Content) {
    if c.template.is_some() {
        not_built(
            faults,
            "content.template",
            "stored templates; give title and body inline",
        );
    } else if !c.variables.is_empty() {
        faults.add(
            "content.variables",
            FaultCode::Contradiction,
            "are for a template; leave them out or name one",
        );
    }
    if c.template.is_none() && bongsu_domain::Content::from(c.clone()).is_empty() {
        faults.add(
            "content",
            FaultCode::Missing,
            "says nothing; give a title, body or data",
        );
    }
    for (field, text, limit) in [
        ("content.title", &c.title, limits::TITLE_BYTES),
        ("content.body", &c.body, limits::BODY_BYTES),
        ("content.link", &c.link, limits::ADDRESS_BYTES),
        ("content.image", &c.image, limits::ADDRESS_BYTES),
    ] {
        if let Some(text) = text
            && text.len() > limit
        {
            faults.add(
                field,
                FaultCode::TooLarge,
                format!("has {} bytes; at most {limit} are taken", text.len()),
            );
        }
    }
    bounded_map(faults, "content.data", &c.data);
    for (channel, body) in &c.overrides {
        let field = format!("content.overrides.{}", clip(channel));
        if read_channel(faults, &field, channel).is_some()
            && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(body).is_err()
        {
            faults.add(
                field,
                FaultCode::Invalid,
                "must be the text of a JSON object",
            );
        }
    }
}

fn bounded_map(faults: &mut Faults, field: &str, map: &Pairs) {
    if map.len() > limits::MAP_ENTRIES {
        faults.add(
            field,
            FaultCode::TooLarge,
            format!(
                "has {} entries; at most {} are taken",
                map.len(),
                limits::MAP_ENTRIES
            ),
        );
    }
}

fn check_times(faults: &mut Faults, r: &NotificationEvent, now: Timestamp) {
    if r.deliver_at.is_some() {
        not_built(
            faults,
            "deliver_at",
            "delayed delivery; publish when it is due",
        );
    }
    let Some(expires_at) = r.expires_at.map(Timestamp::from) else {
        return;
    };
    if expires_at <= now {
        faults.add(
            "expires_at",
            FaultCode::Expired,
            format!("{expires_at} has passed already (now {now}); give a later moment"),
        );
    } else if expires_at.millis_since(now) > limits::LIFETIME_MS {
        faults.add(
            "expires_at",
            FaultCode::TooLarge,
            format!("{expires_at} is more than 30 days ahead; give an earlier moment"),
        );
    }
}
