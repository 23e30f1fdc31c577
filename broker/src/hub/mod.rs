//! All sessions of a broker: how they begin, are resumed, taken over, and end.

mod admission;
mod by_client;
mod cutting;
mod disk;
mod late_wills;
mod lifecycle;
mod queues;
mod reload;
mod restore;
mod sessions;
mod shedding;
mod takeover;
mod walk;

pub(crate) use disk::WaitingForDisk;
pub(crate) use lifecycle::ConnectionEnd;
pub(crate) use queues::DISCONNECTS_PER_TURN;
pub(crate) use sessions::Hub;
#[cfg(test)]
pub(crate) use shedding::ShedCredit;
pub(crate) use shedding::watch_memory;

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::walk::tests::hub;
}
