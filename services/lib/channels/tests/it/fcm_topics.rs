//! Subscriptions to FCM's topics, against its twin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_channels::fcm::token::RENEWAL_INTERVAL;
use bongsu_channels::fcm::topics::{BATCH, Change, TRIES, TopicClient, TopicError};
use bongsu_runtime::Clock;
use bongsu_simulators::fcm::Plan;
use bongsu_simulators::simulators::Settings as Twins;
use bongsu_simulators::{Kind, Simulators};
use futures_util::FutureExt as _;

use crate::fcm::settings_for;

struct Rig {
    twins: Simulators,
    client: TopicClient,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Rig {
    async fn start() -> Self {
        let twins = Simulators::start(Twins::of(&[Kind::Fcm])).await.unwrap();
        let settings = settings_for(twins.get(Kind::Fcm).unwrap());
        let account = &settings.accounts["test"];
        Self {
            client: TopicClient::new(account, &settings.client, Clock::system()).unwrap(),
            twins,
            waits: Arc::default(),
        }
    }

    fn topics(&self) -> BTreeMap<String, usize> {
        self.twins.get(Kind::Fcm).unwrap().fcm_topics().unwrap()
    }

    fn answers(&self, answer: &str) {
        let plan = Plan {
            topics_answer: answer.to_owned(),
            ..Plan::default()
        };
        self.twins.get(Kind::Fcm).unwrap().set_fcm(plan).unwrap();
    }

    async fn change(
        &self,
        change: Change,
        tokens: &[String],
    ) -> Result<Vec<Result<(), String>>, TopicError> {
        let waits = Arc::clone(&self.waits);
        let wait = move |pause| {
            waits.lock().unwrap().push(pause);
            async {}.boxed()
        };
        self.client
            .change(change, "/topics/news", tokens, wait)
            .await
    }
}

fn tokens(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("token:{n:08}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_batch_is_subscribed_and_taken_away_with_a_result_for_each_token() {
    let rig = Rig::start().await;
    let mut all = tokens(BATCH);
    all[7] = "no token".into();
    let results = rig.change(Change::Subscribe, &all).await.unwrap();
    assert_eq!(results.len(), BATCH);
    let wrong = Err("INVALID_ARGUMENT".to_owned());
    assert!(
        results
            .iter()
            .enumerate()
            .all(|(n, r)| *r == if n == 7 { wrong.clone() } else { Ok(()) })
    );
    assert_eq!(rig.topics()["news"], BATCH - 1);
    // Made again it is the same.
    rig.change(Change::Subscribe, &all).await.unwrap();
    assert_eq!(rig.topics()["news"], BATCH - 1);
    rig.change(Change::Unsubscribe, &all[..500]).await.unwrap();
    assert_eq!(rig.topics()["news"], BATCH - 500);
    let too_many = rig.change(Change::Subscribe, &tokens(BATCH + 1)).await;
    assert_eq!(
        too_many,
        Err(TopicError::Request("400 InvalidTokenCount".into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_renewed_and_what_is_refused_goes_on_for_no_time() {
    let rig = Rig::start().await;
    rig.change(Change::Subscribe, &tokens(1)).await.unwrap();
    rig.twins.get(Kind::Fcm).unwrap().revoke_tokens();
    rig.change(Change::Subscribe, &tokens(2)).await.unwrap();
    assert_eq!(rig.topics()["news"], 2);
    rig.answers("403 PERMISSION_DENIED");
    let refused = rig.change(Change::Subscribe, &tokens(1)).await;
    assert_eq!(
        refused,
        Err(TopicError::Account("403 PERMISSION_DENIED".into()))
    );
    assert!(rig.waits.lock().unwrap().is_empty());
    // Tokens are minted sparingly: the next one is a minute away.
    rig.answers("401");
    let refused = rig.change(Change::Subscribe, &tokens(1)).await;
    assert!(
        matches!(refused, Err(TopicError::Unavailable(_))),
        "{refused:?}"
    );
    let waits = rig.waits.lock().unwrap().clone();
    assert_eq!(waits, [RENEWAL_INTERVAL; TRIES as usize - 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_trouble_is_asked_ever_later_and_not_for_ever() {
    let rig = Rig::start().await;
    rig.answers("503 UNAVAILABLE");
    let failed = rig.change(Change::Subscribe, &tokens(3)).await;
    assert_eq!(
        failed,
        Err(TopicError::Unavailable("503 UNAVAILABLE".into()))
    );
    let waits = rig.waits.lock().unwrap().clone();
    assert_eq!(waits, [1, 2, 4, 8].map(Duration::from_secs));
    assert_eq!(waits.len() + 1, TRIES as usize);
    assert!(rig.topics().is_empty());
}
