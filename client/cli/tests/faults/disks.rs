//! Periods in which the disk of a process fails, and the checks afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rantai_disk_faults::{Counts, Faults};
use tokio::time::{Instant, sleep};

use crate::calls::Caller;
use crate::mail;
use crate::world::{BROKER, PATIENCE, World};

/// Time limit for a process to work again after its disk does, without a restart.
const RECOVERY: Duration = Duration::from_secs(5);
/// Time limit for a process to start and open its files.
const START: Duration = Duration::from_secs(3);
/// Interval at which a process is checked while its disk fails.
const LOOK: Duration = Duration::from_millis(50);

/// Returns a kind of disk fault, as a name and numbers of affected calls out of 10,000.
fn fault(random: &mut fastrand::Rng) -> Faults {
    let (all, part) = (10_000, random.u32(500..5_000));
    let none = Faults::default();
    match random.u32(0..7) {
        0 => Faults { errors: all, ..none },
        1 => Faults { errors: part, short: 1_000, ..none },
        2 => Faults { no_space: all, ..none },
        3 => Faults { no_space: part, short: 2_000, ..none },
        // The disk does not respond during the whole period.
        4 => Faults { stalls: all, stall_ms: 60_000, ..none },
        5 => Faults { stalls: part, stall_ms: random.u32(10..400), ..none },
        _ => Faults { stalls: 500, stall_ms: 100, errors: part / 2, no_space: part / 2, short: 1_000 },
    }
}

/// Time at which a process with a failing disk is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kill {
    Never,
    /// This long after its disk has begun to fail.
    Within(Duration),
    /// As soon as its disk works again.
    After,
}

/// Statistics of the disks.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    windows: BTreeMap<String, u64>,
    /// Number of processes that could not start on a failing disk.
    unstarted: u64,
    recoveries: Vec<Duration>,
    after_starts: Vec<Duration>,
    broken: Vec<String>,
}

impl World {
    /// Makes the disk of a process fail for a while, possibly kills the process, and waits until everything works
    /// again.
    pub(crate) async fn fail_disk(&mut self, prober: &mut Caller) {
        let targets = self.with_disks();
        // In turn; the broker and the ledger first, because they write most.
        let windows: u64 = self.seen.windows.values().sum();
        let which = targets[targets.len() - 1 - (windows % targets.len() as u64) as usize];
        let faults = fault(&mut self.random);
        let time = Duration::from_millis(self.random.u64(200..2_500));
        let kill = match self.random.u32(0..4) {
            0 => Kill::Within(time.mul_f64(self.random.f64())),
            1 => Kill::After,
            _ => Kill::Never,
        };
        let seed = self.random.u64(..);
        let process = self.process(which);
        let name = process.name.clone();
        process.disk().expect("it has one").begin(&faults, seed).expect("begun");
        *self.seen.windows.entry(name.clone()).or_default() += 1;
        let began = Instant::now();
        // A process that has just been started may not have opened its files yet.
        let mut is_new = self.process(which).age() < START;
        let mut is_to_be_killed = matches!(kill, Kill::Within(_));
        while began.elapsed() < time {
            sleep(LOOK.min(time)).await;
            if let Kill::Within(after) = kill
                && is_to_be_killed
                && began.elapsed() >= after
            {
                (is_new, is_to_be_killed) = (true, false);
                self.kill(which);
            }
            self.start_if_ended(which, is_new);
        }
        self.process(which).disk().expect("it has one").end().expect("ended");
        let recovered = Instant::now();
        if kill == Kill::After {
            is_new = true;
            self.kill(which);
        }
        self.start_if_ended(which, is_new);
        // The network does not fail meanwhile, because it would distort the measurement.
        self.plan.fails.store(false, Ordering::Relaxed);
        let works = {
            let probe = probe(&name, self.place.clone(), prober);
            tokio::pin!(probe);
            loop {
                tokio::select! {
                    () = &mut probe => break true,
                    // The process may notice the last error only now.
                    () = sleep(LOOK) => self.start_if_ended(which, is_new),
                }
                if recovered.elapsed() > PATIENCE {
                    break false;
                }
            }
        };
        self.plan.fails.store(true, Ordering::Relaxed);
        let after = recovered.elapsed();
        println!("the disk of {name}: {faults:?} for {time:?}, new: {is_new}; works after {after:?}");
        if !works || (!is_new && after > RECOVERY) {
            let line = format!("{name} did not work {after:?} after its disk: {faults:?} for {time:?}");
            self.seen.broken.push(line);
        }
        let times = if is_new { &mut self.seen.after_starts } else { &mut self.seen.recoveries };
        times.push(after);
        for process in 0..self.count() {
            self.start_if_ended(process, process == which && is_new);
        }
    }

