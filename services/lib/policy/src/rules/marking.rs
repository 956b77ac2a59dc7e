//! The mark and the closing that the law asks of an advertisement.

use bongsu_domain::{Channel, Content};

/// What an advertisement must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marking<'a> {
    /// What its title, or its text when it has none, begins with.
    pub mark: &'a str,
    /// What its text ends with.
    pub closing: &'a str,
}

impl Marking<'_> {
    /// The content with mark and closing, each once however often it is applied. Overrides stay as
    /// they are: see [`Marking::is_in_override`].
    #[must_use]
    pub fn apply(&self, content: &Content) -> Content {
        let mut marked = content.clone();
        let body = marked.body.take().unwrap_or_default();
        let shown = content
            .title
            .as_deref()
            .is_some_and(|t| !t.trim().is_empty());
        let body = match (shown, marked.title.take()) {
            (true, title) => {
                marked.title = title.map(|title| self.begin(&title));
                body
            }
            (false, title) => {
                marked.title = title;
                self.begin(&body)
            }
        };
        marked.body = Some(self.end(&body));
        marked
    }

    fn begin(&self, text: &str) -> String {
        if text.trim_start().starts_with(self.mark) {
            return text.to_owned();
        }
        format!("{} {text}", self.mark).trim_end().to_owned()
    }

    fn end(&self, text: &str) -> String {
        if text.trim_end().ends_with(self.closing) {
            return text.to_owned();
        }
        if text.is_empty() {
            return self.closing.to_owned();
        }
        format!("{text}\n{}", self.closing)
    }

    /// Whether a channel's override carries both, in any of its texts; true where there is none. What
    /// a publisher wrote in a provider's own form is not changed, so it must bring them itself.
    #[must_use]
    pub fn is_in_override(&self, content: &Content, channel: Channel) -> bool {
        content
            .overrides
            .get(channel.as_str())
            .is_none_or(|text| carries(text, self.mark) && carries(text, self.closing))
    }
}

/// Whether JSON text holds `wanted`, written plainly or escaped.
fn carries(json: &str, wanted: &str) -> bool {
    json.contains(wanted) || unescaped(json).contains(wanted)
}

/// The characters of a JSON text with its escapes resolved; what is no escape stays.
fn unescaped(json: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(json.len());
    let mut chars = json.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.extend(u16::from_str_radix(&digits, 16));
                    continue;
                }
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use bongsu_domain::Pairs;
    use proptest::prelude::*;

    use super::*;

    const MARKING: Marking<'static> = Marking {
        mark: "(광고)",
        closing: "봉수상회 02-123-4567 무료수신거부 080-123-4567",
    };

    fn content(title: Option<&str>, body: Option<&str>) -> Content {
        Content {
            title: title.map(str::to_owned),
            body: body.map(str::to_owned),
            ..Content::default()
        }
    }

    #[test]
    fn the_title_is_marked_and_the_text_ends_with_the_closing() {
        let marked = MARKING.apply(&content(Some("봄 세일"), Some("모두 반값")));
        assert_eq!(marked.title.as_deref(), Some("(광고) 봄 세일"));
        assert_eq!(
            marked.body.as_deref(),
            Some("모두 반값\n봉수상회 02-123-4567 무료수신거부 080-123-4567")
        );
    }

    #[test]
    fn without_a_title_the_text_is_marked() {
        let marked = MARKING.apply(&content(Some("  "), Some("모두 반값")));
        assert!(marked.body.unwrap().starts_with("(광고) 모두 반값\n"));
        let marked = MARKING.apply(&content(None, None));
        assert!(marked.body.unwrap().starts_with("(광고)\n봉수상회"));
    }

    #[test]
    fn an_override_must_bring_both_itself() {
        let of = |text: &str| Content {
            overrides: Pairs::from([("discord".to_owned(), text.to_owned())]),
            ..Content::default()
        };
        let whole = format!("{{\"content\":\"{} x {}\"}}", MARKING.mark, MARKING.closing);
        assert!(MARKING.is_in_override(&of(&whole), Channel::Discord));
        let escaped = whole.replace("(광고)", "(\\uad11\\uace0)");
        assert!(MARKING.is_in_override(&of(&escaped), Channel::Discord));
        assert!(!MARKING.is_in_override(&of("{\"content\":\"(광고)\"}"), Channel::Discord));
        assert!(MARKING.is_in_override(&of("{}"), Channel::Webhook));
    }

    proptest! {
        #[test]
        fn marking_twice_is_marking_once(
            title in proptest::option::of(".{0,20}"), body in proptest::option::of(".{0,40}"),
        ) {
            let once = MARKING.apply(&content(title.as_deref(), body.as_deref()));
            prop_assert_eq!(&MARKING.apply(&once), &once);
            let first = once.title.as_deref().filter(|t| !t.trim().is_empty());
            let first = first.or(once.body.as_deref()).unwrap();
            prop_assert!(first.trim_start().starts_with(MARKING.mark));
            prop_assert!(once.body.as_deref().unwrap().trim_end().ends_with(MARKING.closing));
        }
    }
}
