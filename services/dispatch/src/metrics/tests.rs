//! Every handle, rendered, against what the reference says of it.

use std::collections::BTreeSet;

use bongsu_domain::Reason;
use bongsu_runtime::metrics::InstrumentDoc;

use super::*;

fn render(metrics: &Metrics) -> String {
    metrics.render().unwrap()
}

/// The label names of the first sample of a metric, `le` of histograms left out.
fn labels_of(text: &str, doc: &InstrumentDoc) -> Option<BTreeSet<String>> {
    let suffix = if doc.kind == "histogram" { "_sum" } else { "" };
    let name = format!("{}{suffix}", doc.exposed());
    let line = text
        .lines()
        .find(|l| l.split(['{', ' ']).next() == Some(&name))?;
    let (_, rest) = line.split_once('{').unwrap_or(("", "}"));
    let (labels, _) = rest.rsplit_once('}')?;
    Some(
        labels
            .split("\",")
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, _)| name.to_owned())
            .collect(),
    )
}

#[test]
fn every_instrument_is_used_and_has_the_labels_it_is_described_with() {
    let metrics = Metrics::new().unwrap();
    let m = DispatchMetrics::new(&metrics, Channel::Webhook, Class::Bulk);
    m.started(2);
    m.attempted(AttemptResult::Accepted, Duration::from_millis(3));
    m.settled(Settled::refused(Reason::Repeat), 1_500);
    m.restored();
    m.mismatched();
    m.dead_lettered("unreadable");
    m.admitted(3);
    m.returned(1);
    let (mut held, mut parked, mut stopped) = (m.held(), m.in_lane(), m.stopped());
    held.set(1);
    parked.set(1);
    stopped.set(1);
    m.watermark_age(3, Duration::from_secs(2));
    let lateness = Lateness {
        kafka: Duration::from_secs(1),
        provider: Duration::from_millis(500),
        ..Lateness::default()
    };
    m.lateness(Platform::Ios, Some("shop"), lateness);
    m.limiter_wait(Duration::from_millis(1));
    m.restore(Duration::from_millis(20), 4_096);
    m.stalled();
    m.lapsed();
    m.stands_still(3, Culprit::Receipts);
    m.parked(1);
    m.flooded();
    m.guard_forgot(1);
    m.held_by_night(1);
    ChannelMetrics::new(&metrics, Channel::Webhook).bulk_places(1);
    let control = ControlMetrics::new(&metrics, Channel::Webhook);
    control.stops(1);
    control.unreadable();
    let text = render(&metrics);
    for doc in Instruments::describe()
        .into_iter()
        .chain(ControlInstruments::describe())
        .chain(ChannelInstruments::describe())
    {
        let found = labels_of(&text, &doc).unwrap_or_else(|| panic!("{} is not used", doc.name));
        let described: BTreeSet<String> = doc.labels.iter().map(|l| (*l).to_owned()).collect();
        assert_eq!(found, described, "{}", doc.name);
        let kind = format!("# TYPE {} {}", doc.exposed(), doc.kind);
        assert!(text.contains(&kind), "{kind} is missing");
    }
    // Parts of no length are not counted; the total is the sum of the others.
    assert!(!text.contains("part=\"order\""), "{text}");
    assert!(
        text.lines().any(
            |l| l.starts_with("bongsu_delivery_lateness_seconds_sum{app=\"shop\"")
                && l.ends_with(" 1.5")
        ),
        "{text}"
    );
}

#[test]
fn shares_add_up_and_return_to_zero_when_their_owner_is_gone() {
    let metrics = Metrics::new().unwrap();
    let m = DispatchMetrics::new(&metrics, Channel::Discord, Class::Transactional);
    let line = |n: i64| {
        format!("bongsu_deliveries_held{{channel=\"discord\",class=\"transactional\"}} {n}")
    };
    let (mut a, mut b) = (m.held(), m.held());
    a.set(5);
    b.set(2);
    a.set(3);
    assert!(render(&metrics).contains(&line(5)), "{}", render(&metrics));
    drop(a);
    assert!(render(&metrics).contains(&line(2)));
    drop(b);
    assert!(render(&metrics).contains(&line(0)));
}
