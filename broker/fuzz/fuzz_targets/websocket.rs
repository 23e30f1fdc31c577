//! Fuzz target: arbitrary bytes as a request and as frames of a WebSocket client, in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rantai_broker::fuzzing::websocket(bytes));
