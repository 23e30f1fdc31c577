//! Comparison of this revision with another one, or of its broker with access rules with the one without. Every row is
//! measured in pairs, one measurement of each right after the other.
//!
//! Both get the same load. Calls, chains, tasks and files use each revision's own client and node, measured by its own
//! `rantai bench`; the loads of fans, memory and stock clients are those of this program. All processes are started
//! anew for each pair, so that their layout in memory affects only one pair.

mod side;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::load::Plan;
use crate::stock::Stock;
use crate::{Programs, process};
use rantai_load::failure::Failure;
use rantai_load::fan;
use side::{Side, number};
use verdict::Verdict;

/// Options of the comparison.
pub(crate) struct Against {
    /// Subject that this revision is compared with.
    pub(crate) other: Other,
    pub(crate) quick: bool,
    /// Text that the names of the measured rows contain.
    pub(crate) rows: String,
}

/// Subject that a revision is compared with.
#[derive(Clone, Debug)]
pub(crate) enum Other {
    /// Binary of another revision.
    Revision(PathBuf),
    /// The same binary without users and access rules; this revision then has them.
    WithoutRules,
}

/// Row of the table.
struct Row {
    name: &'static str,
    unit: &'static str,
    higher_is_better: bool,
    quick: bool,
    load: RowLoad,
    pairs: Vec<(f64, f64)>,
    failure: Option<Failure>,
}

