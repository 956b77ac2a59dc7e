#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bongsu_fuzz::targets::run("smtp_replies", bytes));
