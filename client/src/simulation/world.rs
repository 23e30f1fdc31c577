//! State of one seed: clock, agenda, random generator, and what has happened so far.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::broker::Broker;
use super::chances::Chances;
use super::link::{Direction, Link};
use super::record::Record;
use super::stream::Dialed;
use crate::session::Unsent;

/// Number of lines of a trace that a failure shows.
const SHOWN_LINES: usize = 80;

/// Event that is due at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Arrival(u64, Direction),
    /// The broker notices that a connection is closed.
    Noticed(u64),
    /// The broker answers a PUBLISH.
    Puback(u64),
    /// The keep-alive of a connection expires at the broker.
    KeepAlive(u64),
    /// The client must have sent something, and noticed a connection on which nothing arrives.
    Silence(u64),
    /// The client must have left a connection that the broker has ended.
    Left(u64),
    Incident,
    Message,
}

pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) chances: Chances,
    began: Instant,
    agenda: BTreeMap<(u64, u64), Due>,
    order: u64,
    agenda_changed: Arc<Notify>,
    links: BTreeMap<u64, Link>,
    /// Number of the newest connection; 0 before the first.
    pub(super) newest: u64,
    pub(super) brokers: [Broker; 2],
    pub(super) record: Record,
    /// Packet ids of publishes without PUBACK at the end of the last connection.
    pub(super) left_ids: Vec<u16>,
    /// Number of publishers that publish once, so far.
    pub(super) single_lanes: u32,
    /// Whether the disturbances are over.
    pub(super) is_calm: bool,
    pub(super) violation: Option<String>,
    pub(super) events: u64,
    pub(super) incidents: u64,
    reached: BTreeMap<&'static str, u64>,
    trace: VecDeque<String>,
    is_trace_kept: bool,
}

impl World {
    pub(super) fn new(seed: u64, is_trace_kept: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let chances = Chances::draw(&mut random);
        let mut world = Self {
            random,
            chances,
            began: Instant::now(),
            agenda: BTreeMap::new(),
            order: 0,
            agenda_changed: Arc::default(),
            links: BTreeMap::new(),
            newest: 0,
            brokers: [Broker::new(), Broker::new()],
            record: Record::default(),
            left_ids: Vec::new(),
            single_lanes: 0,
            is_calm: false,
            violation: None,
            events: 0,
            incidents: 0,
            reached: BTreeMap::new(),
            trace: VecDeque::new(),
            is_trace_kept,
        };
        let chances = format!("{:?}", world.chances);
        world.note(format_args!("{chances}"));
        world.schedule_in(world.chances.incident_ms, Due::Incident);
        world.schedule_in(world.chances.message_ms, Due::Message);
        world
    }

