//! Bytes beside another parameter.

use rantai_client_macros::interface;

#[interface]
pub trait Files {
    async fn write(&self, path: String, data: Binary) -> Result<u64, Fault>;
}

fn main() {}
