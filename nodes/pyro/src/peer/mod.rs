//! Pyro servers as objects of the bus.
//!
//! | Module | Content |
//! |---|---|
//! | `connection` | One connection to a server: handshake, metadata, calls, ping |
//! | `server` | Connections to one server, each for one call at a time |
//! | `object` | The object that calls the server |
//! | `adoption` | Serving the object while the server can be reached |

mod adoption;
mod connection;
mod object;
mod server;

pub(crate) use adoption::Adoption;
pub(crate) use server::{Dialing, PyroServer};
