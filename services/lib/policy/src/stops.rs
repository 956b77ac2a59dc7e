//! What is stopped: one act after the other makes the state, and a delivery asks before each
//! attempt.
//!
//! A stopped delivery waits; it keeps its deadline and is never dropped for being stopped. Asking is
//! a fixed number of look-ups, and none when nothing is stopped. Memory: one entry per stopped
//! scope, a few hundred bytes each.

use std::collections::HashMap;

use bongsu_domain::{Act, Channel, Control, Delivery, Scope, Timestamp};

/// What of a delivery a stop may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its channel.
    pub channel: Channel,
    /// The account that would send it.
    pub account: &'a str,
    /// Who speaks.
    pub sender: &'a str,
    /// The campaign it belongs to.
    pub campaign: Option<&'a str>,
    /// The template it was made from.
    pub template: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// The facts of a delivery. None names a template yet: stored templates are not built.
    #[must_use]
    pub fn of(delivery: &'a Delivery) -> Self {
        Self {
            channel: delivery.address.channel,
            account: &delivery.address.account,
            sender: &delivery.sender,
            campaign: delivery.campaign_id.as_deref(),
            template: None,
        }
    }
}

/// Nothing may start before this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct StoppedUntil {
    /// When to ask again at the latest; none waits for a start.
    pub until: Option<Timestamp>,
    /// The kind of scope that holds it: channel, account, sender, campaign or template.
    pub by: &'static str,
}

/// A stop may end at any moment by a start, so that a stopped key is asked about again this often,
/// in milliseconds: half of what a start may take.
const ASK_AGAIN_MS: i64 = 1_000;

impl StoppedUntil {
    /// When to ask again, for who waits by time alone: at the end of the stop, else in a second.
    #[must_use]
    pub fn ask_again(self, now: Timestamp) -> Timestamp {
        let soon = now.plus_millis(ASK_AGAIN_MS);
        self.until.map_or(soon, |until| until.min(soon))
    }
}

/// Everything that is stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stops {
    channels: HashMap<Channel, Control>,
    accounts: HashMap<Channel, HashMap<String, Control>>,
    senders: HashMap<String, Control>,
    campaigns: HashMap<String, Control>,
    templates: HashMap<String, Control>,
    stopped: usize,
}

impl Stops {
    /// Nothing is stopped.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next act of the log; the last one on a scope stands. Says whether anything changed.
    pub fn apply(&mut self, control: Control) -> bool {
        match control.act {
            Act::Start => self.forget(&control.scope),
            Act::Stop => {
                let scope = control.scope.clone();
                let before = match &scope {
                    Scope::Channel(channel) => self.channels.insert(*channel, control.clone()),
                    Scope::Account(channel, name) => self
                        .accounts
                        .entry(*channel)
                        .or_default()
                        .insert(name.clone(), control.clone()),
                    Scope::Sender(name) => self.senders.insert(name.clone(), control.clone()),
                    Scope::Campaign(id) => self.campaigns.insert(id.clone(), control.clone()),
                    Scope::Template(id) => self.templates.insert(id.clone(), control.clone()),
                };
                self.stopped += usize::from(before.is_none());
                before.as_ref() != Some(&control)
            }
        }
    }

    /// Ends the stop of a scope; says whether there was one.
    pub fn forget(&mut self, scope: &Scope) -> bool {
        let before = match scope {
            Scope::Channel(channel) => self.channels.remove(channel),
            Scope::Account(channel, name) => self
                .accounts
                .get_mut(channel)
                .and_then(|names| names.remove(name)),
            Scope::Sender(name) => self.senders.remove(name),
            Scope::Campaign(id) => self.campaigns.remove(id),
            Scope::Template(id) => self.templates.remove(id),
        };
        self.stopped -= usize::from(before.is_some());
        before.is_some()
    }

