//! Common parts of all attacks: target, duration, and rate limits.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::packet::{CONNACK, PUBLISH, SUBACK};
use rantai_testing::{Connect, Property, Version, subscribe};

use super::rate::Rate;
use crate::wire::{Wire, wait};

/// Source address and user of attackers.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub(crate) const USER: &str = "mallory";
pub(crate) const PASSWORD: &str = "hostile";

/// Maximum time that an attacker waits for a required answer before it reconnects.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Delay before an attacker reconnects after it was disconnected.
const RECONNECT_DELAY: Duration = Duration::from_millis(20);

/// State of one attack, shared by all its threads.
#[derive(Debug)]
pub(crate) struct Attacker {
    broker: SocketAddr,
    until: Instant,
    /// Size of the attack, in thousandths of its full size.
    scale: usize,
    random: Mutex<u64>,
    numbers: AtomicU64,
    cut_off: AtomicU64,
    steps: AtomicU64,
}

impl Attacker {
    /// Creates an attack on `broker` for some time, with `scale` thousandths of the full size. The same seed gives the
    /// same bytes.
    pub(crate) fn new(broker: SocketAddr, lasts: Duration, scale: usize, seed: u64) -> Self {
        Self {
            broker,
            until: Instant::now() + lasts,
            scale,
            random: Mutex::new(seed),
            numbers: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            steps: AtomicU64::new(0),
        }
    }

    /// Runs an attack until its time is over, and again whenever the broker has ended its connection.
    pub(crate) fn run(&self, attack: fn(&Self) -> io::Result<()>) {
        while !self.is_over() {
            if attack(self).is_err() && !self.is_over() {
                self.cut_off.fetch_add(1, Ordering::Relaxed);
            }
            self.sleep(RECONNECT_DELAY);
        }
    }

    /// Returns whether its time is over. On a slow machine, the attack continues until it has made at least one step.
    pub(crate) fn is_over(&self) -> bool {
        let now = Instant::now();
        now >= self.until && (self.steps() > 0 || now >= self.until + ANSWER_TIMEOUT)
    }

    /// Returns the number of times that the broker ended the attack.
    pub(crate) fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Returns the number of steps of the attack so far: writes, packets or connections.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number that corresponds to `full` at full size, at least 1.
    pub(crate) fn scaled(&self, full: usize) -> usize {
        (full * self.scale / 1_000).max(1)
    }

    /// Returns an expiry time for everything that is left behind, in whole seconds: shortly after the end of the
    /// attack.
    pub(crate) fn seconds_left(&self) -> u32 {
        let left = self.until.saturating_duration_since(Instant::now());
        left.as_secs() as u32 + 2
    }

    /// Returns the next number of the attack.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a pseudo-random number (splitmix64).
    pub(crate) fn random(&self) -> u64 {
        let mut state = self.random.lock().expect("nobody panics with it");
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Sleeps, but not much longer than the attack lasts.
    pub(crate) fn sleep(&self, time: Duration) {
        let left = self.until.saturating_duration_since(Instant::now());
        thread::sleep(time.min(left.max(RECONNECT_DELAY)));
    }

    /// Returns a rate of `full` tokens per second at full size.
    pub(crate) fn rate(&self, full: usize) -> Rate<'_> {
        let per_second = (full * self.scale) as f64 / 1_000.0;
        Rate::new(self, per_second)
    }

    /// Returns a CONNECT of the attacker's user, with a clean start and a new client id.
    pub(crate) fn hello(&self) -> Connect {
        let id = format!("abuse-{}", self.number());
        Connect::new(Version::V5).id(&id).user(USER).password(PASSWORD)
    }

    /// Returns a CONNECT with a session that outlives its connection, until shortly after the end of the attack.
    pub(crate) fn persistent(&self) -> Connect {
        self.hello().resume().property(Property::SessionExpiry(self.seconds_left()))
    }

    /// Opens a connection without sending anything.
    pub(crate) fn open(&self) -> io::Result<Wire> {
        Wire::open(ADDRESS, self.broker, None)
    }

    /// Opens a connection with the smallest possible receive buffer.
    pub(crate) fn open_narrow(&self) -> io::Result<Wire> {
        Wire::open(ADDRESS, self.broker, Some(4 << 10))
    }

    /// Connects, and waits for the CONNACK.
    pub(crate) fn connect(&self, connect: &Connect) -> io::Result<Wire> {
        self.greet(self.open()?, connect)
    }

    /// Sends CONNECT on an open connection, and waits for the CONNACK.
    pub(crate) fn greet(&self, mut wire: Wire, connect: &Connect) -> io::Result<Wire> {
        self.request(&mut wire, &connect.encode(), CONNACK)?;
        Ok(wire)
    }

    /// Subscribes, and waits for the SUBACK, whatever its codes are.
    pub(crate) fn subscribe(&self, wire: &mut Wire, filters: &[(&str, u8)]) -> io::Result<()> {
        self.request(wire, &subscribe(Version::V5, 1, filters), SUBACK)
    }

    /// Sends a packet, and waits for an answer of the kind `answer`.
    pub(crate) fn request(&self, wire: &mut Wire, packet: &[u8], answer: u8) -> io::Result<()> {
        wire.out().extend_from_slice(packet);
        self.await_kind(wire, answer)
    }

    /// Waits for a packet of this kind. Acknowledges messages that arrive before it.
    fn await_kind(&self, wire: &mut Wire, kind: u8) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut acknowledgements = Vec::new();
        loop {
            wire.flush()?;
            wait(&[wire], deadline.min(Instant::now() + RECONNECT_DELAY))?;
            wire.fill(usize::MAX)?;
            while let Some(frame) = wire.next_frame() {
                if frame.kind() == kind {
                    return match frame.reason() {
                        reason if kind == CONNACK && reason != 0 => {
                            Err(io::Error::other(format!("refused with {reason:#04x}")))
                        }
                        _ => Ok(()),
                    };
                }
                if frame.kind() == PUBLISH {
                    frame.acknowledge(&mut acknowledgements);
                }
            }
            wire.out().append(&mut acknowledgements);
            if Instant::now() >= deadline || self.is_over() {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Writes as much of `bytes` as the broker accepts, if it has accepted all earlier ones, which bounds the backlog
    /// of a client that does not read. Returns whether `bytes` was written.
    pub(crate) fn push(&self, wire: &mut Wire, bytes: &[u8]) -> io::Result<bool> {
        wire.flush()?;
        if wire.unsent() > 0 {
            self.sleep(Duration::from_millis(1));
            return Ok(false);
        }
        wire.out().extend_from_slice(bytes);
        wire.flush()?;
        Ok(true)
    }
}
