//! The backends under test.

use std::sync::Arc;
use std::time::Duration;

use bongsu_runtime::Secret;
use bongsu_store::{LedgerStore, MemoryStore, Settings, open};
use bongsu_testkit::Postgres;

/// A store with what must outlive it.
pub(crate) struct World {
    pub(crate) store: Arc<dyn LedgerStore>,
    _beneath: Box<dyn std::any::Any>,
}

async fn opened(url: String, beneath: impl std::any::Any) -> World {
    let settings = Settings {
        url: Secret::new(url),
        ..Settings::default()
    };
    World {
        store: open(&settings).await.unwrap(),
        _beneath: Box::new(beneath),
    }
}

pub(crate) async fn memory() -> World {
    World {
        store: Arc::new(MemoryStore::new()),
        _beneath: Box::new(()),
    }
}

pub(crate) async fn sqlite_memory() -> World {
    opened("sqlite::memory:".to_owned(), ()).await
}

pub(crate) async fn sqlite_file() -> World {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    opened(format!("sqlite:{}", path.display()), directory).await
}

pub(crate) async fn postgres() -> World {
    let server = Postgres::start().unwrap();
    opened(server.url(), server).await
}

pub(crate) async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(120), case)
        .await
        .expect("the case ends in time");
}

macro_rules! conformance {
    ($($file:ident: $case:ident),+ $(,)?) => {
        $crate::worlds::conformance!(@world memory, $($file: $case),+);
        $crate::worlds::conformance!(@world sqlite_memory, $($file: $case),+);
        $crate::worlds::conformance!(@world sqlite_file, $($file: $case),+);
        $crate::worlds::conformance!(@world postgres, $($file: $case),+);
    };
    (@world $world:ident, $($file:ident: $case:ident),+) => {
        mod $world {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let world = crate::worlds::$world().await;
                    crate::worlds::in_time(crate::$file::$case(&world.store)).await;
                }
            )+
        }
    };
}
pub(crate) use conformance;
