//! What the macro says of interfaces that are wrong: each file of `refused/` with its `.stderr`, which
//! `TRYBUILD=overwrite cargo test -p rantai-client-macros` writes anew. Needs no network: trybuild runs cargo with `--offline` and
//! the lock file of the workspace. What the compiler says of the code that the macro generates is in the tests of `rantai`.

#[test]
fn wrong_interfaces_are_refused() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
