//! A connection to PostgreSQL that dies without a word in the middle of a transaction.

use std::time::Duration;

use bongsu_domain::Outcome;
use bongsu_runtime::Secret;
use bongsu_store::{LedgerStore, ReceiptBatch, Settings};
use bongsu_testkit::{FaultProxy, Postgres};
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::sync::Arc;

use crate::sample::{BEGIN, batch, counted, outcome};

/// Long enough for the slowest machine: without the mend it is two hours.
const PATIENCE: Duration = Duration::from_secs(120);

/// Its locks are given up, and what it wanted to write is written by the next try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_locks_of_a_connection_that_went_silent_are_given_up() {
    let (postgres, address) = Postgres::start_tcp().unwrap();
    let line = FaultProxy::start(address).unwrap();
    let settings = Settings {
        url: Secret::new(postgres.url_through(line.address())),
        abandoned_after: bongsu_runtime::Duration::secs(1),
        ..Settings::default()
    };
    let store = bongsu_store::open(&settings).await.unwrap();
    let receipts = batch(0, 0, vec![outcome(Outcome::Accepted, BEGIN)]);

    // Held up by somebody else after it has locked its offsets, it goes silent.
    let mut other = PgConnection::connect(&postgres.url()).await.unwrap();
    other.execute("BEGIN").await.unwrap();
    let lock = "LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE";
    other.execute(lock).await.unwrap();
    tokio::select! {
        _ = store.apply(&receipts) => panic!("the table is locked"),
        () = until_somebody_waits(&postgres) => {}
    }
    line.freeze();
    other.execute("ROLLBACK").await.unwrap();

    let written = tokio::time::timeout(PATIENCE, until_written(&store, &receipts)).await;
    assert!(written.is_ok(), "its locks are still held");
    assert_eq!(counted(&store).await, ["accepted=1"]);
}

async fn until_somebody_waits(postgres: &Postgres) {
    let ask = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while postgres.ask(ask).unwrap() != "t" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As the ledger does: it gives a try up that takes too long.
async fn until_written(store: &Arc<dyn LedgerStore>, receipts: &ReceiptBatch) {
    const TRY: Duration = Duration::from_secs(5);
    while !matches!(
        tokio::time::timeout(TRY, store.apply(receipts)).await,
        Ok(Ok(_))
    ) {}
}
