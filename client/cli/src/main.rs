//! The binary `rantai`.
fn main() {}
