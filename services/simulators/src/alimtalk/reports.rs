//! Which reports are given when: late, doubled and overtaken ones by a seeded plan. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::{Value, json};

use super::envelope::Destination;
use super::forms::{Form, request_of};
use super::plan::{Plan, ReportMode};
use crate::faults::{mix, share};

/// The most reports of one poll. [R: bizgo-api-spec, 2026-08]
const BATCH: usize = 1_000;
/// How often a report that was not acknowledged is posted again.
const REPEATS: u32 = 3;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Report {
    /// When it is given.
    pub(super) due_us: u64,
    /// Its number; tells reports of one moment apart.
    pub(super) n: u64,
    /// The dealer's key of the notification.
    pub(super) key: String,
    /// Whose.
    pub(super) form: Form,
    service: &'static str,
    code: &'static str,
    reference: String,
    sent_us: u64,
    /// How often it was posted.
    pub(super) posted: u32,
}

impl Report {
    /// As the dealer writes it.
    pub(super) fn json(&self) -> Value {
        let delivered = self.code == "10000";
        match self.form {
            Form::Bizgo | Form::Omni => {}
            Form::Bizplus => {
                return json!({
                    "messageId": self.key,
                    "resultCode": if delivered { "0000" } else { self.code },
                    "errorText": if delivered { "" } else { "Failed" },
                    "reportTime": plain_time(self.due_us),
                    "ref": self.reference,
                });
            }
            Form::Nhn => return self.hook(delivered),
        }
        json!({
            "msgKey": self.key,
            "serviceType": self.service,
            "msgType": if self.service == "ALIMTALK" { "AT" } else { self.service },
            "sendTime": time(self.sent_us),
            "reportTime": time(self.due_us),
            "reportType": "1",
            "reportCode": self.code,
            "reportText": if self.code == "10000" { "Success" } else { "Failed" },
            "ref": self.reference,
        })
    }
}

impl Report {
    /// A result of NHN's: one per recipient, the failover's beside it.
    fn hook(&self, delivered: bool) -> Value {
        let (request, number) = request_of(&self.key);
        let failover = self.service != "ALIMTALK";
        let (status, code, resend) = match (failover, delivered) {
            (true, true) => ("FAILED", "3018", "RSC04"),
            (true, false) => ("FAILED", "3018", "RSC05"),
            (false, true) => ("COMPLETED", "1000", "RSC01"),
            (false, false) => ("FAILED", self.code, "RSC01"),
        };
        json!({
            "hookId": format!("{}-{}", self.key, self.n), "requestId": request,
            "recipientSeq": number, "messageStatus": status, "resendStatus": resend,
            "resultCode": code, "recipientGroupingKey": self.reference,
            "receiveDate": plain_time(self.due_us),
        })
    }
}

/// A time as `2026-11-25 18:00:00`, in Korea.
fn plain_time(us: u64) -> String {
    let text = time(us);
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// A time as `2026-11-25T18:00:00.000+09:00`.
fn time(us: u64) -> String {
    // Civil date from days since 1970 (Howard Hinnant's algorithm), in Korea's time.
    let seconds = us / 1_000_000 + 9 * 3_600;
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}+09:00",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60,
        us / 1_000 % 1_000
    )
}

/// A recipient that was taken.
#[derive(Clone, Copy)]
pub(super) struct Sent<'a> {
    pub(super) form: Form,
    pub(super) key: &'a str,
    pub(super) destination: &'a Destination,
    /// The word of the failover's step.
    pub(super) failover: Option<&'a str>,
}

/// Reports to be given.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BinaryHeap<Reverse<Report>>,
    made: u64,
    /// NHN's results, when they are asked for.
    listed: Vec<Report>,
    /// The batch that was fetched and not yet acknowledged.
    fetched: Option<(String, Vec<Report>)>,
    batches: u64,
}

