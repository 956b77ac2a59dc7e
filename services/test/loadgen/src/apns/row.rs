//! What a scenario came to.

use serde::Serialize;

use super::twin::Usage;
use super::{Job, Run};

/// One system in one scenario: the median of its runs.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(super) story: &'static str,
    pub(super) scenario: &'static str,
    /// `bare` (our provider in a closed loop), `h2load` and `apns2` (other clients), or `bongsu`
    /// (dispatch from Kafka to Kafka; in `correctness` the whole pipeline).
    pub(super) system: &'static str,
    pub(super) sent: u64,
    pub(super) in_flight: usize,
    pub(super) repeats: usize,
    /// CPU of the client's process; in `correctness` of all services.
    pub(super) cpu_us_per_notification: f64,
    pub(super) twin_cpu_us_per_notification: f64,
    pub(super) per_second: f64,
    pub(super) seconds: f64,
    /// Of single pushes; none where only the whole was timed.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) duplicate_bound: u64,
    /// Connections opened in the last run, and the most streams seen open at once.
    pub(super) connections: u64,
    pub(super) open_at_once: u64,
    /// CPU and rate of every run, lowest and highest.
    pub(super) cpu_us_range: [f64; 2],
    pub(super) per_second_range: [f64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cores_for_25000_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) more: Option<serde_json::Value>,
    /// Whether every promise was kept.
    pub(crate) kept: bool,
}

/// The runs of one system.
pub(super) struct Runs {
    pub(super) system: &'static str,
    scenario: &'static str,
    done: Vec<Done>,
}

/// One run, judged.
struct Done {
    sent: u64,
    in_flight: usize,
    run: Run,
    twin_cpu_us: u64,
    counted: u64,
    connections: u64,
}

impl Done {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    fn each(&self, total: u64) -> f64 {
        total as f64 / self.sent as f64
    }
}

impl Runs {
    pub(super) const fn new(system: &'static str, scenario: &'static str) -> Self {
        Self {
            system,
            scenario,
            done: Vec::new(),
        }
    }

    /// Judges a run by what the twin counted.
    pub(super) async fn add(
        &mut self,
        job: &Job<'_>,
        before: Usage,
        run: Run,
    ) -> anyhow::Result<()> {
        let after = job.twin.after(&before).await?;
        let done = Done {
            sent: u64::from(job.pushes),
            in_flight: job.in_flight,
            run,
            twin_cpu_us: after.cpu_us,
            counted: job.twin.accepted().await?,
            connections: after.connections,
        };
        eprintln!(
            "{} {}: {:.0}/s, {:.1} us of CPU a push (twin {:.1})",
            self.scenario,
            self.system,
            f64::from(job.pushes) / run.seconds,
            done.each(run.cpu_us),
            done.each(after.cpu_us),
        );
        self.done.push(done);
        Ok(())
    }

    /// The median of the runs; none without any.
    pub(super) fn row(&self) -> Option<Row> {
        let last = self.done.last()?;
        let cpu = self.sorted(|d| d.each(d.run.cpu_us));
        let seconds = self.sorted(|d| d.run.seconds);
        let rates = self.sorted(|d| 1.0 / (d.each(1) * d.run.seconds));
        let millis = |d: std::time::Duration| d.as_secs_f64() * 1_000.0;
        let timed = |of: fn(&Run) -> std::time::Duration| {
            let times = self.sorted(|d| millis(of(&d.run)));
            Some(median(&times)).filter(|ms| *ms > 0.0)
        };
        // One more where a client tries the token first.
        let extra = u64::from(self.system == "apns2");
        let lost = |d: &Done| d.sent.saturating_sub(d.run.accepted.min(d.counted));
        let copies = |d: &Done| d.counted.saturating_sub(d.sent + extra);
        let worst = |of: &dyn Fn(&Done) -> u64| self.done.iter().map(of).max().unwrap_or(0);
        let (lost, duplicates) = (worst(&lost), worst(&copies));
        Some(Row {
            story: "apns",
            scenario: self.scenario,
            system: self.system,
            sent: last.sent,
            in_flight: last.in_flight,
            repeats: self.done.len(),
            cpu_us_per_notification: median(&cpu),
            twin_cpu_us_per_notification: median(&self.sorted(|d| d.each(d.twin_cpu_us))),
            per_second: median(&rates),
            seconds: median(&seconds),
            p50_ms: timed(|run| run.p50),
            p99_ms: timed(|run| run.p99),
            lost,
            duplicates,
            connections: last.connections,
            cpu_us_range: ends(&cpu),
            per_second_range: ends(&rates),
            kept: lost == 0 && duplicates == 0,
            ..Row::default()
        })
    }

    fn sorted(&self, of: impl Fn(&Done) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.done.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn ends(sorted: &[f64]) -> [f64; 2] {
    let first = sorted.first().copied().unwrap_or(0.0);
    [first, sorted.last().copied().unwrap_or(0.0)]
}
