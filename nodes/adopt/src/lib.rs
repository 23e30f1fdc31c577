//! Adopted devices: a node serves the object of a device that speaks MQTT 3.1.1 and JSON-RPC and nothing else.
//!
//! The device subscribes to `{root}/device/{object}/call`, answers on `…/reply`, and says on `…/state` whether it is there
//! (PROTOCOL.md, "Adopted devices"). Everything else is the node's: entry, claim, description, deadlines, repeats, limits.
//!
//! | File | What |
//! |---|---|
//! | `settings` | `[[adopt]]` of nodes.toml, and the object made of it |
//! | `inline`, `discover`, `description` | What the object is described by: in the settings or in a file; what both have to be |
//! | `object`, `parameters` | The object: a call becomes a request to the device |
//! | `device` | The device's side of it: messages in, requests out |
//! | `table`, `answer` | The calls that wait or are with the device; its answers. Without I/O |
//! | `events` | Which of its events are passed on |
//! | `link` | The session by which the node talks with the device |

mod answer;
mod description;
mod device;
mod discover;
mod events;
mod inline;
mod link;
mod object;
mod parameters;
mod settings;
mod table;

pub use object::{AdoptLimits, Adopted};
pub use settings::AdoptSettings;
