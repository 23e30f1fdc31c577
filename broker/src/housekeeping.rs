//! Periodic tasks of a broker: `$SYS`, expiry of retained messages, checks of clients, and reports of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};

use crate::codec::Reason;
use crate::counters::Counters;
use crate::hub::{DISCONNECTS_PER_TURN, Hub, WaitingForDisk};
use crate::link::flush_all;
use crate::log::ClientText;
use crate::message::Message;
use crate::session::Scratch;
use crate::store::{Committed, Op};

/// Number of retained messages removed under one lock. Few, as each may be as large as a packet.
const EXPIRED_PER_LOCK: usize = 64;
/// Interval at which certificate files are read again.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(30);
/// Number of those intervals after which warnings about certificates are logged again: one day.
const CERTIFICATE_WARNING_INTERVALS: u32 = 24 * 60 * 2;
/// Interval at which silent clients are searched for: the maximum delay of a keep-alive timeout.
const SILENCE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Removes expired retained messages once a second.
pub(crate) async fn expire_retained(hub: Arc<Hub>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|&stop| stop) => return,
            _ = tick.tick() => {}
        }
        loop {
            let gone = hub.shared.retained.write().expire(EXPIRED_PER_LOCK, hub.shared.clock.now_ms());
            let done = gone.len() < EXPIRED_PER_LOCK;
            hub.shared.put(gone.into_iter().map(|m| Op::Unretain { topic: m.topic.clone() }), None);
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Periodically reads the certificates of listeners again, as they may be renewed while the broker runs.
pub(crate) async fn follow_certificates(hub: Arc<Hub>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(CERTIFICATES_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 1_u32.. {
        tokio::select! {
            _ = stopping.wait_for(|&stop| stop) => return,
            _ = tick.tick() => {}
        }
        hub.follow_certificates().await;
        if round.is_multiple_of(CERTIFICATE_WARNING_INTERVALS) {
            hub.tell_certificate_warnings();
        }
    }
}

/// Checks clients twice a second. Cuts the queues of absent sessions that exceed their limits, and ends the
/// connections of clients whose queues overflow while they read nothing, whose acknowledgements wait for a failed
/// disk, or that have been silent for too long.
pub(crate) async fn look_after_clients(hub: Arc<Hub>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(SILENCE_CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting_for_disk = WaitingForDisk::default();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|&stop| stop) => return,
            _ = tick.tick() => {}
        }
        let now = hub.shared.clock.now_ms();
        hub.shared.log_lines.log_left_out(now);
        let mut scratch = Scratch::at(now);
        hub.cut_absent(&mut scratch);
        flush_all(&mut scratch.dirty);
        hub.send_to_held_back(now).await;
        hub.shared.grants.sweep(now);
        hub.end_slow(now).await;
        hub.look_at_disk(&mut waiting_for_disk, now);
        end_silent(&hub, now).await;
    }
}

/// Ends the connections of clients that have been silent for too long, yielding in between, because there may be
/// thousands.
async fn end_silent(hub: &Hub, now: u64) {
    let silent = hub.sessions_in_turns(|session| {
        let state = session.state.lock();
        let link = state.link.as_ref().filter(|link| link.silent_until.load(Ordering::Relaxed) < now)?;
        (!link.is_closing()).then(|| link.clone())
    });
    let silent = silent.await;
    for (number, (session, link)) in silent.into_iter().enumerate() {
        if number % DISCONNECTS_PER_TURN == DISCONNECTS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        if link.silent_until.load(Ordering::Relaxed) >= now {
            // A packet of the client has arrived in the meantime.
            continue;
        }
        let (shared, client) = (&hub.shared, ClientText(&session.client_id));
        let (counter, what) = if link.within_packet.load(Ordering::Relaxed) {
            (&shared.counters.slow_packets, "a packet was not whole in time")
        } else {
            (&shared.counters.keep_alive_timeouts, "keep alive timeout")
        };
        Counters::add(counter, 1);
        if shared.may_log(&shared.log_lines.ended) {
            tracing::info!(%client, peer = %link.peer.address, "ended: {what}");
        }
        link.close(Some(Reason::KEEP_ALIVE_TIMEOUT));
    }
}

/// Sends the packets that waited for the disk, after each commit.
pub(crate) async fn follow_store(hub: Arc<Hub>, mut committed: UnboundedReceiver<Committed>) {
    let mut scratch = Scratch::at(hub.shared.clock.now_ms());
    while let Some(Committed { wake, durable }) = committed.recv().await {
        scratch.now = hub.shared.clock.now_ms();
        hub.sessions.lock().ended.forget(durable);
        hub.router.forget_changes(durable);
        for key in wake {
            let session = hub.sessions.lock().by_key.get(&key).cloned();
            if let Some(session) = session {
                session.committed(&mut scratch);
            }
        }
        scratch.settle(&hub.shared);
        flush_all(&mut scratch.dirty);
    }
}

/// Publishes `$SYS/broker/…` at the configured interval.
pub(crate) async fn publish_sys(hub: Arc<Hub>) {
    if hub.shared.config.sys_interval.is_zero() {
        return;
    }
    let mut stopping = hub.shared.stopping.subscribe();
    let mut tick = interval(hub.shared.config.sys_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|&stop| stop) => return,
            _ = tick.tick() => {}
        }
        let mut scratch = Scratch::at(hub.shared.clock.now_ms());
        for reading in hub.readings().all {
            for topic in reading.topics {
                let message = Message {
                    topic: format!("$SYS/broker/{topic}").into(),
                    payload: reading.value.to_string().into(),
                    retain: true,
                    ..Message::default()
                };
                hub.router.publish_own(&message, &mut scratch);
            }
        }
        scratch.settle(&hub.shared);
        flush_all(&mut scratch.dirty);
    }
}
