//! Fuzz target: arbitrary bytes as a password file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rantai_credentials::fuzzing::password_file(bytes));
