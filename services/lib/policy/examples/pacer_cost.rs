//! What one ask and its answer cost: `cargo run --release -p bongsu-policy --example pacer_cost`. On a
//! busy machine read the process time (`time`), not the wall clock it prints.
#![expect(clippy::print_stdout, reason = "the figure is what it is for")]

use std::hint::black_box;
use std::time::Instant;

use bongsu_domain::Class;
use bongsu_policy::pacing::{AccountLimits, Answer, Ask, Pacer, Permit};

const ROUNDS: u32 = 2_000_000;

fn main() {
    measure("no limits", AccountLimits::default());
    measure(
        "account and address limited",
        AccountLimits {
            per_second: Some(4_000_000),
            per_address: Some(1_000_000),
            ..AccountLimits::default()
        },
    );
}

fn measure(name: &str, limits: AccountLimits) {
    let mut pacer = Pacer::new(512, None, 1);
    let account = pacer.account("default", || limits);
    let began = Instant::now();
    let mut granted = 0_u32;
    for i in 0..ROUNDS {
        let now = i64::from(i / 100);
        let ask = Ask {
            account,
            class: Class::Bulk,
            sender: 1,
            address: u64::from(i % 1_000),
            campaign: None,
            cost: 1,
            retry: false,
        };
        if let Permit::Go(ticket) = pacer.ask(now, black_box(&ask)) {
            granted += 1;
            pacer.answered(now + 1, black_box(ticket), Answer::Accepted);
        }
    }
    let each = began.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{name}: {each} ns for an ask and its answer, {granted} of {ROUNDS} granted");
}
