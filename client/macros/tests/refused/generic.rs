//! An interface, and a method, with a type parameter.

use rantai_client_macros::interface;

#[interface]
pub trait Store<T> {
    async fn get(&self) -> Result<T, Fault>;
}

#[interface]
pub trait Other {
    async fn get<T>(&self) -> Result<T, Fault>;
}

fn main() {}
