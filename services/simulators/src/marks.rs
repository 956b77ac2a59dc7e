//! What tells a notification apart where a provider's request has no field for it: our reference, and
//! a marker in the text. Pure.

/// The delivery's UUID in a reference `b1.<channel>.<class>.<partition>.<32 digits>.<mac>`.
pub(crate) fn delivery_of(reference: &str) -> Option<String> {
    let mut parts = reference.split('.');
    let digits = (parts.next()? == "b1").then(|| parts.nth(3)).flatten()?;
    let part = |from: usize, to: usize| digits.get(from..to);
    (digits.len() == 32).then_some(())?;
    Some(format!(
        "{}-{}-{}-{}-{}",
        part(0, 8)?,
        part(8, 12)?,
        part(12, 16)?,
        part(16, 20)?,
        part(20, 32)?
    ))
}

/// `[#<event id> <sender> <number>]` anywhere in a text.
pub(crate) fn marker(text: &str) -> Option<(&str, &str, Option<i64>)> {
    let (_, rest) = text.split_once("[#")?;
    let (inside, _) = rest.split_once(']')?;
    let mut words = inside.split(' ');
    Some((
        words.next()?,
        words.next().unwrap_or_default(),
        words.next().and_then(|word| word.parse().ok()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_its_delivery() {
        let text = "b1.alimtalk.bulk.31.543ca93db1f3326a271e8b06ef78cd5d.649a032e7e2f5ea5";
        assert_eq!(
            delivery_of(text).as_deref(),
            Some("543ca93d-b1f3-326a-271e-8b06ef78cd5d")
        );
        assert_eq!(delivery_of("order-17"), None);
        assert_eq!(delivery_of("b1.a.b.1.short.x"), None);
    }

    #[test]
    fn a_marker_names_event_sender_and_number() {
        assert_eq!(marker("a [#e1 s 7] b"), Some(("e1", "s", Some(7))));
        assert_eq!(marker("a [#e1] b"), Some(("e1", "", None)));
        assert_eq!(marker("a [e1] b"), None);
    }
}
