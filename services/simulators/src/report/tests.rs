use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Row {
    event: u8,
    path: u8,
    status: Option<u16>,
    after_us: u64,
}

const PATHS: [&str; 3] = ["/hook/0", "/hook/1", "/hook/2"];

fn seen<'a>(n: usize, at: u64, row: &Row, names: &'a [String]) -> Seen<'a> {
    Seen {
        n: n as u64,
        read_us: at,
        answered_us: row.status.map(|_| at),
        status: row.status,
        delivery_id: &names[usize::from(row.path) * 16 + usize::from(row.event)],
        event_id: &names[usize::from(row.event)],
        sender: "s",
        path: PATHS[usize::from(row.path)],
        seq: Some(i64::from(row.event)),
        worker: "w",
        attempt: 1,
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let status = prop_oneof![
        4 => Just(Some(200)),
        1 => Just(Some(503)),
        1 => Just(None),
    ];
    let row =
        (0u8..16, 0u8..3, status, 0u64..400_000).prop_map(|(event, path, status, after_us)| Row {
            event,
            path,
            status,
            after_us,
        });
    prop::collection::vec(row, 0..60)
}

proptest! {
    #[test]
    fn the_fold_agrees_with_the_definitions_read_literally(rows in rows()) {
        let names: Vec<String> = (0..64).map(|i| format!("id{i}")).collect();
        let mut analysis = Analysis::new(&[1_000]);
        let mut at = 1_000_000;
        let mut list = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            at += row.after_us;
            let one = seen(n, at, row, &names);
            analysis.see(&one);
            list.push(one);
        }
        let report = analysis.finish();

        let error = |s: &Seen<'_>| s.status == Some(503);
        let mut duplicates = 0;
        let mut accepted = 0;
        for name in &names {
            let copies = list.iter().filter(|s| s.delivery_id == name && !error(s)).count();
            duplicates += copies.saturating_sub(1);
            let taken = list.iter().any(|s| s.delivery_id == name && s.status == Some(200));
            accepted += usize::from(taken);
        }
        let violations = (0..list.len())
            .filter(|i| {
                (0..*i).any(|j| list[j].path == list[*i].path && list[j].seq > list[*i].seq)
            })
            .count();
        let busiest = (0..list.len())
            .map(|i| {
                let from = list[i].read_us;
                list.iter().filter(|s| (from..from + 1_000_000).contains(&s.read_us)).count()
            })
            .max()
            .unwrap_or(0);

        prop_assert_eq!(usize::try_from(report.requests), Ok(list.len()));
        prop_assert_eq!(usize::try_from(report.errors), Ok(list.iter().filter(|s| error(s)).count()));
        prop_assert_eq!(usize::try_from(report.duplicates), Ok(duplicates));
        prop_assert_eq!(usize::try_from(report.accepted), Ok(accepted));
        prop_assert_eq!(usize::try_from(report.order_violations), Ok(violations));
        prop_assert_eq!(usize::try_from(report.max_in_window.get(&1_000).copied().unwrap_or(0)), Ok(busiest));
    }
}

#[test]
fn a_resend_behind_its_follower_is_a_violation_and_a_retry_in_place_is_none() {
    let names: Vec<String> = (0..64).map(|i| format!("id{i}")).collect();
    let row = |event, status| Row {
        event,
        path: 0,
        status,
        after_us: 1,
    };
    let mut analysis = Analysis::new(&[]);
    let requests = [
        row(1, Some(503)),
        row(1, Some(200)),
        row(2, None),
        row(2, Some(200)),
        row(1, Some(503)),
    ];
    for (n, row) in requests.iter().enumerate() {
        analysis.see(&seen(n, n as u64, row, &names));
    }
    let report = analysis.finish();
    assert_eq!(report.order_violations, 1);
    assert_eq!(
        report.order_violation_list[0],
        Violation {
            n: 4,
            sender: "s".into(),
            path: "/hook/0".into(),
            seq: 1,
            after: 2
        }
    );
    // The second request of 2 is a copy: its first was read whole, and never answered.
    assert_eq!((report.duplicates, report.unanswered), (1, 1));
    assert_eq!(report.copies_per_address.max, 2);
}

#[test]
fn requests_exactly_a_window_apart_are_not_in_one_window() {
    let mut sliding = Sliding::default();
    assert_eq!(sliding.add(0, 1_000), 1);
    assert_eq!(sliding.add(1_000, 1_000), 1);
    assert_eq!(sliding.add(1_999, 1_000), 2);
}