    /// Whether a delivery must wait at `now`, and until when. Of several stops the one that ends
    /// last holds; a stop whose end has come holds nothing.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>, now: Timestamp) -> Option<StoppedUntil> {
        if self.stopped == 0 {
            return None;
        }
        [
            self.channels.get(&facts.channel),
            self.accounts
                .get(&facts.channel)
                .and_then(|names| names.get(facts.account)),
            self.senders.get(facts.sender),
            facts.campaign.and_then(|id| self.campaigns.get(id)),
            facts.template.and_then(|id| self.templates.get(id)),
        ]
        .into_iter()
        .flatten()
        .filter(|stop| stop.until.is_none_or(|until| until > now))
        .max_by_key(|stop| stop.until.unwrap_or(Timestamp(i64::MAX)))
        .map(|stop| StoppedUntil {
            until: stop.until,
            by: stop.scope.kind(),
        })
    }

    /// Every stop, ended ones included, in the order of their scopes.
    #[must_use]
    pub fn all(&self) -> Vec<&Control> {
        let mut all: Vec<&Control> = self
            .channels
            .values()
            .chain(self.accounts.values().flat_map(HashMap::values))
            .chain(self.senders.values())
            .chain(self.campaigns.values())
            .chain(self.templates.values())
            .collect();
        all.sort_by(|a, b| a.scope.cmp(&b.scope));
        all
    }

    /// Forgets stops whose end has come, so that they take no room.
    pub fn forget_ended(&mut self, now: Timestamp) {
        let ended: Vec<Scope> = self
            .all()
            .into_iter()
            .filter(|stop| stop.until.is_some_and(|until| until <= now))
            .map(|stop| stop.scope.clone())
            .collect();
        for scope in ended {
            self.forget(&scope);
        }
    }

    /// How many scopes are stopped, ended ones included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.stopped
    }

    /// Whether nothing is stopped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stopped == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTS: Facts<'static> = Facts {
        channel: Channel::Webhook,
        account: "default",
        sender: "shop-1",
        campaign: Some("spring"),
        template: Some("welcome"),
    };

    fn act(scope: &str, act: Act, until: Option<i64>) -> Control {
        Control {
            scope: scope.parse().unwrap(),
            act,
            who: "ann".into(),
            why: "a test".into(),
            from: Timestamp(0),
            until: until.map(Timestamp),
        }
    }

    fn covers(scope: &Scope, facts: &Facts<'_>) -> bool {
        match scope {
            Scope::Channel(c) => *c == facts.channel,
            Scope::Account(c, name) => *c == facts.channel && name == facts.account,
            Scope::Sender(name) => name == facts.sender,
            Scope::Campaign(id) => facts.campaign == Some(id.as_str()),
            Scope::Template(id) => facts.template == Some(id.as_str()),
        }
    }

    /// The last act per scope, looked through one by one.
    fn naive(acts: &[Control], facts: &Facts<'_>, now: Timestamp) -> Option<Option<Timestamp>> {
        let mut end = None;
        for (i, stop) in acts.iter().enumerate() {
            let later = acts.iter().skip(i + 1).any(|a| a.scope == stop.scope);
            let over = stop.until.is_some_and(|until| until <= now);
            if later || over || stop.act == Act::Start || !covers(&stop.scope, facts) {
                continue;
            }
            let ends = |t: Option<Timestamp>| t.map_or(i64::MAX, |t| t.0);
            if end.is_none_or(|e| ends(stop.until) > ends(e)) {
                end = Some(stop.until);
            }
        }
        end
    }

    fn acts() -> impl Strategy<Value = Vec<Control>> {
        let scope = prop::sample::select(vec![
            "channel/webhook",
            "channel/discord",
            "account/webhook/default",
            "account/webhook/other",
            "account/discord/default",
            "sender/shop-1",
            "sender/shop-2",
            "campaign/spring",
            "template/welcome",
            "template/other",
        ]);
        let one = (scope, any::<bool>(), prop::option::of(0_i64..100))
            .prop_map(|(s, stop, end)| act(s, if stop { Act::Stop } else { Act::Start }, end));
        prop::collection::vec(one, 0..20)
    }

    proptest! {
        #[test]
        fn stops_are_what_the_last_act_on_each_scope_says(
            acts in acts(), now in 0_i64..100, campaign in any::<bool>(), template in any::<bool>(),
        ) {
            let facts = Facts {
                campaign: campaign.then_some("spring"),
                template: template.then_some("welcome"),
                ..FACTS
            };
            let mut stops = Stops::new();
            for act in &acts {
                stops.apply(act.clone());
            }
            let wanted = naive(&acts, &facts, Timestamp(now));
            prop_assert_eq!(stops.decide(&facts, Timestamp(now)).map(|s| s.until), wanted);
            // What has ended can be forgotten without a difference, and counts add up.
            prop_assert_eq!(stops.all().len(), stops.len());
            stops.forget_ended(Timestamp(now));
            prop_assert_eq!(stops.all().len(), stops.len());
            prop_assert_eq!(stops.decide(&facts, Timestamp(now)).map(|s| s.until), wanted);
        }
    }

    #[test]
    fn a_stop_holds_until_its_end_and_no_longer() {
        let mut stops = Stops::new();
        assert!(stops.apply(act("sender/shop-1", Act::Stop, Some(50))));
        assert!(!stops.apply(act("sender/shop-1", Act::Stop, Some(50))));
        let held = StoppedUntil {
            until: Some(Timestamp(50)),
            by: "sender",
        };
        assert_eq!(stops.decide(&FACTS, Timestamp(49)), Some(held));
        assert_eq!(held.ask_again(Timestamp(49)), Timestamp(50));
        assert_eq!(stops.decide(&FACTS, Timestamp(50)), None);
    }

    #[test]
    fn a_start_ends_its_own_scope_only() {
        let mut stops = Stops::new();
        stops.apply(act("channel/webhook", Act::Stop, None));
        stops.apply(act("account/webhook/default", Act::Stop, None));
        assert!(stops.apply(act("channel/webhook", Act::Start, None)));
        let held = stops.decide(&FACTS, Timestamp(0)).unwrap();
        assert_eq!(held.by, "account");
        assert_eq!(held.ask_again(Timestamp(7)), Timestamp(1_007));
        assert!(stops.apply(act("account/webhook/default", Act::Start, None)));
        assert!(!stops.apply(act("account/webhook/default", Act::Start, None)));
        assert!(stops.is_empty());
    }
}
