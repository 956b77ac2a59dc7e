//! What is stopped: one act after the other makes the state, and a delivery asks before each
//! attempt.
//!
//! A stopped delivery waits; it keeps its deadline and is never dropped for being stopped. A start may
//! say what becomes of the [`Backlog`]: the deliveries of its scope accepted before it. That holds
//! until the next act on the scope. Asking is a fixed number of look-ups, and none when nothing is
//! stopped. Memory: one entry per stopped scope or choice, a few hundred bytes each.

use std::collections::HashMap;

use bongsu_domain::{Act, Backlog, Channel, Control, Delivery, Scope, Timestamp};

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

    fn are_of(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Channel(channel) => *channel == self.channel,
            Scope::Account(channel, name) => *channel == self.channel && name == self.account,
            Scope::Sender(name) => name == self.sender,
            Scope::Campaign(id) => self.campaign == Some(id.as_str()),
            Scope::Template(id) => self.template == Some(id.as_str()),
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

/// What the choices of starts make of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Chosen {
    /// It is sent.
    Goes,
    /// It is dropped, for it has waited too long.
    Stale,
    /// It is sent unless a newer one with its collapse key waits.
    IfNewest,
}

/// A choice other than to send everything: its scope, and the moment of its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    scope: Scope,
    from: Timestamp,
    backlog: Backlog,
}