/// Load of a row.
#[derive(Clone, Copy)]
enum RowLoad {
    /// p50 of `rantai bench` with these arguments.
    Latency(&'static str),
    /// Throughput of `rantai bench` with these arguments.
    Throughput(&'static str),
    FanOut {
        qos: u8,
        payload: usize,
    },
    FanIn {
        qos: u8,
        payload: usize,
    },
    FetchFile,
    SendFile,
    IdleMemory,
    Paho,
    MqttJs,
}

const SMALL: usize = 100;
const LARGE: usize = 64 << 10;

fn rows() -> Vec<Row> {
    let row = |name, unit, quick, load| {
        let higher_is_better = unit != "µs" && unit != "KiB";
        Row { name, unit, higher_is_better, quick, load, pairs: Vec::new(), failure: None }
    };
    let calls = |name, quick, arguments| row(name, "calls/s", quick, RowLoad::Throughput(arguments));
    let fans = |name, quick, load| row(name, "messages/s", quick, load);
    vec![
        row("one call, QoS 0", "µs", true, RowLoad::Latency("call --in-flight 1 --qos 0")),
        row("one call, QoS 1", "µs", true, RowLoad::Latency("call --in-flight 1 --qos 1")),
        calls("64 calls, QoS 0", true, "call --in-flight 64 --qos 0"),
        calls("64 calls, QoS 1", true, "call --in-flight 64 --qos 1"),
        row("chain of three", "µs", false, RowLoad::Latency("chain example.chainTopology.A --in-flight 1")),
        fans("fan-out, 100 B, QoS 0", false, RowLoad::FanOut { qos: 0, payload: SMALL }),
        fans("fan-out, 100 B, QoS 1", true, RowLoad::FanOut { qos: 1, payload: SMALL }),
        fans("fan-out, 64 KiB, QoS 0", false, RowLoad::FanOut { qos: 0, payload: LARGE }),
        fans("fan-out, 64 KiB, QoS 1", false, RowLoad::FanOut { qos: 1, payload: LARGE }),
        fans("fan-in, 100 B, QoS 0", false, RowLoad::FanIn { qos: 0, payload: SMALL }),
        fans("fan-in, 100 B, QoS 1", true, RowLoad::FanIn { qos: 1, payload: SMALL }),
        fans("fan-in, 64 KiB, QoS 0", false, RowLoad::FanIn { qos: 0, payload: LARGE }),
        fans("fan-in, 64 KiB, QoS 1", false, RowLoad::FanIn { qos: 1, payload: LARGE }),
        row("file, fetched", "MiB/s", false, RowLoad::FetchFile),
        row("file, sent", "MiB/s", false, RowLoad::SendFile),
        row("tasks, stored and ended", "tasks/s", false, RowLoad::Throughput("task --in-flight 16")),
        row("idle connection", "KiB", true, RowLoad::IdleMemory),
        row("stock paho, QoS 1", "µs", true, RowLoad::Paho),
        row("stock mqtt.js, QoS 1", "µs", false, RowLoad::MqttJs),
    ]
}

/// Stock clients, used for both revisions.
struct Stocks {
    paho: Stock,
    mqttjs: Stock,
}

impl RowLoad {
    fn measure(self, side: &Side, stocks: &mut Stocks, plan: Plan) -> Result<f64, Failure> {
        let fan = |qos, payload| fan::Load { qos, payload, warm_up: plan.warm_up, length: plan.length };
        let deadline = Instant::now() + plan.warm_up + plan.length + Duration::from_secs(10);
        let words = |arguments: &'static str| arguments.split(' ').collect::<Vec<_>>();
        let p50 = |outcome: crate::load::Outcome| {
            outcome.latency.map(|(p50, _)| p50).ok_or_else(|| Failure::new("no call ended"))
        };
        match self {
            Self::Latency(arguments) => number(&side.bench(&words(arguments), plan)?, "/latency_us/p50"),
            Self::Throughput(arguments) => number(&side.bench(&words(arguments), plan)?, "/throughput"),
            Self::FanOut { qos, payload } => fan::out(side.address, fan(qos, payload), deadline),
            Self::FanIn { qos, payload } => fan::inward(side.address, fan(qos, payload), deadline),
            Self::FetchFile => side.fetch_file(plan),
            Self::SendFile => side.send_file(),
            Self::IdleMemory => side.idle_memory(),
            Self::Paho => p50(stocks.paho.calls(side.address.port(), 1, plan)?),
            Self::MqttJs => p50(stocks.mqttjs.calls(side.address.port(), 1, plan)?),
        }
    }
}

impl RowLoad {
    /// Returns whether the load can log in: the clients of `rantai` can, those of the load generator cannot.
    fn logs_in(self) -> bool {
        matches!(self, Self::Latency(_) | Self::Throughput(_) | Self::FetchFile | Self::SendFile)
    }
}

impl Row {
    /// Measures both, this revision `first` or second.
    fn pair(&mut self, this: &Side, other: &Side, first: bool, stocks: &mut Stocks, plan: Plan) {
        let mut measure = |side: &Side, whose: &str| {
            self.load.measure(side, stocks, plan).map_err(|failure| failure.during(whose))
        };
        let pair = if first {
            measure(this, "this revision").and_then(|a| Ok((a, measure(other, "the other")?)))
        } else {
            measure(other, "the other").and_then(|b| Ok((measure(this, "this revision")?, b)))
        };
        match pair {
            Ok(pair) => self.pairs.push(pair),
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// Returns the row of the table.
    fn line(&self) -> String {
        let name = self.name;
        if let Some(failure) = &self.failure {
            return format!("| {name} | {} | | | | failed: {failure} |", self.unit);
        }
        let Some(verdict) = Verdict::of(&self.pairs, self.higher_is_better) else {
            return format!("| {name} | {} | | | | too few pairs: {} |", self.unit, self.pairs.len());
        };
        let shown = |value: f64| if value < 1000.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        let Verdict { this, other, ratio, word } = verdict;
        format!(
            "| {name} | {} | {} | {} | {:.3} ({:.3} to {:.3}) | {word} |",
            self.unit,
            shown(other),
            shown(this),
            ratio.median,
            ratio.low,
            ratio.high,
        )
    }
}

impl Against {
    fn pairs(&self) -> usize {
        if self.quick { 11 } else { 15 }
    }

    fn plan(&self) -> Plan {
        let (warm_up, length) = if self.quick { (50, 200) } else { (100, 400) };
        Plan { warm_up: Duration::from_millis(warm_up), length: Duration::from_millis(length) }
    }

    /// Returns the time limit after which the run is aborted.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(if self.quick { 600 } else { 1_800 })
    }

    /// Prints the table. Returns false if a row failed.
    pub(crate) fn run(&self, programs: &Programs) -> Result<bool, Failure> {
        let mut rows = rows();
        let rules = matches!(self.other, Other::WithoutRules);
        rows.retain(|row| (row.quick || !self.quick) && row.name.contains(&self.rows));
        rows.retain(|row| !rules || row.load.logs_in());
        if rows.is_empty() {
            return Err(Failure::new(format!("no row has {:?} in its name", self.rows)));
        }
        let mut stocks = Stocks { paho: Stock::paho(&programs.python)?, mqttjs: Stock::mqttjs()? };
        let (began, busy_before) = (Instant::now(), process::cpu_time_of_all()?);
        for pair in 0..self.pairs() {
            eprintln!("pair {} of {}, after {} s", pair + 1, self.pairs(), began.elapsed().as_secs());
            let (this, other) = start_both(&programs.rantai, &self.other)?;
            for (index, row) in rows.iter_mut().enumerate() {
                // The order also alternates between the rows of a pair.
                row.pair(&this, &other, (pair + index).is_multiple_of(2), &mut stocks, self.plan());
            }
        }
        let used = (process::cpu_time_of_all()? - busy_before) / 1e6 / began.elapsed().as_secs_f64();
        println!(
            "{} pairs of {} s, {:.1} cores in use. Ratio: median of the pairs' ratios and its interval of 95 %; above 1 this \
             revision is better.\n",
            self.pairs(),
            self.plan().length.as_secs_f64(),
            used
        );
        println!("| Row | | other | this | ratio | |\n|---|---|---:|---:|---:|---|");
        for row in &rows {
            println!("{}", row.line());
        }
        Ok(rows.iter().all(|row| row.failure.is_none()))
    }
}

fn start_both(this: &Path, other: &Other) -> Result<(Side, Side), Failure> {
    let (program, rules) = match other {
        Other::Revision(program) => (&**program, false),
        Other::WithoutRules => (this, true),
    };
    std::thread::scope(|scope| {
        let other =
            scope.spawn(|| Side::start(program, false).map_err(|failure| failure.during("the other")));
        let this = Side::start(this, rules).map_err(|failure| failure.during("this revision"))?;
        let other = other.join().unwrap_or_else(|_| Err(Failure::new("its start panicked")))?;
        Ok((this, other))
    })
}
