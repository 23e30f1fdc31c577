//! State shared by all layers of a broker: configuration, counters, rules, retained messages and store.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use rantai_tls::ServerTls;
use tokio::sync::watch;

use crate::absent::AbsentQueues;
use crate::access::{Access, Principal};
use crate::addresses::Addresses;
use crate::bus::BusRoots;
use crate::caller::NOBODY;
use crate::clock::Clock;
use crate::config::{Config, Limits, QueueFull};
use crate::counters::Counters;
use crate::filters::FilterBudget;
use crate::grants::Grants;
use crate::guesses::Guesses;
use crate::handshake::computing::Computing;
use crate::in_flight_budget::InFlightBudget;
use crate::live_limits::LiveLimits;
use crate::log::{LineKind, LogLines};
use crate::logged::{LoggedLimits, ReachedLimit};
use crate::logins::Logins;
use crate::memory::Memory;
use crate::random::Random;
use crate::retained::{Growth, Retained};
use crate::store::{Op, Store, Ticket};
use crate::topic::FilterList;
use crate::turns::Turns;
use crate::unserved::RegistryScans;
use crate::wills::Wills;

/// Number of connections that end per round of the scheduler, at about 10 µs each. At least the number that is
/// accepted per round, or sockets would accumulate.
const ENDS_PER_ROUND: usize = 8;

/// Number of long turns per round of the scheduler, of some hundred microseconds each.
const LONG_TURNS_PER_ROUND: usize = 2;

/// Number of reads of packets in small pieces per round of the scheduler, at about 5 µs each.
const SHORT_READS_PER_ROUND: usize = 16;

/// State below sessions, links and the router.
#[derive(Debug)]
pub(crate) struct BrokerState {
    /// Configuration at the start; its limits may have been replaced: see [`limits`](Self::limits).
    pub(crate) config: Config,
    pub(crate) live_limits: LiveLimits,
    pub(crate) access: Access,
    pub(crate) bus: BusRoots,
    pub(crate) grants: Grants,
    /// Rules of `config.queues`.
    queue_rules: Vec<(FilterList, QueueFull)>,
    /// Budget of messages queued for absent sessions.
    pub(crate) absent: AbsentQueues,
    pub(crate) in_flight: InFlightBudget,
    /// Budget of the filters of all sessions.
    pub(crate) filters: FilterBudget,
    pub(crate) retained: RwLock<Retained>,
    /// Rate limit on the growth of retained messages.
    pub(crate) growth: Growth,
    pub(crate) memory: Memory,
    pub(crate) wills: Wills,
    /// Rate limit on registry scans for requests that no subscriber serves.
    pub(crate) registry_scans: RegistryScans,
    pub(crate) store: Option<Store>,
    pub(crate) counters: Counters,
    /// Clock of the broker, read only at the beginning of a turn.
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// Number of listeners whose last attempt to accept a connection failed.
    pub(crate) not_accepting: AtomicUsize,
    /// Set to true when the broker stops.
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) addresses: Addresses,
    pub(crate) guesses: Guesses,
    pub(crate) logins: Logins,
    pub(crate) log_lines: LogLines,
    /// Turns of connections that end.
    pub(crate) endings: Arc<Turns>,
    /// Turns of connections that have used up the budget of their previous turn.
    pub(crate) long_turns: Arc<Turns>,
    /// Turns of connections whose client sends a packet in small pieces.
    pub(crate) short_reads: Arc<Turns>,
    /// Thread that computes TLS handshakes, started with the first one.
    pub(crate) tls_computing: OnceLock<Computing>,
    /// TLS of each listener that uses it, set after they are bound.
    pub(crate) tls_servers: OnceLock<Vec<Arc<ServerTls>>>,
}

