//! A method that does not return a `Result`.

use rantai_client_macros::interface;

#[interface]
pub trait Clock {
    async fn now(&self) -> u64;
}

fn main() {}
