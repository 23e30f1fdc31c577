//! The object `broker`: administration of the broker in this process, for admins, on the bus.

mod answers;
mod interface;
mod object;
mod serving;
mod width;

pub(crate) use answers::{Listing, Reload, Session};
pub(crate) use interface::BrokerAdministrationProxy;
pub(crate) use serving::{Administered, EmbeddedBroker};
