//! The ledger's database fails: the bookkeeping may be late, but nothing is sent twice for it.

use std::time::Duration;

use bongsu_testkit::{FaultProxy, Postgres};
use serde_json::json;
use tokio::time::Instant;

use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::profile::Profile;
use crate::engine::row::Row;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);
/// How soon after the database is well again the ledger must know everything.
const CATCH_UP: Duration = Duration::from_secs(120);

/// Every transaction of the ledger is rolled back at its commit.
const REFUSE: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
    $$BEGIN RAISE EXCEPTION 'drill'; END$$; \
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON deliveries \
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()";
/// And no more.
const TAKE_AGAIN: &str = "DROP TRIGGER refuse ON deliveries";

/// A database of its own, behind a line that can break.
struct Database {
    postgres: Postgres,
    line: FaultProxy,
}

impl Database {
    fn start() -> anyhow::Result<Self> {
        let (postgres, address) = Postgres::start_tcp()?;
        let line = FaultProxy::start(address)?;
        Ok(Self { postgres, line })
    }

    /// Its URL through the line.
    fn url(&self) -> String {
        self.postgres.url_through(self.line.address())
    }

    /// Waits until the ledger knows every delivery of a run; gives the seconds it took.
    async fn until_all_known(&self, finished: &Finished) -> anyhow::Result<Option<f64>> {
        let begun = Instant::now();
        let sender = &finished.load.run;
        let ask = format!("SELECT count(*) FROM deliveries WHERE sender LIKE '{sender}-%'");
        loop {
            let known: u32 = self.postgres.ask(&ask)?.parse()?;
            if known >= finished.written.count {
                return Ok(Some(begun.elapsed().as_secs_f64()));
            }
            if begun.elapsed() > CATCH_UP {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// The database takes every statement and rolls back every commit.
pub(crate) async fn rolls_back(drill: &mut Drill) -> anyhow::Result<Row> {
    let database = Database::start()?;
    let out = Duration::from_secs(drill.size(15, 600));
    let (mut row, finished) = fail(drill, &database, "database_rolls_back", out, |broken| {
        database
            .postgres
            .run(if broken { REFUSE } else { TAKE_AGAIN })
    })
    .await?;
    conclude(drill, &database, &mut row, &finished).await?;
    Ok(row)
}

/// The ledger's connections to the database go silent for ever, without a reset; new ones pass.
pub(crate) async fn half_open(drill: &mut Drill) -> anyhow::Result<Row> {
    let database = Database::start()?;
    let out = Duration::from_secs(drill.size(15, 120));
    let (mut row, finished) = fail(drill, &database, "half_open_database", out, |broken| {
        if broken {
            database.line.freeze();
        }
        Ok(())
    })
    .await?;
    conclude(drill, &database, &mut row, &finished).await?;
    Ok(row)
}

async fn fail(
    drill: &mut Drill,
    database: &Database,
    name: &str,
    out: Duration,
    set: impl Fn(bool) -> anyhow::Result<()>,
) -> anyhow::Result<(Row, Finished)> {
    let rate = (drill.capacity().await? / 4.0).min(1_000.0);
    drill.world.start_ledger(&database.url())?;
    drill
        .world
        .start_fleet(&Profile::default(), WORKERS)
        .await?;
    let length = out.as_secs_f64() + 10.0;
    let load = drill.load(deliveries(rate, length), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    drill.until_it_flows(rate / 2.0).await?;
    // The ledger has begun, so the tables are there.
    let deadline = Instant::now() + Duration::from_secs(60);
    while database
        .postgres
        .ask("SELECT count(*) > 0 FROM deliveries")
        .ok()
        .as_deref()
        != Some("t")
    {
        anyhow::ensure!(Instant::now() < deadline, "the ledger writes nothing");
        drill.world.check_alive()?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    set(true)?;
    tokio::time::sleep(out).await;
    set(false)?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    let mut row = drill.row(name);
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("out_seconds", &out.as_secs());
    Ok((row, finished))
}

async fn conclude(
    drill: &mut Drill,
    database: &Database,
    row: &mut Row,
    finished: &Finished,
) -> anyhow::Result<()> {
    let caught_up = database.until_all_known(finished).await?;
    drill.world.check_alive()?;
    drill.world.stop_fleet().await?;
    drill.world.stop_ledger().await?;
    row.add("ledger_caught_up_after_seconds", &caught_up);
    row.promise(
        "the ledger knows every delivery in the end",
        caught_up.is_some(),
    );
    Ok(())
}