/// Everything that is stopped, and what starts chose for their backlogs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stops {
    channels: HashMap<Channel, Control>,
    accounts: HashMap<Channel, HashMap<String, Control>>,
    senders: HashMap<String, Control>,
    campaigns: HashMap<String, Control>,
    templates: HashMap<String, Control>,
    stopped: usize,
    /// One per scope; a person makes few of them.
    choices: Vec<Choice>,
    /// What was accepted at this moment or later is nobody's backlog.
    chosen_before: Option<Timestamp>,
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
            Act::Start => {
                let choice = Choice {
                    scope: control.scope,
                    from: control.from,
                    backlog: control.backlog,
                };
                if self.choices.contains(&choice) {
                    return false;
                }
                let ended = self.forget(&choice.scope);
                let chose = choice.backlog != Backlog::All;
                if chose {
                    self.choices.push(choice);
                    self.look_at_choices();
                }
                ended || chose
            }
            Act::Stop => {
                self.forget_choice(&control.scope);
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

    /// Ends the stop of a scope, or the choice of its start; says whether there was one.
    pub fn forget(&mut self, scope: &Scope) -> bool {
        let chose = self.forget_choice(scope);
        self.forget_stop(scope) || chose
    }

    fn forget_choice(&mut self, scope: &Scope) -> bool {
        let before = self.choices.len();
        self.choices.retain(|choice| choice.scope != *scope);
        self.look_at_choices();
        self.choices.len() < before
    }

    fn look_at_choices(&mut self) {
        self.chosen_before = self.choices.iter().map(|choice| choice.from).max();
    }

    fn forget_stop(&mut self, scope: &Scope) -> bool {
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

    /// What the choices of starts make of a delivery accepted at `accepted_at`. One that several cover
    /// is dropped when one of them says so.
    pub fn decide_backlog(&self, facts: &Facts<'_>, accepted_at: Timestamp) -> Chosen {
        if self
            .chosen_before
            .is_none_or(|before| accepted_at >= before)
        {
            return Chosen::Goes;
        }
        let mut chosen = Chosen::Goes;
        for choice in &self.choices {
            if accepted_at >= choice.from || !facts.are_of(&choice.scope) {
                continue;
            }
            match choice.backlog {
                Backlog::DropStale(before) if accepted_at < before => return Chosen::Stale,
                Backlog::DropStale(_) | Backlog::All => {}
                Backlog::Newest => chosen = Chosen::IfNewest,
            }
        }
        chosen
    }

    /// Whether any start chose something other than to send everything.
    #[must_use]
    pub const fn has_choices(&self) -> bool {
        self.chosen_before.is_some()
    }

    /// The choices that ask for the newest alone: what is known of a backlog holds for these.
    #[must_use]
    pub fn newest_choices(&self) -> Vec<Choice> {
        let mut newest = self.choices.clone();
        newest.retain(|choice| choice.backlog == Backlog::Newest);
        newest
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
            self.forget_stop(&scope);
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
            backlog: Backlog::All,
        }
    }

    fn start(scope: &str, from: i64, backlog: Backlog) -> Control {
        Control {
            from: Timestamp(from),
            backlog,
            ..act(scope, Act::Start, None)
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

    /// The choice of the last act on each scope, looked through one by one.
    fn naive_choice(acts: &[Control], facts: &Facts<'_>, accepted_at: Timestamp) -> Chosen {
        let mut newest = false;
        for (i, start) in acts.iter().enumerate() {
            let later = acts.iter().skip(i + 1).any(|a| a.scope == start.scope);
            let concerns = covers(&start.scope, facts) && accepted_at < start.from;
            if later || !concerns || start.act == Act::Stop {
                continue;
            }
            match start.backlog {
                Backlog::DropStale(before) if accepted_at < before => return Chosen::Stale,
                Backlog::Newest => newest = true,
                Backlog::DropStale(_) | Backlog::All => {}
            }
        }
        if newest {
            Chosen::IfNewest
        } else {
            Chosen::Goes
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
        let backlog = prop_oneof![
            Just(Backlog::All),
            Just(Backlog::Newest),
            (0_i64..100).prop_map(|before| Backlog::DropStale(Timestamp(before))),
        ];
        let stop = (any::<bool>(), prop::option::of(0_i64..100));
        let one = (scope, stop, 0_i64..100, backlog).prop_map(|(s, (stop, end), from, backlog)| {
            if stop {
                act(s, Act::Stop, end)
            } else {
                start(s, from, backlog)
            }
        });
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
            let chosen = naive_choice(&acts, &facts, Timestamp(now));
            prop_assert_eq!(stops.decide_backlog(&facts, Timestamp(now)), chosen);
            // What has ended can be forgotten without a difference, and counts add up.
            prop_assert_eq!(stops.all().len(), stops.len());
            stops.forget_ended(Timestamp(now));
            prop_assert_eq!(stops.all().len(), stops.len());
            prop_assert_eq!(stops.decide(&facts, Timestamp(now)).map(|s| s.until), wanted);
            prop_assert_eq!(stops.decide_backlog(&facts, Timestamp(now)), chosen);
        }
    }

    #[test]
    fn a_choice_is_about_what_was_accepted_before_its_start_until_the_next_act() {
        let mut stops = Stops::new();
        stops.apply(act("channel/webhook", Act::Stop, None));
        let stale = start("channel/webhook", 50, Backlog::DropStale(Timestamp(20)));
        assert!(stops.apply(stale.clone()));
        assert!(!stops.apply(stale), "the same again changes nothing");
        assert!(stops.is_empty() && stops.newest_choices().is_empty());
        let decide = |stops: &Stops, at| stops.decide_backlog(&FACTS, Timestamp(at));
        assert_eq!(decide(&stops, 19), Chosen::Stale);
        assert_eq!(decide(&stops, 20), Chosen::Goes);
        assert!(stops.apply(start("sender/shop-1", 60, Backlog::Newest)));
        assert_eq!(decide(&stops, 19), Chosen::Stale, "the stricter choice");
        assert_eq!(decide(&stops, 59), Chosen::IfNewest);
        assert_eq!(decide(&stops, 60), Chosen::Goes);
        assert_eq!(stops.newest_choices().len(), 1);
        // Stopped again: what has not been dropped by then waits for the next choice.
        assert!(stops.apply(act("channel/webhook", Act::Stop, None)));
        assert_eq!(decide(&stops, 19), Chosen::IfNewest);
        assert!(stops.forget(&"sender/shop-1".parse().unwrap()));
        assert_eq!(decide(&stops, 19), Chosen::Goes);
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
