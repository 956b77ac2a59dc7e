//! One full record of each kind.

use bongsu_domain::Pairs;
use bongsu_schemas::records::{
    Address, ChannelPlan, Content, JournalMark, JournalOwner, JournalWait, Recipient, Target,
};
use bongsu_schemas::{
    AuditEntry, Control, Delivery, JournalEntry, Millis, NotificationEvent, RateShare, Receipt,
    Suppression,
};

pub(crate) fn event() -> NotificationEvent {
    NotificationEvent {
        id: "e-1".into(),
        sender: "shop-1".into(),
        class: "transactional".into(),
        purpose: "informational".into(),
        category: Some("chat".into()),
        target: Target {
            recipients: vec![Recipient {
                id: "u-1".into(),
                addresses: vec![Address {
                    channel: "webhook".into(),
                    address: "https://example.com/hook/1".into(),
                    address_id: Some("a-1".into()),
                    platform: Some("ios".into()),
                    app: Some("app".into()),
                    registered_at: Some(Millis(1_700_000_000_000)),
                    ..Address::default()
                }],
                time_zone: Some("Asia/Seoul".into()),
                consents: vec!["advertising".into()],
                ..Recipient::default()
            }],
            audience: None,
        },
        plan: ChannelPlan {
            channels: vec!["webhook".into()],
            fallback: vec![],
        },
        content: Content {
            title: Some("안녕".into()),
            body: Some("hello".into()),
            data: Pairs::from([("seq".to_owned(), "1".to_owned())]),
            ..Content::default()
        },
        on_uncertain: "resend".into(),
        labels: Pairs::from([("team".to_owned(), "a".to_owned())]),
        ..NotificationEvent::default()
    }
}

pub(crate) fn delivery() -> Delivery {
    Delivery {
        delivery_id: "543ca93d-b1f3-326a-271e-8b06ef78cd5d".into(),
        event_id: "e-1".into(),
        sender: "shop-1".into(),
        class: "bulk".into(),
        purpose: "advertising".into(),
        channel: "webhook".into(),
        recipient: "u-1".into(),
        address: "https://example.com/hook/1".into(),
        address_id: "a-1".into(),
        account: "default".into(),
        platform: "server".into(),
        content: Content {
            body: Some("hello".into()),
            ..Content::default()
        },
        content_hash: "00000000000000ff".into(),
        step: 1,
        origin: "event".into(),
        accepted_at: Millis(1_760_000_000_000),
        expires_at: Millis(1_760_003_600_000),
        on_uncertain: "resend".into(),
        worker_id: Some("fanout-0".into()),
        night_consent: true,
        ..Delivery::default()
    }
}

pub(crate) fn receipt() -> Receipt {
    Receipt {
        kind: "outcome".into(),
        receipt_id: "4f8f1b1c-0000-0000-0000-000000000001".into(),
        delivery_id: Some("543ca93d-b1f3-326a-271e-8b06ef78cd5d".into()),
        event_id: "e-1".into(),
        sender: "shop-1".into(),
        class: "transactional".into(),
        purpose: "transactional".into(),
        channel: Some("webhook".into()),
        outcome: "accepted".into(),
        reason: "none".into(),
        attempts: 2,
        at: Millis(1_760_000_000_500),
        origin: "event".into(),
        possible_duplicate: true,
        source_topic: Some("bongsu.deliveries.webhook".into()),
        source_partition: Some(3),
        source_offset: Some(77),
        ..Receipt::default()
    }
}

pub(crate) fn journal_entry() -> JournalEntry {
    JournalEntry {
        kind: "checkpoint".into(),
        worker_id: "dispatch-0".into(),
        at: Millis(1_760_000_000_500),
        watermark: 40,
        results_floor: 900,
        lane_floor: 3,
        settled: vec![2, 1, 2, 3, 4, 5, 6, 7, 8],
        waiting: vec![JournalWait {
            lane: true,
            offset: 4,
            tag: -7,
            attempts: 2,
            not_before: 1_760_000_001_000,
            uncertain: true,
        }],
        intents: vec![JournalMark {
            lane: false,
            offset: 41,
            tag: 9,
        }],
        claim: true,
        epoch: 30,
        lane_end: 5,
        owners: vec![JournalOwner {
            epoch: 20,
            lane_end: 2,
        }],
        ..JournalEntry::default()
    }
}

pub(crate) fn control() -> Control {
    Control {
        scope: "account/webhook/default".into(),
        action: "stop".into(),
        who: "ann@desk".into(),
        why: "the provider asked us to".into(),
        from: Millis(1_760_000_000_000),
        until: Some(Millis(1_760_003_600_000)),
        backlog: "drop-stale".into(),
        stale_before: Some(Millis(1_759_996_400_000)),
    }
}

pub(crate) fn audit_entry() -> AuditEntry {
    AuditEntry {
        actor: "ann@desk".into(),
        at: Millis(1_760_000_000_000),
        act: "stop".into(),
        scope: "account/webhook/default".into(),
        why: "the provider asked us to".into(),
        details: Pairs::from([("until".to_owned(), "2025-10-09T09:53:20Z".to_owned())]),
    }
}

pub(crate) fn rate_share() -> RateShare {
    RateShare {
        scope: "account:webhook/default".into(),
        worker_id: "dispatch-0".into(),
        epoch: 1_760_000_000_000,
        sequence: 7,
        limit: 200,
        demand: 150,
        using: 60,
        claimed: 100,
        left: false,
        expires_at: Some(Millis(1_760_000_003_000)),
        paused_until: Some(Millis(1_760_000_000_700)),
        rate: 25_500,
        quiet_ms: 1_200,
    }
}

pub(crate) fn suppression() -> Suppression {
    Suppression {
        channel: "apns".into(),
        account: "shop".into(),
        address_id: "a-1".into(),
        app: Some("app".into()),
        hold: "suppressed".into(),
        reason: "invalid_address".into(),
        at: Millis(1_700_000_000_000),
        registered_at: Some(Millis(1_600_000_000_000)),
        verdicts: 2,
        first_at: Some(Millis(1_650_000_000_000)),
        by: "hygiene".into(),
        why: None,
    }
}
