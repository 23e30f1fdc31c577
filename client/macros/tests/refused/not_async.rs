//! A method that is not async, and one without `&self`: both are reported.

use rantai_client_macros::interface;

#[interface]
pub trait Clock {
    fn now(&self) -> Result<u64, Fault>;

    async fn later(self) -> Result<u64, Fault>;
}

fn main() {}
