//! `#[interface]` for Rantai: one trait gives the typed proxy, the dispatcher and the schemas.