    fn kill(&mut self, which: usize) {
        let process = self.process(which);
        process.kill();
        process.again();
        let name = process.name.clone();
        *self.kills.entry(name).or_default() += 1;
    }

    /// Restarts a process that has ended by itself, which only one that was started on a failing disk may do.
    fn start_if_ended(&mut self, which: usize, may_end: bool) {
        let process = self.process(which);
        let Some(status) = process.ended() else { return };
        process.again();
        let name = process.name.clone();
        if may_end {
            self.seen.unstarted += 1;
        } else {
            self.seen.broken.push(format!("{name} ended by itself: {status}"));
        }
    }

    /// Returns the violated promises about disks.
    pub(crate) fn broken(&mut self) -> Vec<String> {
        for which in 0..self.count() {
            self.start_if_ended(which, false);
        }
        let mut broken = std::mem::take(&mut self.seen.broken);
        for which in self.with_disks() {
            let process = self.process(which);
            let counts = process.disk().map(|disk| disk.counts().expect("read")).unwrap_or_default();
            if counts.loaded == 0 {
                broken.push(format!("{} did not load the library for disk errors", process.name));
            }
        }
        broken
    }

    /// Returns the disk's rows of the table of faults.
    pub(crate) fn disk_faults(&mut self) -> Vec<(String, String)> {
        let mut rows: Vec<_> = self
            .seen
            .windows
            .iter()
            .map(|(name, count)| (format!("times that the disk of {name} failed"), count.to_string()))
            .collect();
        let mut all = Counts::default();
        for which in self.with_disks() {
            let counts = self.process(which).disk().map(|disk| disk.counts().expect("read"));
            let counts = counts.unwrap_or_default();
            all.failed += counts.failed;
            all.full += counts.full;
            all.short += counts.short;
            all.stalled += counts.stalled;
        }
        for (what, count) in [
            ("calls of the disk that failed with EIO", all.failed),
            ("calls of the disk that failed with ENOSPC", all.full),
            ("writes that wrote a part", all.short),
            ("calls of the disk that waited", all.stalled),
            ("starts that a failing disk refused", self.seen.unstarted),
        ] {
            rows.push((what.to_owned(), count.to_string()));
        }
        for (what, times) in [
            ("disk works again: until all works, without a restart", &mut self.seen.recoveries),
            ("disk works again: until all works, after a new start", &mut self.seen.after_starts),
        ] {
            times.sort_unstable();
            if let (Some(middle), Some(last)) = (times.get(times.len() / 2), times.last()) {
                let row = format!(
                    "{:.2} s in the median, {:.2} s at most",
                    middle.as_secs_f64(),
                    last.as_secs_f64()
                );
                rows.push((what.to_owned(), row));
            }
        }
        rows
    }
}

/// Waits until a process completes an operation that needs its disk; the broker listens at `place`.
async fn probe(name: &str, place: String, prober: &mut Caller) {
    if name == BROKER {
        tokio::task::spawn_blocking(move || mail::wait_until_kept(&place)).await.expect("no panic");
        return;
    }
    loop {
        let works = match name {
            "fault-a" => prober.once("lone", name).await,
            "fault-b" => prober.once("other", name).await,
            _ => prober.submit().await,
        };
        if works {
            return;
        }
    }
}
