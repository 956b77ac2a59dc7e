//! A template's text to the letter. Pure.
//!
//! Kakao delivers only what equals the approved text character by character outside of its
//! `#{variables}`, white space and line ends included. What does not fit is found here, before
//! anything is sent, and the first differing character is named.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Characters of a text after substitution. [R: NHN guide; Bizgo takes 1,300]
pub const TEXT_CHARS: usize = 1_000;

/// Where a template stands in its review.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Asked for.
    Requested,
    /// Being looked at.
    Review,
    /// May be sent.
    #[default]
    Approved,
    /// Refused by Kakao.
    Rejected,
    /// Stopped by us or by Kakao.
    Stopped,
}

bongsu_runtime::settings! {
    /// One template as the settings hold it.
    pub struct Template {
        /// The approved text with its `#{variables}`.
        pub text: String = String::new(),
        /// The emphasised title, when the template has one; it may hold variables.
        pub title: String = String::new(),
        /// `requested`, `review`, `approved`, `rejected` or `stopped`.
        pub status: Status = Status::Approved,
    }
}

/// Why a notification does not fit its template. Names positions and variables, never their values.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateFault {
    /// The template's own text cannot be.
    #[error("the template's text is empty or has a variable without an end; write #{{name}}")]
    Malformed,
    /// Kakao would not deliver it.
    #[error("the template is not approved")]
    NotApproved,
    /// A variable has no value.
    #[error("the variable `{0}` has no value")]
    Missing(String),
    /// The text is too long with its variables.
    #[error("the text has {chars} characters with its variables; at most {TEXT_CHARS} are taken")]
    TooLong {
        /// How many it has.
        chars: usize,
    },
    /// The text is another one.
    #[error("the text differs from the template at character {at}: {} instead of {}", shown(*.found), shown(*.expected))]
    Differs {
        /// Position in the text, in characters from 1.
        at: usize,
        /// What the template has there; `None` for its end.
        expected: Option<char>,
        /// What the text has there; `None` for its end.
        found: Option<char>,
    },
}

