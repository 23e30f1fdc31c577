//! What is given back when the process nears its memory ceiling, in the order of [`Stage`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::codec::Reason;
use crate::counters::Counters;
use crate::link::flush_all;
use crate::log::ClientText;
use crate::memory::Stage;
use crate::session::Scratch;

/// How often the process's memory is looked at.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// Looks between two clients that are disconnected: what the first one held takes a moment to be given back.
const PATIENCE: u32 = 4;
/// A client that holds less is not to blame. The memory of the process may also be high because the allocator keeps what
/// was given back: disconnecting one client after the other would not change that.
const OFFENDER_BYTES: usize = 1 << 20;

/// Looks at the memory of the process and sheds what its stage asks for.
pub(crate) async fn watch_memory(hub: Arc<Hub>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(LOOK_AROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wait = 0;
    loop {
        tokio::select! {
            _ = stopping.wait_for(|&stop| stop) => return,
            _ = tick.tick() => {}
        }
        let stage = hub.shared.memory.look();
        wait = hub.shed(stage, wait);
    }
}

impl Hub {
    /// Does what `stage` asks for; `wait` is the looks until a client may be disconnected, and so is what is returned.
    pub(crate) fn shed(&self, stage: Stage, wait: u32) -> u32 {
        let memory = &self.shared.memory;
        if stage >= Stage::QoS0 {
            self.shed_queues(memory.excess(Stage::QoS0));
        }
        if stage >= Stage::Absent {
            let mut scratch = Scratch::at(self.shared.clock.now_ms());
            self.cut_absent_by(memory.excess(Stage::Absent), &mut scratch);
            flush_all(&mut scratch.dirty);
        }
        if stage >= Stage::Offenders && wait == 0 && self.end_largest() {
            PATIENCE
        } else {
            wait.saturating_sub(1)
        }
    }

    /// Drops what is queued at QoS 0, where most is queued first, until about `bytes` are given back; how many were.
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

    /// Disconnects the client that holds most; false where none holds much.
    fn end_largest(&self) -> bool {
        let connected = self.sessions_where(|session| {
            let state = session.state.lock();
            let link = state.link.clone().filter(|link| !state.principal.local && !link.is_closing())?;
            let weight = state.weight();
            (weight >= OFFENDER_BYTES).then_some((weight, link))
        });
        let Some((session, (bytes, link))) = connected.into_iter().max_by_key(|(_, (weight, _))| *weight)
        else {
            return false;
        };
        Counters::add(&self.shared.counters.disconnected_memory, 1);
        if self.shared.may_log(&self.shared.log_lines.ended) {
            tracing::warn!(
                client = %ClientText(&session.client_id), peer = %link.peer.address, bytes,
                "ended: memory is short, and no client holds more"
            );
        }
        link.close(Some(Reason::QUOTA_EXCEEDED));
        true
    }
}
