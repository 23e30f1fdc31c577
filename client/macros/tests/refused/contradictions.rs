//! Arguments of methods that exclude each other.

use rantai_client_macros::interface;

#[interface]
pub trait Bank {
    #[method(once, idempotent)]
    async fn pay(&self) -> Result<u64, Fault>;

    #[method(once, secret)]
    async fn open(&self) -> Result<u64, Fault>;

    #[method(once)]
    async fn all(&self) -> Result<impl Stream<Item = u64>, Fault>;
}

fn main() {}