impl Schedule {
    /// Schedules the reports on a recipient that was taken; how many there are.
    pub(super) fn add(&mut self, plan: &Plan, sent: &Sent<'_>, now_us: u64) -> u64 {
        let Sent {
            form,
            key,
            destination,
            failover,
        } = *sent;
        let reports = &plan.reports;
        if reports.mode == ReportMode::None {
            return 0;
        }
        let before = self.made;
        let seed = reports.seed;
        let n = self.made;
        let mut due_us = now_us + reports.delay_ms * 1_000;
        if share(seed, n, 2) < reports.late_ratio {
            due_us += reports.late_ms * 1_000;
        }
        if share(seed, n, 3) < reports.reorder_ratio {
            due_us += mix(seed, n, 4) % (reports.reorder_ms * 1_000 + 1);
        }
        let doubled = share(seed, n, 5) < reports.double_ratio;
        let unreachable = plan.unreachable.contains(&destination.to);
        let code = match (unreachable, share(seed, n, 6) < reports.undelivered_ratio) {
            (true, _) => "3018",
            (false, true) => "3008",
            (false, false) => "10000",
        };
        let listed = form == Form::Nhn && reports.mode == ReportMode::Polling;
        let reference = if reports.forgets_reference {
            String::new()
        } else {
            destination.reference.clone()
        };
        let mut push = |due_us, service, code| {
            let report = Report {
                due_us,
                n: self.made,
                key: key.to_owned(),
                form,
                service,
                code,
                reference: reference.clone(),
                sent_us: now_us,
                posted: 0,
            };
            self.made += 1;
            if listed {
                self.listed.push(report);
            } else {
                self.due.push(Reverse(report));
            }
        };
        push(due_us, "ALIMTALK", code);
        if doubled {
            push(due_us + 1_000, "ALIMTALK", code);
        }
        match failover {
            Some(step) if unreachable => {
                let service = if step == "sms" { "SMS" } else { "MMS" };
                push(due_us + 1_000, service, "10000");
            }
            _ => {}
        }
        self.made - before
    }

    /// NHN's results whose time lies between two, and which are there.
    pub(super) fn listed(&self, from_us: u64, until_us: u64, now_us: u64) -> Vec<&Report> {
        let until_us = until_us.min(now_us);
        let within = |r: &&Report| (from_us..=until_us).contains(&r.due_us);
        self.listed.iter().filter(within).collect()
    }

    /// How many wait, those fetched and not acknowledged included.
    pub(super) fn waiting(&self) -> usize {
        self.due.len()
            + self
                .fetched
                .as_ref()
                .map_or(0, |(_, reports)| reports.len())
    }

    /// The next report that is due; else when the next one will be.
    pub(super) fn next(&mut self, now_us: u64) -> Result<Report, Option<u64>> {
        match self.due.peek() {
            Some(Reverse(report)) if report.due_us <= now_us => {
                self.due.pop().map(|Reverse(report)| report).ok_or(None)
            }
            Some(Reverse(report)) => Err(Some(report.due_us)),
            None => Err(None),
        }
    }

    /// Takes back a report that was not acknowledged; false when it is given up.
    pub(super) fn again(&mut self, mut report: Report, now_us: u64, retry_ms: u64) -> bool {
        if report.posted > REPEATS {
            return false;
        }
        report.due_us = now_us + retry_ms * 1_000;
        self.due.push(Reverse(report));
        true
    }

    /// The batch to be fetched: the one not yet acknowledged, else what is due.
    pub(super) fn batch(&mut self, now_us: u64) -> (&str, &[Report]) {
        if self.fetched.is_none() {
            let mut reports = Vec::new();
            while reports.len() < BATCH {
                match self.next(now_us) {
                    Ok(report) => reports.push(report),
                    Err(_) => break,
                }
            }
            if !reports.is_empty() {
                self.batches += 1;
                self.fetched = Some((format!("batch-{}", self.batches), reports));
            }
        }
        self.fetched
            .as_ref()
            .map_or(("", &[][..]), |(id, reports)| (id, reports))
    }

