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
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Number of readings between two disconnections of clients, because the memory of a disconnected client takes some
/// time to be released.
const READINGS_PER_DISCONNECT: u32 = 4;
/// Part (1/n) of the credited bytes that is removed at each reading: half of them are removed within 20 s.
const CREDIT_DECAY_DIVISOR: usize = 64;
/// Number of readings after which the allocator is asked to return freed memory if there was traffic: 5 s.
const READINGS_PER_RETURN: u32 = 10;
/// Number of bytes that count as traffic.
const MIN_TRAFFIC_BYTES: u64 = 1 << 20;
/// Number of readings after which the allocator is asked without traffic: 30 s. Sessions and messages expire without any.
const READINGS_PER_IDLE_RETURN: u32 = 60;
/// Number of bytes that a client must hold to be disconnected.
const MIN_OFFENDER_BYTES: usize = 1 << 20;

/// Watches the memory of the process, and frees memory as the current stage requires.
pub(crate) async fn watch_memory(hub: Arc<Hub>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(MEMORY_CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shed = ShedCredit::default();
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
        let has_traffic = traffic - self.traffic >= MIN_TRAFFIC_BYTES;
        let after = if has_traffic { READINGS_PER_RETURN } else { READINGS_PER_IDLE_RETURN };
        if self.readings < after {
            return false;
        }
        *self = Self { readings: 0, traffic };
        true
    }
}

/// Credit for memory freed since memory became short. The allocator may keep freed memory, so that the size of the
/// process does not change: without this credit, all queues of absent sessions would be cut at once, and clients
/// disconnected one after the other, without effect. As a message in the queues of many sessions is counted for each
/// of them, less may have been freed; therefore the credit decreases over time.
#[derive(Debug, Default)]
pub(crate) struct ShedCredit {
    freed: usize,
    /// Maximum resident size of the process since memory became short, in bytes.
    peak: usize,
    /// Number of readings until the next client may be disconnected.
    pub(crate) wait: u32,
}

impl ShedCredit {
    /// Returns how much of `excess` is still to be freed, if the process takes `resident` bytes.
    fn due(&mut self, excess: usize, resident: usize) -> usize {
        self.peak = self.peak.max(resident);
        excess.saturating_sub(self.freed.saturating_sub(self.peak - resident))
    }

    /// Removes a part of the credit, at each reading.
    fn decay(&mut self) {
        self.freed -= self.freed / CREDIT_DECAY_DIVISOR;
    }

    fn add(&mut self, freed: usize) {
        self.freed = self.freed.saturating_add(freed);
    }
}

impl Hub {
    /// Frees memory as `stage` requires. `excess` returns the number of bytes by which the process exceeds the
    /// threshold of a stage.
    pub(crate) fn shed(&self, stage: Stage, excess: impl Fn(Stage) -> usize, shed: &mut ShedCredit) {
        let resident = self.shared.memory.resident();
        shed.wait = shed.wait.saturating_sub(1);
        shed.decay();
        if stage < Stage::QoS0 {
            *shed = ShedCredit { wait: shed.wait, ..ShedCredit::default() };
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
            shed.wait = READINGS_PER_DISCONNECT;
        }
    }

    /// Drops queued QoS 0 messages, from the largest queues first, until about `bytes` are freed. Returns the number
    /// of bytes freed.
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

    /// Disconnects the client that holds most; `None` if no client holds at least [`MIN_OFFENDER_BYTES`]. Returns the
    /// number of bytes freed by this: 0 if the session outlives its connection, because it then counts among the
    /// absent ones.
    fn end_largest(&self) -> Option<usize> {
        let connected = self.sessions_where(|session| {
            let state = session.state.lock();
            let link = state.link.clone().filter(|link| !state.principal.local && !link.is_closing())?;
            let weight = state.weight();
            (weight >= MIN_OFFENDER_BYTES).then_some((weight, state.expiry == 0, link))
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
    fn freed_bytes_are_credited_although_the_allocator_keeps_them() {
        let mut shed = ShedCredit::default();
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
    fn the_credit_for_freed_bytes_decreases() {
        let mut shed = ShedCredit::default();
        shed.add(1 << 20);
        let left = |shed: &mut ShedCredit| (1 << 20) - shed.due(1 << 20, 1_000);
        (0..40).for_each(|_| shed.decay());
        assert!((500_000..600_000).contains(&left(&mut shed)), "twenty seconds later");
        (0..400).for_each(|_| shed.decay());
        assert!(left(&mut shed) < 2_000);
    }

    #[test]
    fn freed_memory_is_returned_soon_after_traffic_and_later_without() {
        let mut returns = Returns::default();
        let mut readings_until_due =
            |traffic| (1..1_000).find(|_| returns.is_due(traffic)).expect("at some time");
        assert_eq!(readings_until_due(MIN_TRAFFIC_BYTES), READINGS_PER_RETURN);
        assert_eq!(
            readings_until_due(MIN_TRAFFIC_BYTES),
            READINGS_PER_IDLE_RETURN,
            "a session expires after the last message"
        );
        assert_eq!(
            readings_until_due(2 * MIN_TRAFFIC_BYTES - 1),
            READINGS_PER_IDLE_RETURN,
            "too little traffic"
        );
        assert_eq!(readings_until_due(3 * MIN_TRAFFIC_BYTES), READINGS_PER_RETURN);
    }
}
