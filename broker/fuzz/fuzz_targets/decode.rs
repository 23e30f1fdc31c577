//! Fuzz target: arbitrary bytes as packets of both versions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rantai_broker::fuzzing::decode(bytes));
