//! One suite over every backend: SQLite in a file and in memory, a real PostgreSQL, and memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod contention;
mod half_open;
mod hygiene;
mod lookups;
mod meaning;
mod offsets;
mod reports;
mod same;
mod sample;
mod worlds;

use bongsu_runtime::Secret;
use bongsu_store::Settings;

use worlds::conformance;

conformance! {
    meaning: an_outcome_is_counted_once_however_often_it_is_read,
    meaning: accepted_beats_the_rest_and_the_first_stays_otherwise,
    meaning: a_report_moves_the_outcome_forward_and_the_counts_with_it,
    meaning: a_report_that_comes_first_is_not_lost,
    meaning: an_attempt_shows_a_delivery_without_counting_it,
    meaning: the_timeline_tells_the_whole_life_in_order,
    meaning: a_text_with_a_nul_is_stored,
    offsets: receipts_below_the_stored_offset_are_skipped,
    offsets: gaps_are_fine_and_offsets_never_go_back,
    offsets: forgotten_offsets_are_read_again_and_change_nothing,
    lookups: a_key_sees_its_senders_only,
    lookups: an_event_of_two_senders_is_ambiguous,
    lookups: an_event_shows_deliveries_and_refusals_page_by_page,
    lookups: a_recipients_list_is_read_page_by_page,
    lookups: counts_are_summed_by_minute,
    lookups: counts_are_filtered,
    contention: two_ledgers_with_the_same_batch_count_it_once,
    contention: writers_of_the_same_deliveries_never_lose_a_transition,
    same: random_histories_look_as_in_memory,
    hygiene: suppressions_are_kept_changed_and_forgotten,
    reports: a_report_waits_for_its_delivery_and_is_found_by_the_providers_id,
    reports: reports_are_kept_once_and_looked_at_when_due,
    hygiene: windows_move_with_their_batch_and_never_twice,
}

/// Gateway and ledger begin at the same moment, on a file that neither has seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_may_make_a_new_file_at_once() {
    for _ in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            url: Secret::new(format!(
                "sqlite:{}",
                directory.path().join("new.db").display()
            )),
            ..Settings::default()
        };
        // Each connection has a thread of its own.
        let opening = (0..8).map(|_| bongsu_store::open(&settings));
        for opened in futures_util::future::join_all(opening).await {
            opened.unwrap();
        }
    }
}