impl BrokerState {
    pub(crate) fn new(config: Config, store: Option<Store>, clock: Clock, random: Random) -> Arc<Self> {
        let memory = Memory::new(&config.limits);
        Arc::new(Self {
            live_limits: LiveLimits::new(config.limits.clone()),
            access: Access::new(&config, &random),
            addresses: Addresses::default(),
            guesses: Guesses::new(config.limits.guess_delay),
            logins: Logins::new(&config.limits),
            log_lines: LogLines::default(),
            endings: Turns::new(ENDS_PER_ROUND),
            long_turns: Turns::new(LONG_TURNS_PER_ROUND),
            short_reads: Turns::new(SHORT_READS_PER_ROUND),
            tls_computing: OnceLock::new(),
            tls_servers: OnceLock::new(),
            bus: BusRoots::new(&config.bus_roots),
            grants: Grants::new(config.limits.grants),
            queue_rules: config
                .queues
                .iter()
                .map(|rule| (FilterList::new(std::slice::from_ref(&rule.filter)), rule.full))
                .collect(),
            absent: AbsentQueues::default(),
            in_flight: InFlightBudget::default(),
            filters: FilterBudget::default(),
            growth: Growth::new(config.limits.retained_bytes_per_s, memory.retained_bytes),
            memory,
            wills: Wills::default(),
            registry_scans: RegistryScans::default(),
            config,
            retained: RwLock::default(),
            store,
            counters: Counters::default(),
            clock,
            random,
            not_accepting: AtomicUsize::new(0),
            stopping: watch::Sender::new(false),
        })
    }

    /// Returns the limits in effect.
    pub(crate) fn limits(&self) -> &Limits {
        self.live_limits.get()
    }

    /// Returns whether a topic concerns the object that administers the broker.
    pub(crate) fn is_administrative(&self, topic: &str) -> bool {
        let object = self.config.administrative_object.as_deref();
        object.is_some_and(|object| self.bus.topic(topic).is_some_and(|topic| topic.is_about(object)))
    }

    /// Returns the action for a message on `topic` when a queue is full.
    pub(crate) fn queue_full(&self, topic: &str) -> QueueFull {
        let rule = self.queue_rules.iter().find(|(filter, _)| filter.matches(topic));
        rule.map_or(self.limits().queue_full, |(_, full)| *full)
    }

    /// Returns whether another log line of this kind may be written now.
    pub(crate) fn may_log(&self, kind: &LineKind) -> bool {
        let limit = self.limits().log_lines_per_s;
        kind.admit(self.clock.now_ms(), limit, &self.counters.log_lines_left_out)
    }

    /// Returns whether to log that a client has reached a limit: once per limit.
    pub(crate) fn may_log_limit(&self, logged: &mut LoggedLimits, met: ReachedLimit) -> bool {
        logged.admit(met, || self.may_log(&self.log_lines.limits))
    }

    /// Returns the bus features of this broker, as announced in CONNACK.
    pub(crate) fn features(&self, principal: &Principal) -> &'static str {
        let acts_for = || !self.access.has_users() || self.access.may_act_for(principal, NOBODY);
        match (self.config.bus_roots.is_empty(), self.access.generation()) {
            (true, _) => "",
            (false, 0) => "caller",
            (false, _) if acts_for() => "caller,grants,acts_for",
            (false, _) => "caller,grants",
        }
    }

    /// Passes operations to the store. Returns their ticket; 0 without a store.
    pub(crate) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        self.store.as_ref().map_or(0, |store| store.put(ops, wake))
    }

    /// Returns the last ticket that is on disk.
    pub(crate) fn durable(&self) -> Ticket {
        self.store.as_ref().map_or(Ticket::MAX, Store::durable)
    }

    /// Returns the Reason String of refusals to store anything new; `None` if the disk is healthy or there is no
    /// store.
    pub(crate) fn disk_refusal(&self) -> Option<&'static str> {
        self.store.as_ref().and_then(|store| store.health().refusal())
    }

    /// Returns the maximum Session Expiry Interval, in seconds.
    pub(crate) fn max_session_expiry(&self) -> u32 {
        self.limits().session_expiry.as_secs().try_into().unwrap_or(u32::MAX)
    }
}
