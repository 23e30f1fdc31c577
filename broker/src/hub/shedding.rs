//! Release of memory when the process nears its memory limit, in the order of [`Stage`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::sessions::Hub;
use crate::codec::Reason;
use crate::counters::Counters;
use crate::link::flush_all;
use crate::log::ClientText;
use crate::memory::{self, Stage};
use crate::session::Scratch;

/// Interval at which the process's memory is read.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// Number of readings between two disconnections of clients: the memory of the first takes a moment to be released.
const PATIENCE: u32 = 4;
/// Divisor of the freed bytes that are forgotten at each reading: half of them are forgotten within 20 s.
const FORGOTTEN_PART: usize = 64;
/// Number of readings after which the allocator is asked to return freed memory if there was traffic: 5 s.
const RETURNED_EACH: u32 = 10;
/// Traffic that counts as such, in bytes.
const RETURNED_AFTER: u64 = 1 << 20;
/// Number of readings after which the allocator is asked without traffic: 30 s. Sessions and messages expire without any.
const RETURNED_AT_LEAST_EACH: u32 = 60;
/// Minimum number of bytes that a client must hold to be disconnected.
const OFFENDER_BYTES: usize = 1 << 20;

/// Watches the memory of the process and frees what the current stage requires.
pub(crate) async fn watch_memory(hub: Arc<Hub>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(LOOK_AROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shed = Shed::default();
    let mut returns = Returns::default();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|&stop| stop) => return,
            _ = tick.tick() => {}
        }
        let stage = hub.shared.memory.look();
        hub.shed(stage, |stage| hub.shared.memory.excess(stage), &mut shed);
        let counts = hub.shared.counters.read();
        if returns.is_due(counts.bytes_received + counts.bytes_sent) {
            tokio::task::spawn_blocking(memory::return_freed);
        }
    }
}

/// Decides when the allocator is asked to return freed memory to the system.
#[derive(Debug, Default)]
struct Returns {
    /// Number of readings since the allocator was asked.
    readings: u32,
    /// Bytes received and sent when the allocator was asked.
    traffic: u64,
}

impl Returns {
    /// Counts a reading, at which the broker has received and sent `traffic` bytes since its start. Returns whether the
    /// allocator is to be asked now.
    fn is_due(&mut self, traffic: u64) -> bool {
        self.readings += 1;
        let after =
            if traffic - self.traffic >= RETURNED_AFTER { RETURNED_EACH } else { RETURNED_AT_LEAST_EACH };
        if self.readings < after {
            return false;
        }
        *self = Self { readings: 0, traffic };
        true
    }
}

/// Account of the memory freed since memory became short. The allocator may keep freed memory, so that the process
/// takes as much as before: without this account all queues of absent sessions would be cut at once, and one client
/// after the other disconnected, to no effect. But a message that many sessions hold is counted for each of them, so
/// that less may have been freed: the account is forgotten gradually.
#[derive(Debug, Default)]
pub(crate) struct Shed {
    freed: usize,
    /// Maximum resident size of the process meanwhile, in bytes.
    peak: usize,
    /// Number of readings until a client may be disconnected.
    pub(crate) wait: u32,
}

impl Shed {
    /// Returns how much of `excess` is still to be freed, if the process takes `resident` bytes.
    fn due(&mut self, excess: usize, resident: usize) -> usize {
        self.peak = self.peak.max(resident);
        excess.saturating_sub(self.freed.saturating_sub(self.peak - resident))
    }

    /// Forgets a part of the freed bytes, at each reading.
    fn forget_some(&mut self) {
        self.freed -= self.freed / FORGOTTEN_PART;
    }

    fn add(&mut self, freed: usize) {
        self.freed = self.freed.saturating_add(freed);
    }
}