fn shown(c: Option<char>) -> String {
    c.map_or_else(|| "the end".to_owned(), |c| format!("{c:?}"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    parts: Vec<Part>,
    title: Vec<Part>,
    approved: bool,
    /// The text as it was approved.
    pub text: String,
}

impl Template {
    /// Reads the text.
    ///
    /// # Errors
    /// [`TemplateFault::Malformed`] or [`TemplateFault::TooLong`].
    pub fn prepare(&self) -> Result<Prepared, TemplateFault> {
        let parts = parse(&self.text).ok_or(TemplateFault::Malformed)?;
        if parts.is_empty() {
            return Err(TemplateFault::Malformed);
        }
        let chars = self.text.chars().count();
        if chars > TEXT_CHARS {
            return Err(TemplateFault::TooLong { chars });
        }
        Ok(Prepared {
            parts,
            title: parse(&self.title).ok_or(TemplateFault::Malformed)?,
            approved: self.status == Status::Approved,
            text: self.text.clone(),
        })
    }
}

fn parse(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("#{") {
        let (name, after) = after.split_once('}')?;
        if name.is_empty() {
            return None;
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Variable(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Some(parts)
}

impl Prepared {
    /// The names of its variables, those of the title included.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts
            .iter()
            .chain(&self.title)
            .filter_map(|p| match p {
                Part::Variable(name) => Some(name.as_str()),
                Part::Text(_) => None,
            })
    }

    /// The text with its variables, once it is sure that Kakao would take it.
    ///
    /// # Errors
    /// [`TemplateFault`].
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, TemplateFault> {
        if !self.approved {
            return Err(TemplateFault::NotApproved);
        }
        if let Some(missing) = self.variables().find(|name| !values.contains_key(*name)) {
            return Err(TemplateFault::Missing(missing.to_owned()));
        }
        let mut text = String::with_capacity(self.text.len());
        for part in &self.parts {
            text.push_str(match part {
                Part::Text(fixed) => fixed,
                Part::Variable(name) => values.get(name).map_or("", String::as_str),
            });
        }
        let chars = text.chars().count();
        if chars > TEXT_CHARS {
            return Err(TemplateFault::TooLong { chars });
        }
        Ok(text)
    }

    /// Reads the variables' values out of a whole text: the shortest values that fit, from left to
    /// right. A variable that occurs twice must stand for the same text.
    ///
    /// # Errors
    /// [`TemplateFault::Differs`] at the first character that cannot be the template's.
    pub fn read(&self, text: &str) -> Result<BTreeMap<String, String>, TemplateFault> {
        let mut search = Search {
            parts: &self.parts,
            text,
            closest: None,
            steps: 0,
        };
        let mut values = BTreeMap::new();
        if search.fits(0, 0, &mut values) {
            return Ok(values);
        }
        let (at, expected) = search.closest.map_or((0, None), |c| (c.at, c.expected));
        Err(TemplateFault::Differs {
            at: text.get(..at).map_or(0, |t| t.chars().count()) + 1,
            expected,
            found: text.get(at..).and_then(|t| t.chars().next()),
        })
    }
}

/// The first character in which two texts differ.
///
/// # Errors
/// [`TemplateFault::Differs`].
pub fn same(expected: &str, found: &str) -> Result<(), TemplateFault> {
    let mut ours = expected.chars();
    let mut theirs = found.chars();
    let mut at = 1;
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Ok(()),
            (a, b) if a == b => at += 1,
            (expected, found) => {
                return Err(TemplateFault::Differs {
                    at,
                    expected,
                    found,
                });
            }
        }
    }
}

/// Places looked at before a text is given up: a template with many variables and a text made to
/// confuse it must not cost more than a moment.
const MOST_STEPS: usize = 2_000;

/// The failure that got furthest through the template; the first of several.
struct Closest {
    /// Part of the template and bytes of it that agreed.
    reached: (usize, usize),
    /// Where in the text it failed.
    at: usize,
    /// What the template has there.
    expected: Option<char>,
}

struct Search<'a> {
    parts: &'a [Part],
    text: &'a str,
    closest: Option<Closest>,
    steps: usize,
}

impl Search<'_> {
    fn fits(&mut self, part: usize, at: usize, values: &mut BTreeMap<String, String>) -> bool {
        self.steps += 1;
        let Some(rest) = self.text.get(at..).filter(|_| self.steps <= MOST_STEPS) else {
            return false;
        };
        match self.parts.get(part) {
            None => {
                if !rest.is_empty() {
                    self.fail(part, "", at, 0);
                }
                rest.is_empty()
            }
            Some(Part::Text(fixed)) => {
                let shared = shared(fixed, rest);
                if shared == fixed.len() {
                    return self.fits(part + 1, at + shared, values);
                }
                self.fail(part, fixed, at, shared);
                false
            }
            Some(Part::Variable(name)) => match values.get(name) {
                Some(known) => {
                    let known = known.clone();
                    let shared = shared(&known, rest);
                    if shared == known.len() {
                        return self.fits(part + 1, at + shared, values);
                    }
                    self.fail(part, &known, at, shared);
                    false
                }
                None => self.fits_some(part, at, name.clone(), values),
            },
        }
    }

    /// Tries every end of a variable, the nearest first.
    fn fits_some(
        &mut self,
        part: usize,
        at: usize,
        name: String,
        values: &mut BTreeMap<String, String>,
    ) -> bool {
        let rest = self.text.get(at..).unwrap_or_default();
        // The last variable takes all that is left.
        if part + 1 == self.parts.len() {
            values.insert(name, rest.to_owned());
            return true;
        }
        let next = match self.parts.get(part + 1) {
            Some(Part::Text(fixed)) => Some(fixed.as_str()),
            Some(Part::Variable(_)) | None => None,
        };
        let ends = rest.char_indices().map(|(i, _)| i).chain([rest.len()]);
        for end in ends {
            let after = rest.get(end..).unwrap_or_default();
            let possible = next.is_none_or(|fixed| after.starts_with(fixed));
            if !possible {
                // Told as the failure when nothing fits at all.
                if let Some(fixed) = next {
                    let shared = shared(fixed, after);
                    self.fail(part + 1, fixed, at + end, shared);
                }
                continue;
            }
            values.insert(name.clone(), rest.get(..end).unwrap_or_default().to_owned());
            if self.fits(part + 1, at + end, values) {
                return true;
            }
            values.remove(&name);
            if self.steps > MOST_STEPS {
                return false;
            }
        }
        false
    }

    /// Notes that `wanted`, the text of a part, agrees for `shared` bytes only.
    fn fail(&mut self, part: usize, wanted: &str, at: usize, shared: usize) {
        let reached = (part, shared);
        if self.closest.as_ref().is_none_or(|c| reached > c.reached) {
            self.closest = Some(Closest {
                reached,
                at: at + shared,
                expected: wanted.get(shared..).and_then(|t| t.chars().next()),
            });
        }
    }
}