    /// Returns the milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    pub(super) fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && self.random.u8(..100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.usize(..of.len())]
    }

    /// Returns how many of `size` bytes are taken at once.
    pub(super) fn slice(&mut self, size: usize) -> usize {
        if self.chances.is_sliced && size > 1 { self.random.usize(1..=size) } else { size }
    }

    pub(super) fn schedule(&mut self, at: u64, due: Due) {
        self.order += 1;
        self.agenda.insert((at, self.order), due);
        self.agenda_changed.notify_one();
    }

    pub(super) fn schedule_in(&mut self, longest_ms: u64, due: Due) {
        let wait = self.random.u64(..=longest_ms);
        self.schedule(self.now() + wait, due);
    }

    /// Counts an event, and the state that it leads to.
    pub(super) fn event(&mut self, name: &'static str) {
        self.events += 1;
        self.reach(name);
    }

    /// Counts a state.
    pub(super) fn reach(&mut self, name: &'static str) {
        *self.reached.entry(name).or_default() += 1;
    }

    pub(super) fn reached(&self) -> &BTreeMap<&'static str, u64> {
        &self.reached
    }

    pub(super) fn note(&mut self, text: fmt::Arguments<'_>) {
        let line = format!("{:>7} {text}", self.now());
        if !self.is_trace_kept && self.trace.len() == SHOWN_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// Returns the last events; all of them if the trace is kept.
    pub(super) fn trace(&self) -> Vec<String> {
        self.trace.iter().cloned().collect()
    }

    /// Records a violation. The run ends with the first.
    pub(super) fn violate(&mut self, mut text: String) {
        if self.violation.is_none() {
            self.note(format_args!("VIOLATION {text}"));
            let trace: Vec<String> = self.trace.iter().rev().take(SHOWN_LINES).rev().cloned().collect();
            text.push('\n');
            text.push_str(&trace.join("\n"));
            self.violation = Some(text);
        }
    }

    pub(super) fn check(&mut self, result: Result<(), String>) {
        if let Err(text) = result {
            self.violate(text);
        }
    }

    /// Checks the result of a publish that the session has reported.
    pub(super) fn settle(&mut self, which: usize, result: Result<(), Unsent>, said: Option<&str>) {
        self.note(format_args!("publish {which} ends with {result:?}"));
        match self.record.settle(which, result, said) {
            Ok(name) => self.event(name),
            Err(error) => self.violate(error),
        }
    }

    /// Runs `act` with a connection, which is removed from the world meanwhile; returns `None` if there is none with
    /// that number.
    pub(super) fn with_link<T>(
        &mut self,
        number: u64,
        act: impl FnOnce(&mut Self, &mut Link) -> T,
    ) -> Option<T> {
        let mut link = self.links.remove(&number)?;
        let result = act(self, &mut link);
        if !link.is_dropped || link.served.is_some() {
            self.links.insert(number, link);
        }
        Some(result)
    }

    /// Runs `act` with the newest connection, unless the client has closed it.
    pub(super) fn with_newest<T>(&mut self, act: impl FnOnce(&mut Self, &mut Link) -> T) -> Option<T> {
        let number = self.newest;
        self.with_link(number, |world, link| (!link.is_dropped).then(|| act(world, link))).flatten()
    }

    pub(super) fn dial(&mut self, broker: usize) -> Dialed {
        let after_ms = self.random.u64(..=self.chances.delay_ms);
        let (refused, silent) = (self.chances.refused_dial, self.chances.silent_dial);
        let is_up = self.brokers[broker].is_up;
        let dialed = if !is_up || (!self.is_calm && self.chance(refused)) {
            self.event("connection refused");
            Dialed::Refused { after_ms }
        } else if !self.is_calm && self.chance(silent) {
            self.event("connection attempt unanswered");
            Dialed::Silent
        } else {
            self.event("connection made");
            Dialed::Connected { after_ms }
        };
        self.note(format_args!("dial broker {broker}: {dialed:?}"));
        dialed
    }

    /// Opens a connection and returns its number.
    pub(super) fn open(&mut self, broker: usize) -> u64 {
        self.newest += 1;
        let number = self.newest;
        let link = Link::new(number, broker, self.chances.capacity, self.now());
        self.links.insert(number, link);
        self.note(format_args!("{number}: opened to broker {broker}"));
        if broker == 1 {
            self.reach("failover to the second broker");
        }
        number
    }

    /// Handles that the client has closed its end.
    pub(super) fn dropped(&mut self, number: u64) {
        self.with_link(number, |world, link| {
            world.note(format_args!("{number}: closed by the client"));
            world.edge_dropped(link);
            link.is_dropped = true;
            if link.served.is_some() && !link.to_broker.is_lost {
                world.schedule(world.now() + world.chances.delay_ms, Due::Noticed(number));
            }
        });
    }

    /// Returns the connections to a broker, by number.
    pub(super) fn links_to(&self, broker: usize) -> Vec<u64> {
        self.links.values().filter(|link| link.broker == broker).map(|link| link.number).collect()
    }

    /// Returns the packet ids of publishes without PUBACK on the newest connection or, before it is accepted, on the
    /// one before.
    pub(super) fn used_ids(&mut self) -> Vec<u16> {
        let used = self.with_newest(|_, link| {
            link.edge.agreed.is_some().then(|| link.edge.publishing.keys().copied().collect::<Vec<_>>())
        });
        let used = used.flatten().unwrap_or_default();
        if used.is_empty() { self.left_ids.clone() } else { used }
    }

    /// Sends bytes over a connection.
    pub(super) fn transmit(&mut self, link: &mut Link, direction: Direction, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !link.pipe(direction).is_lost {
            let (piece, behind) = rest.split_at(self.slice(rest.len()));
            rest = behind;
            let delay = self.random.u64(..=self.chances.delay_ms);
            let at = link.pipe(direction).push(self.now() + delay, piece);
            self.schedule(at, Due::Arrival(link.number, direction));
        }
    }

    fn arrive(&mut self, link: &mut Link, direction: Direction) {
        let now = self.now();
        let pipe = link.pipe(direction);
        if now < pipe.stalled_until && !pipe.is_empty() {
            let at = pipe.stalled_until;
            self.schedule(at, Due::Arrival(link.number, direction));
            return;
        }
        let bytes = pipe.arrived(now);
        match direction {
            Direction::ToBroker => {
                if let Some(writer) = link.writer.take() {
                    writer.wake();
                }
                self.broker_reads(link, &bytes);
            }
            Direction::ToClient => {
                link.deliver(&bytes);
                link.close_when_empty();
            }
        }
    }

    fn run(&mut self, due: Due) {
        match due {
            Due::Arrival(number, direction) => {
                self.with_link(number, |world, link| world.arrive(link, direction));
            }
            Due::Noticed(number) => {
                self.with_link(number, |world, link| {
                    if link.to_broker.is_empty() || link.to_broker.is_lost {
                        world.broker_loses(link);
                    } else {
                        world.schedule(world.now() + 1 + world.chances.delay_ms, due);
                    }
                });
            }
            Due::Puback(number) => {
                self.with_link(number, Self::acknowledge);
            }
            Due::KeepAlive(number) => {
                self.with_link(number, Self::broker_checks_keep_alive);
            }
            Due::Silence(number) => {
                self.with_link(number, Self::edge_checks_silence);
            }
            Due::Left(number) => {
                self.with_link(number, |world, link| {
                    if !link.is_dropped {
                        world.violate(format!("{number}: the client stays on a connection that is over"));
                    }
                });
            }
            Due::Incident => {
                if !self.is_calm {
                    self.incident();
                    self.schedule_in(self.chances.incident_ms, Due::Incident);
                }
            }
            Due::Message => {
                if !self.is_calm {
                    self.send_messages();
                    self.schedule_in(self.chances.message_ms, Due::Message);
                }
            }
        }
    }

    /// Ends all disturbances, except for half-open connections.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.note(format_args!("calm from now on"));
        // Queued messages must get through before a keep-alive expires.
        self.chances.delay_ms = self.chances.delay_ms.min(5);
        (self.chances.capacity, self.chances.ack_ms) = (1 << 20, 0);
        let is_one_down = self.chance(30);
        for (number, broker) in self.brokers.iter_mut().enumerate() {
            broker.is_up = number != 0 || !is_one_down || self.record.places < 2;
        }
        let now = self.now();
        let numbers: Vec<u64> = self.links.keys().copied().collect();
        for number in numbers {
            self.with_link(number, |world, link| {
                link.capacity = world.chances.capacity;
                for direction in [Direction::ToBroker, Direction::ToClient] {
                    link.pipe(direction).stalled_until = now;
                    world.schedule(now, Due::Arrival(number, direction));
                }
            });
        }
    }
}

/// Processes due events while the simulation runs.
pub(super) async fn drive(world: Arc<Mutex<World>>) {
    let changed = world.lock().agenda_changed.clone();
    loop {
        let next = {
            let mut world = world.lock();
            let now = world.now();
            while let Some(entry) = world.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
                let due = entry.remove();
                world.run(due);
            }
            world.agenda.first_key_value().map(|((at, _), _)| world.began + Duration::from_millis(*at))
        };
        match next {
            None => changed.notified().await,
            Some(at) => tokio::select! {
                biased;
                () = changed.notified() => {}
                () = sleep_until(at) => {}
            },
        }
    }
}