impl Hub {
    /// Frees what `stage` requires. `excess` returns by how many bytes the process exceeds the threshold of a stage.
    pub(crate) fn shed(&self, stage: Stage, excess: impl Fn(Stage) -> usize, shed: &mut Shed) {
        let resident = self.shared.memory.resident();
        shed.wait = shed.wait.saturating_sub(1);
        shed.forget_some();
        if stage < Stage::QoS0 {
            *shed = Shed { wait: shed.wait, ..Shed::default() };
            return;
        }
        let due = shed.due(excess(Stage::QoS0), resident);
        shed.add(self.shed_queues(due));
        if stage >= Stage::Absent {
            let mut scratch = Scratch::at(self.shared.clock.now_ms());
            let due = shed.due(excess(Stage::Absent), resident);
            shed.add(self.cut_absent_by(due, &mut scratch));
            flush_all(&mut scratch.dirty);
        }
        if stage >= Stage::Offenders
            && shed.wait == 0
            && shed.due(excess(Stage::Offenders), resident) > 0
            && let Some(freed) = self.end_largest()
        {
            shed.add(freed);
            shed.wait = PATIENCE;
        }
    }

    /// Drops queued QoS 0 messages, from the largest queues first, until about `bytes` are freed. Returns the number of
    /// bytes freed.
    pub(crate) fn shed_queues(&self, bytes: usize) -> usize {
        let mut queues =
            self.sessions_where(|session| Some(session.state.lock().qos0_bytes()).filter(|&b| b > 0));
        queues.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let mut freed = 0;
        for (session, _) in queues {
            if freed >= bytes {
                break;
            }
            let (messages, dropped) = session.state.lock().drop_qos0();
            Counters::add(&self.shared.counters.dropped_memory, messages as u64);
            freed += dropped;
        }
        freed
    }

    /// Disconnects the client that holds most; `None` if no client holds at least [`OFFENDER_BYTES`]. Returns the
    /// number of bytes that this frees: 0 if the session outlives its connection, as it is then counted among the
    /// absent ones.
    fn end_largest(&self) -> Option<usize> {
        let connected = self.sessions_where(|session| {
            let state = session.state.lock();
            let link = state.link.clone().filter(|link| !state.principal.local && !link.is_closing())?;
            let weight = state.weight();
            (weight >= OFFENDER_BYTES).then_some((weight, state.expiry == 0, link))
        });
        let (session, (bytes, ends, link)) = connected.into_iter().max_by_key(|(_, (weight, ..))| *weight)?;
        Counters::add(&self.shared.counters.disconnected_memory, 1);
        if self.shared.may_log(&self.shared.log_lines.ended) {
            tracing::warn!(
                client = %ClientText(&session.client_id), peer = %link.peer.address, bytes,
                "ended: memory is short, and no client holds more"
            );
        }
        link.close(Some(Reason::QUOTA_EXCEEDED));
        Some(if ends { bytes } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_counts_though_the_allocator_keeps_it() {
        let mut shed = Shed::default();
        assert_eq!(shed.due(100, 1_000), 100);
        shed.add(100);
        assert_eq!(shed.due(100, 1_000), 0, "all is given back, and kept by the allocator");
        assert_eq!(shed.due(150, 1_050), 50, "what came since");
        shed.add(50);
        assert_eq!(shed.due(0, 900), 0, "the system has it again");
        assert_eq!(shed.due(40, 940), 0, "and as much may be taken anew");
        assert_eq!(shed.due(200, 1_100), 50);
    }

    #[test]
    fn what_was_given_back_is_believed_for_a_while() {
        let mut shed = Shed::default();
        shed.add(1 << 20);
        let left = |shed: &mut Shed| (1 << 20) - shed.due(1 << 20, 1_000);
        (0..40).for_each(|_| shed.forget_some());
        assert!((500_000..600_000).contains(&left(&mut shed)), "twenty seconds later");
        (0..400).for_each(|_| shed.forget_some());
        assert!(left(&mut shed) < 2_000);
    }

    #[test]
    fn freed_memory_is_returned_soon_after_traffic_and_later_without() {
        let mut returns = Returns::default();
        let mut readings_until_due = |traffic| (1..).find(|_| returns.is_due(traffic)).expect("at some time");
        assert_eq!(readings_until_due(RETURNED_AFTER), RETURNED_EACH);
        assert_eq!(
            readings_until_due(RETURNED_AFTER),
            RETURNED_AT_LEAST_EACH,
            "a session expires after the last message"
        );
        assert_eq!(readings_until_due(2 * RETURNED_AFTER - 1), RETURNED_AT_LEAST_EACH, "too little traffic");
        assert_eq!(readings_until_due(3 * RETURNED_AFTER), RETURNED_EACH);
    }
}
