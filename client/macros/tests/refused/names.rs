//! Names that are not valid, or there twice.

use rantai_client_macros::interface;

#[interface]
pub trait Invalid {
    #[method(name = "two words")]
    async fn get(&self) -> Result<u64, Fault>;
}

#[interface]
pub trait Twice {
    async fn get(&self) -> Result<u64, Fault>;

    #[method(name = "get")]
    async fn read(&self) -> Result<u64, Fault>;
}

#[interface(event(done: u64), state(done: u64))]
pub trait Events {
    async fn get(&self) -> Result<u64, Fault>;
}

#[interface(event(done: u64))]
pub trait OfTheProxy {
    async fn done_events(&self) -> Result<u64, Fault>;
}

fn main() {}
