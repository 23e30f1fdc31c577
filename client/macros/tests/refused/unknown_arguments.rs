//! Words that the attributes do not know.

use rantai_client_macros::interface;

#[interface(versoin = "1.0.0")]
pub trait One {
    async fn get(&self) -> Result<u64, Fault>;
}

#[interface]
pub trait Two {
    #[method(idempotnet)]
    async fn get(&self) -> Result<u64, Fault>;
}

#[interface]
pub trait Three {
    async fn get(&self, #[arg(ctx)] context: u64) -> Result<u64, Fault>;
}

fn main() {}
