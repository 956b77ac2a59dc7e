//! The contract suite.

mod groups;
mod tails;
mod topics;
mod transactions;
mod writing;

macro_rules! contract {
    ($($part:ident :: $name:ident),* $(,)?) => {
        mod on_the_local_log {
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    crate::world::within(super::$part::$name(crate::world::World::local())).await;
                }
            )*
        }
        mod on_kafka {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::world::within(super::$part::$name(crate::world::World::kafka())).await;
                }
            )*
        }
    };
}

contract! {
    writing::records_keep_their_order_and_tell_their_offsets,
    writing::a_producer_that_lingers_keeps_order_and_answers_every_record,
    writing::a_record_keeps_key_value_and_headers,
    writing::a_record_too_large_is_refused_for_good,
    writing::an_unknown_topic_is_refused,
    writing::drain_waits_for_every_acknowledgement,
    groups::a_member_reads_in_order_and_resumes_with_its_metadata,
    groups::a_revocation_waits_for_its_release_and_commits_still_work,
    groups::nothing_of_a_released_partition_is_given_out,
    groups::closing_hands_the_partitions_over_at_once,
    groups::a_commit_for_a_foreign_partition_is_refused,
    groups::a_paused_partition_goes_on_where_it_stopped,
    groups::a_slow_owner_loses_nothing,
    transactions::a_transaction_is_whole,
    transactions::a_transaction_larger_than_the_queue_is_whole,
    transactions::a_transaction_carries_the_offsets,
    transactions::an_aborted_transaction_is_invisible,
    transactions::a_newer_producer_fences_the_older,
    transactions::offsets_of_a_foreign_member_abort,
    tails::empty_partitions_end_at_once,
    tails::a_tail_stops_before_until,
    tails::a_tail_starts_at_a_time,
    tails::a_tail_behind_the_oldest_record_starts_there,
    tails::several_topics_end_where_they_end,
    tails::a_follower_sees_what_comes,
    topics::a_plan_makes_topics_and_keeps_foreign_settings,
    topics::a_topic_made_twice_is_refused,
    topics::lag_tells_committed_and_end,
    topics::a_schema_written_later_is_found,
    topics::a_ping_is_answered,
}

/// The same for groups that the broker keeps (KIP-848).
macro_rules! contract_of_broker_groups {
    ($($part:ident :: $name:ident),* $(,)?) => {
        mod on_kafka_with_broker_groups {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let world = crate::world::World::kafka_with_broker_groups();
                    crate::world::within(super::$part::$name(world)).await;
                }
            )*
        }
    };
}

contract_of_broker_groups! {
    groups::a_member_reads_in_order_and_resumes_with_its_metadata,
    groups::a_revocation_waits_for_its_release_and_commits_still_work,
    groups::nothing_of_a_released_partition_is_given_out,
    groups::closing_hands_the_partitions_over_at_once,
    groups::a_commit_for_a_foreign_partition_is_refused,
    groups::a_paused_partition_goes_on_where_it_stopped,
    groups::a_slow_owner_loses_nothing,
    transactions::a_transaction_carries_the_offsets,
    transactions::offsets_of_a_foreign_member_abort,
    topics::lag_tells_committed_and_end,
}
