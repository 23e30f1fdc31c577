//! One measurement: honest clients on one of two brokers, and an attack on one of them.

use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::failure::Failure;
use rantai_load::machine::status_kib;

use crate::attacks::{Attack, Attacker};
use crate::brokers::Kind;
use crate::cores;
use crate::honest::{self, Honest, Outcome, Signals};
use crate::machine::resident;
use crate::options::Options;
use crate::target::Server;

/// Time for a broker to close the connection by which its readiness was checked.
const PROBE_TIME: Duration = Duration::from_millis(50);
/// Time that the honest clients run before an attack begins.
const WARM_UP: Duration = Duration::from_millis(300);
/// Time that they continue after its connections were closed, because removing their state is work, too.
const TAIL_TIME: Duration = Duration::from_secs(1);

/// Target of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The broker of the honest clients.
    Beside,
    /// Another broker on the same machine.
    Elsewhere,
}

/// Result of a measurement. Times are in microseconds, memory is in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) worst: f64,
    /// Maximum time of an honest newcomer's connection.
    pub(crate) connect: f64,
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    pub(crate) repeated: u64,
    /// Error of honest clients that were disconnected or refused.
    pub(crate) complaint: Option<String>,
    /// Number of steps of the attacker.
    pub(crate) steps: u64,
    /// Number of times that the broker ended the attacker.
    pub(crate) cut_off: u64,
    pub(crate) memory_before: u64,
    pub(crate) memory_peak: u64,
}

/// Broker that was attacked. Its memory is measured after some time.
#[derive(Debug)]
pub(crate) struct Resting {
    server: Server,
    due: Instant,
    descriptors_before: usize,
}

/// Memory and descriptors after an attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors_before: usize,
    pub(crate) descriptors: usize,
}

impl Resting {
    /// Returns the time at which its memory is to be measured.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Waits until that time, and measures its memory and descriptors.
    pub(crate) fn weigh(self) -> Result<Remains, Failure> {
        thread::sleep(self.due.saturating_duration_since(Instant::now()));
        Ok(Remains {
            memory: resident(self.server.pid)?,
            descriptors_before: self.descriptors_before,
            descriptors: descriptors(self.server.pid)?,
        })
    }
}

/// Runs an attack, and returns its result.
pub(crate) fn measure(
    options: &Options,
    kind: Kind,
    attack: Attack,
    aim: Aim,
    seed: u64,
) -> Result<(Measured, Resting), Failure> {
    let (server, other) = (kind.start(options)?, kind.start(options)?);
    thread::sleep(PROBE_TIME);
    let descriptors_before = descriptors(server.pid)?;
    let clients = Honest::connect(server.address())
        .map_err(|error| Failure::from(error).during("the honest clients"))?;
    let signals = Signals::default();
    let aimed_at = if aim == Aim::Beside { server.address() } else { other.address() };
    let (outcome, arrivals, memory_before, (steps, cut_off)) = thread::scope(|scope| {
        let outcome = scope.spawn(|| clients.run(&signals));
        let arrivals = scope.spawn(|| honest::connect_repeatedly(server.address(), &signals));
        thread::sleep(WARM_UP);
        let memory_before = resident(server.pid);
        signals.counted_from.get_or_init(Instant::now);
        let hostile = scope.spawn(|| {
            cores::lower_priority();
            let attacker = Attacker::new(aimed_at, options.lasts, 1_000, seed);
            attacker.run(attack.run);
            (attacker.steps(), attacker.cut_off())
        });
        let attacker = hostile.join().expect("an attacker does not panic");
        thread::sleep(TAIL_TIME);
        signals.stop.store(true, Ordering::Relaxed);
        let outcome: Outcome = outcome.join().expect("the honest clients do not panic");
        (outcome, arrivals.join().expect("a newcomer does not panic"), memory_before, attacker)
    });
    let times = &outcome.calls.latencies;
    let complaint = outcome.cut_off.clone().or(arrivals.reason);
    let measured = Measured {
        p50: times.micros(0.5),
        p99: times.micros(0.99),
        worst: times.micros(1.0),
        connect: arrivals.latencies.micros(1.0),
        lost: outcome.lost(),
        refused: outcome.refused() + arrivals.refused,
        repeated: outcome.repeated(),
        complaint,
        steps,
        cut_off,
        memory_before: memory_before?,
        memory_peak: status_kib(server.pid, "VmHWM").unwrap_or(0) << 10,
    };
    Ok((measured, Resting { server, due: Instant::now() + options.after, descriptors_before }))
}

/// Returns the number of open descriptors of a process.
fn descriptors(pid: u32) -> Result<usize, Failure> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
