//! One text out of a content, for channels that show nothing but text. Pure.

use bongsu_domain::{Channel, Content};

/// Its parts that have something to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts<'a> {
    /// The headline.
    pub title: Option<&'a str>,
    /// The text.
    pub body: Option<&'a str>,
    /// Where a tap leads.
    pub link: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Those of a content.
    #[must_use]
    pub fn of(content: &'a Content) -> Self {
        let shown = |text: &'a Option<String>| text.as_deref().filter(|t| !t.trim().is_empty());
        Self {
            title: shown(&content.title),
            body: shown(&content.body),
            link: shown(&content.link),
        }
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Title, body and link on lines of their own, at most `limit` UTF-16 units, which are never
    /// fewer than code points: whichever a provider counts, it fits. What is too long is cut in the
    /// body and marked by `…`; the link is kept whole where it fits at all. `None` when there is
    /// nothing.
    #[must_use]
    pub fn joined(&self, limit: usize) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let head: Vec<&str> = [self.title, self.body].into_iter().flatten().collect();
        let head = head.join("\n");
        let Some(link) = self.link else {
            return Some(cut(&head, limit));
        };
        if head.is_empty() {
            return Some(cut(link, limit));
        }
        let room = limit.saturating_sub(width(link) + 1);
        Some(cut(&format!("{}\n{link}", cut(&head, room)), limit))
    }
}

/// For [`too_large`](crate::too_large), of a channel that cuts a text at `limit` characters: what must
/// stay whole may not be longer. `who` takes it. An override goes out as it is and is not measured.
#[must_use]
pub fn too_large(content: &Content, who: Channel, limit: usize, whole: bool) -> Option<String> {
    if !whole || content.overrides.contains_key(who.as_str()) {
        return None;
    }
    let has = width(&Parts::of(content).joined(usize::MAX)?);
    (has > limit).then(|| {
        format!("has a text of {has} characters that must not be cut; {who} takes {limit}")
    })
}

/// UTF-16 units of a text.
#[must_use]
pub fn width(text: &str) -> usize {
    text.encode_utf16().count()
}

/// At most `limit` UTF-16 units; what is cut is marked by `…`.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    // Bytes are never fewer than UTF-16 units: most texts are not counted at all.
    if text.len() <= limit || width(text) <= limit {
        return text.to_owned();
    }
    let mut used = 1;
    let mut short: String = text
        .chars()
        .take_while(|c| {
            used += c.len_utf16();
            used <= limit
        })
        .collect();
    if limit > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_on_lines_and_a_link_is_kept_whole() {
        let parts = Parts {
            title: Some("Live"),
            body: Some("now"),
            link: Some("https://x.example"),
        };
        assert_eq!(parts.joined(100).unwrap(), "Live\nnow\nhttps://x.example");
        let long = "봉🔥".repeat(2_000);
        let parts = Parts {
            body: Some(&long),
            ..parts
        };
        let text = parts.joined(1_000).unwrap();
        assert!((999..=1_000).contains(&width(&text)));
        assert!(text.ends_with("…\nhttps://x.example"));
        assert_eq!(Parts::default().joined(10), None);
        assert_eq!(cut("abc", 0), "");
        let content = Content {
            body: Some("x".repeat(11)),
            ..Content::default()
        };
        let asked = |limit, whole| too_large(&content, Channel::Line, limit, whole);
        assert_eq!(asked(10, false), None);
        assert_eq!(asked(11, true), None);
        assert!(asked(10, true).is_some());
    }
}