/// Bytes of the common beginning, at a character's border.
fn shared(a: &str, b: &str) -> usize {
    a.chars()
        .zip(b.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prepared(text: &str) -> Prepared {
        Template {
            text: text.into(),
            ..Template::default()
        }
        .prepare()
        .unwrap()
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn a_template_is_filled_and_read_back() {
        let template = prepared("#{이름}님, 주문 #{no}\n배송 #{이름}");
        let given = values(&[("이름", "김철수"), ("no", "17"), ("more", "x")]);
        let text = template.fill(&given).unwrap();
        assert_eq!(text, "김철수님, 주문 17\n배송 김철수");
        assert_eq!(
            template.read(&text),
            Ok(values(&[("이름", "김철수"), ("no", "17")]))
        );
        assert_eq!(
            template.fill(&values(&[("no", "17")])),
            Err(TemplateFault::Missing("이름".into()))
        );
    }

    #[test]
    fn the_first_differing_character_is_named() {
        let template = prepared("주문 #{no} 완료");
        assert!(
            template.read("주문  17 완료").is_ok(),
            "a variable may begin with a space"
        );
        assert_eq!(
            template.read("주문 17 완류").unwrap_err(),
            TemplateFault::Differs {
                at: 8,
                expected: Some('료'),
                found: Some('류')
            }
        );
        assert_eq!(
            prepared("안녕하세요.").read("안녕하세여."),
            Err(TemplateFault::Differs {
                at: 5,
                expected: Some('요'),
                found: Some('여')
            })
        );
        assert_eq!(
            prepared("a").read("ab").unwrap_err().to_string(),
            "the text differs from the template at character 2: 'b' instead of the end"
        );
        assert_eq!(
            prepared("ab\nc").read("ab c").unwrap_err().to_string(),
            "the text differs from the template at character 3: ' ' instead of '\\n'"
        );
        assert_eq!(
            prepared("x#{v}").read("y").unwrap_err(),
            TemplateFault::Differs {
                at: 1,
                expected: Some('x'),
                found: Some('y')
            }
        );
        assert!(same("가나", "가나").is_ok());
        assert!(matches!(
            same("가나", "가다"),
            Err(TemplateFault::Differs { at: 2, .. })
        ));
    }

    #[test]
    fn what_kakao_would_not_deliver_is_refused() {
        for text in ["", "#{", "#{a", "#{}"] {
            let template = Template {
                text: text.into(),
                ..Template::default()
            };
            assert_eq!(template.prepare(), Err(TemplateFault::Malformed), "{text}");
        }
        let review = Template {
            text: "a".into(),
            status: Status::Review,
            ..Template::default()
        };
        assert_eq!(
            review.prepare().unwrap().fill(&BTreeMap::new()),
            Err(TemplateFault::NotApproved)
        );
        let long = prepared("#{v}").fill(&values(&[("v", &"가".repeat(1_001))]));
        assert_eq!(long, Err(TemplateFault::TooLong { chars: 1_001 }));
    }

    #[test]
    fn a_text_made_to_confuse_costs_a_moment_only() {
        let template = prepared("#{a}x#{b}x#{c}x#{d}x#{e}x#{f}!");
        assert!(template.read(&"x".repeat(1_000)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_filled_can_be_read(
            fixed in proptest::collection::vec("[a-c가 \n]{1,4}", 1..5),
            given in proptest::collection::vec("[a-c가0-9 ]{0,5}", 4),
        ) {
            let mut text = String::new();
            let mut known = BTreeMap::new();
            for (i, fixed) in fixed.iter().enumerate() {
                text.push_str(fixed);
                if let Some(value) = given.get(i) {
                    text.push_str(&format!("#{{v{i}}}"));
                    known.insert(format!("v{i}"), value.clone());
                }
            }
            let template = prepared(&text);
            let filled = template.fill(&known).unwrap();
            let read = template.read(&filled).unwrap();
            // The values may be cut elsewhere, the text they make is the same.
            prop_assert_eq!(template.fill(&read).unwrap(), filled);
        }
    }
}
