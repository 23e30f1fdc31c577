//! Fuzz target: arbitrary bytes as an ACL file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rantai_access::fuzzing::acl_file(bytes));
