//! An interface with a constant.

use rantai_client_macros::interface;

#[interface]
pub trait Limits {
    const MOST: u64;
}

fn main() {}