    /// Forgets a fetched batch; how many reports it held.
    pub(super) fn acknowledge(&mut self, id: &str) -> usize {
        match self.fetched.take() {
            Some((fetched, reports)) if fetched == id => reports.len(),
            other => {
                self.fetched = other;
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alimtalk::plan::ReportPlan;

    fn plan(change: impl FnOnce(&mut ReportPlan)) -> Plan {
        let mut plan = Plan::default();
        plan.reports.mode = ReportMode::Polling;
        change(&mut plan.reports);
        plan
    }

    fn destination(to: &str) -> Destination {
        Destination {
            to: to.into(),
            ..Destination::default()
        }
    }

    fn add(schedule: &mut Schedule, plan: &Plan, key: &str, to: &str, failover: Option<&str>) {
        let destination = destination(to);
        let sent = Sent {
            form: Form::Bizgo,
            key,
            destination: &destination,
            failover,
        };
        schedule.add(plan, &sent, 0);
    }

    #[test]
    fn nhns_results_are_listed_by_their_time() {
        let (plan, mut schedule) = (plan(|_| {}), Schedule::default());
        let destination = destination("1");
        let sent = Sent {
            form: Form::Nhn,
            key: "abc004",
            destination: &destination,
            failover: None,
        };
        schedule.add(&plan, &sent, 0);
        let count = |from, until, now| schedule.listed(from, until, now).len();
        assert_eq!(count(0, u64::MAX, 20_000), 1);
        assert_eq!(count(0, u64::MAX, 19_999), 0, "not there yet");
        assert_eq!(count(20_001, u64::MAX, 50_000), 0);
        let hook = schedule.listed(0, u64::MAX, 20_000)[0].json();
        assert_eq!(
            (&hook["requestId"], &hook["recipientSeq"]),
            (&json!("abc"), &json!(5))
        );
        assert_eq!(schedule.waiting(), 0);
    }

    #[test]
    fn times_are_koreas() {
        assert_eq!(time(0), "1970-01-01T09:00:00.000+09:00");
        assert_eq!(time(1_795_600_800_123_000), "2026-11-25T19:00:00.123+09:00");
        assert_eq!(time(951_750_000_000_000), "2000-02-29T00:00:00.000+09:00");
    }

    #[test]
    fn a_batch_is_given_again_until_it_is_acknowledged() {
        let (plan, mut schedule) = (plan(|_| {}), Schedule::default());
        for i in 0..1_500 {
            add(&mut schedule, &plan, &format!("k{i}"), "1", None);
        }
        assert_eq!(schedule.batch(0).1.len(), 0, "not due yet");
        let id = schedule.batch(20_000).0.to_owned();
        assert_eq!(schedule.batch(20_000).1.len(), 1_000);
        assert_eq!(schedule.acknowledge("other"), 0);
        assert_eq!(schedule.batch(20_000).0, id);
        assert_eq!(schedule.acknowledge(&id), 1_000);
        assert_eq!(schedule.batch(20_000).1.len(), 500);
        assert_eq!(schedule.waiting(), 500);
    }

    #[test]
    fn shares_are_kept_and_the_failover_tells_of_both_ways() {
        let mut troubled = plan(|r| {
            r.late_ratio = 0.1;
            r.double_ratio = 0.2;
            r.seed = 7;
        });
        let mut schedule = Schedule::default();
        for i in 0..10_000 {
            add(&mut schedule, &troubled, &format!("k{i}"), "1", None);
        }
        assert!((11_800..12_200).contains(&schedule.waiting()));
        let mut on_time = 0;
        while schedule.next(21_000).is_ok() {
            on_time += 1;
        }
        assert!((10_600..11_000).contains(&on_time), "{on_time}");
        troubled.unreachable.insert("2".into());
        let mut schedule = Schedule::default();
        add(&mut schedule, &plan(|_| {}), "a", "2", Some("mms"));
        assert_eq!(schedule.waiting(), 1);
        troubled.reports.double_ratio = 0.0;
        add(&mut schedule, &troubled, "b", "2", Some("mms"));
        assert_eq!(schedule.waiting(), 3);
    }

    #[test]
    fn a_report_is_given_up_after_three_repeats() {
        let (plan, mut schedule) = (plan(|_| {}), Schedule::default());
        add(&mut schedule, &plan, "k", "1", None);
        let mut now = 20_000;
        for posted in 1..=4 {
            let mut report = schedule.next(now).unwrap();
            report.posted = posted;
            now += 1_000_000;
            assert_eq!(schedule.again(report, now - 1_000_000, 1_000), posted < 4);
        }
        assert_eq!(schedule.next(u64::MAX), Err(None));
    }
}
