//! Times in which the disk of a process fails, and what has to be true afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rantai_disk_faults::{Counts, Faults};
use tokio::time::{Instant, sleep};

use crate::calls::Caller;
use crate::mail;
use crate::world::{BROKER, PATIENCE, World};

/// Within this time after its disk works again a process does everything again, without a restart.
const RECOVERY: Duration = Duration::from_secs(5);
/// Within this time a process has started, and has opened its files.
const START: Duration = Duration::from_secs(3);
/// How often a process is looked at while its disk fails.
const LOOK: Duration = Duration::from_millis(50);

/// What disks can do, as a name and shares of 10,000 calls.
fn fault(random: &mut fastrand::Rng) -> Faults {
    let (all, part) = (10_000, random.u32(500..5_000));
    let none = Faults::default();
    match random.u32(0..7) {
        0 => Faults { errors: all, ..none },
        1 => Faults { errors: part, short: 1_000, ..none },
        2 => Faults { no_space: all, ..none },
        3 => Faults { no_space: part, short: 2_000, ..none },
        // It does not answer for as long as the window lasts.
        4 => Faults { stalls: all, stall_ms: 60_000, ..none },
        5 => Faults { stalls: part, stall_ms: random.u32(10..400), ..none },
        _ => Faults { stalls: 500, stall_ms: 100, errors: part / 2, no_space: part / 2, short: 1_000 },
    }
}

/// When a process is killed that has such a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kill {
    Never,
    /// While its disk fails.
    Within(Duration),
    /// As soon as it works again.
    After,
}

/// What was seen at the disks.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    windows: BTreeMap<String, u64>,
    /// Processes that could not start on such a disk.
    unstarted: u64,
    recoveries: Vec<Duration>,
    after_starts: Vec<Duration>,
    broken: Vec<String>,
}

impl World {
    /// Lets the disk of a process fail for a while, and perhaps kills it, and waits until everything works again.
    pub(crate) async fn fail_disk(&mut self, prober: &mut Caller) {
        let targets = self.with_disks();
        // Each in its turn, the broker and the ledger first: they have most to write.
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
        // Started a moment ago: its files may not be open yet.
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
        // The network leaves these in peace, or it would be among what is measured.
        self.plan.fails.store(false, Ordering::Relaxed);
        let works = {
            let probe = probe(&name, self.place.clone(), prober);
            tokio::pin!(probe);
            loop {
                tokio::select! {
                    () = &mut probe => break true,
                    // It may have met the last of the errors only now.
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

    /// Starts a process again that has ended by itself: only one that was started on a disk that failed may do so.
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

    /// What broke a promise about disks.
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

    /// The disk's rows of the table of faults.
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

/// Waits until a process does what needs its disk; the broker listens at `place`.
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
