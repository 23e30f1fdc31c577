//! A parameter that is borrowed.

use rantai_client_macros::interface;

#[interface]
pub trait Greeter {
    async fn greet(&self, name: &str) -> Result<String, Fault>;
}

fn main() {}
