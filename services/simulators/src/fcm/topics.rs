//! Subscriptions to topics: `POST /iid/v1:batchAdd` and `:batchRemove`. Pure.
//!
//! [R: Firebase, "Manage topic subscriptions": a thousand tokens a request, 2,000 topics of one app on
//! one device; M: from memory: paths, words and form]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::words::Words;

/// Tokens of one request.
const BATCH: usize = 1_000;
/// Topics of one token.
const TOPICS: usize = 2_000;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// The change that a path asks for.
pub(super) fn change_of(path: &str) -> Option<Change> {
    match path {
        "/iid/v1:batchAdd" => Some(Change::Add),
        "/iid/v1:batchRemove" => Some(Change::Remove),
        _ => None,
    }
}

/// Whether a text has so many characters, letters, digits and these.
fn is_within(text: &str, length: RangeInclusive<usize>, others: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    length.contains(&text.len()) && text.chars().all(known)
}

/// Who gets what.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_topic: BTreeMap<String, BTreeSet<String>>,
    by_token: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Request {
    to: String,
    registration_tokens: Vec<String>,
}

impl Topics {
    /// Subscribers by topic.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let all = self.by_topic.iter();
        all.map(|(topic, tokens)| (topic.clone(), tokens.len()))
            .collect()
    }

    /// Answers a request; a word when it is wrong as a whole.
    pub(super) fn change(
        &mut self,
        change: Change,
        body: &[u8],
        words: &Words,
    ) -> Result<Value, &'static str> {
        let request: Request = serde_json::from_slice(body).map_err(|_| "InvalidRequest")?;
        let topic = request.to.strip_prefix("/topics/");
        let topic = topic.ok_or("InvalidTopicName")?;
        if !is_within(topic, 1..=900, "-_.~%") {
            return Err("InvalidTopicName");
        }
        if !(1..=BATCH).contains(&request.registration_tokens.len()) {
            return Err("InvalidTokenCount");
        }
        let results: Vec<Value> = request
            .registration_tokens
            .into_iter()
            .map(|token| match self.one(change, topic, token, words) {
                Ok(()) => json!({}),
                Err(word) => json!({"error": word}),
            })
            .collect();
        Ok(json!({ "results": results }))
    }

    fn one(
        &mut self,
        change: Change,
        topic: &str,
        token: String,
        words: &Words,
    ) -> Result<(), &'static str> {
        if !is_within(&token, 8..=4_096, "-_:.") {
            return Err("INVALID_ARGUMENT");
        }
        match words.of(&token).as_deref() {
            None => {}
            Some("UNREGISTERED" | "NOT_FOUND") => return Err("NOT_FOUND"),
            Some(_) => return Err("INTERNAL"),
        }
        let subscribers = self.by_topic.entry(topic.to_owned()).or_default();
        let count = self.by_token.entry(token.clone()).or_default();
        match change {
            Change::Add if *count >= TOPICS && !subscribers.contains(&token) => {
                return Err("TOO_MANY_TOPICS");
            }
            Change::Add => *count += usize::from(subscribers.insert(token)),
            Change::Remove => *count -= usize::from(subscribers.remove(&token)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(topic: &str, tokens: &[&str]) -> Vec<u8> {
        let body = json!({"to": topic, "registration_tokens": tokens});
        body.to_string().into_bytes()
    }

    #[test]
    fn subscribers_are_counted_once_and_the_limits_hold() {
        let (mut topics, words) = (Topics::default(), Words::default());
        let mut add =
            |topic: &str, tokens: &[&str]| topics.change(Change::Add, &body(topic, tokens), &words);
        for _ in 0..2 {
            let answer = add("/topics/news", &["token-one", "x"]).unwrap();
            assert_eq!(
                answer["results"],
                json!([{}, {"error": "INVALID_ARGUMENT"}])
            );
        }
        assert_eq!(add("news", &["token-one"]), Err("InvalidTopicName"));
        assert_eq!(add("/topics/news", &[]), Err("InvalidTokenCount"));
        let many = vec!["token-one"; BATCH + 1];
        assert_eq!(add("/topics/news", &many), Err("InvalidTokenCount"));
        for topic in 1..TOPICS {
            add(&format!("/topics/t{topic}"), &["token-one"]).unwrap();
        }
        let full = add("/topics/one-more", &["token-one"]).unwrap();
        assert_eq!(full["results"][0]["error"], "TOO_MANY_TOPICS");
        assert_eq!(
            add("/topics/news", &["token-one"]).unwrap()["results"],
            json!([{}])
        );
        let remove = body("/topics/news", &["token-one", "token-two"]);
        topics.change(Change::Remove, &remove, &words).unwrap();
        assert_eq!(topics.counts()["news"], 0);
        assert_eq!(topics.counts()["t1"], 1);
    }
}
