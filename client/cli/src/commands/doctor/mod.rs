//! `rantai doctor`: examines whether a broker, ours or another, meets the needs of objects and callers, and what clients may
//! do on it.
//!
//! | Module | Content |
//! |---|---|
//! | `bus` | What objects and callers need: a file for each exchange with the broker |
//! | `strangers` | Actions that must be denied to a client |
//! | `examination` `identity` `topics` | State shared by all items: broker, identities, topics |
//! | `item` `advice` `report` | Items by id, findings, and advice |
//! | `traces` | Messages and sessions left on the broker, which have to be removed |
//! | `link` `wire` `trouble` | MQTT on the wire: reason codes, properties, acknowledgements |

mod advice;
mod bus;
mod examination;
mod identity;
mod item;
mod link;
mod product;
mod report;
mod strangers;
mod topics;
mod traces;
mod trouble;
mod wire;

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use crate::connection::{Broker, duration, log, note, run};
use crate::exit::{Exit, Failure};
use crate::signals::stop_signal;
use bus::Reach;
use examination::{Examination, Probe};
use item::{Finding, Item};
use link::Limits;
use report::Report;
use trouble::Trouble;

/// Maximum number of items examined at the same time, as brokers may limit connections.
const MAX_ITEMS_AT_ONCE: usize = 6;
/// Time limit for removing traces, also after Ctrl-C.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(8);
/// Minimum time limit of the item with many names.
const LOAD_TIMEOUT: Duration = Duration::from_mins(1);

/// Examine a broker, ours or another: whether the bus works on it, and who may do what
///
/// Connects with client ids and topics of its own (doctor-…), and removes what it leaves on the broker.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai doctor                                 the broker on this machine
  rantai doctor mqtt://pi.local --user ada --password-file ada.password
  rantai doctor --load --json                   with 10,000 retained names, as JSON

Each item is ok, a warning, fails, is untested where the user may not try it, or unknown where the broker's answers do not \
tell; docs/doctor.md says what each of them means.

Exit codes: 0 the bus works, 1 it cannot work, 2 it works and is open to strangers (or a wrong command line), also where \
either could not be told; 130 cancelled.")]
pub(crate) struct Doctor {
    /// The broker, instead of --broker
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Also publish and read so many retained names
    #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, default_missing_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    load: Option<u32>,
    /// The user is an admin or serves objects: do not try what it may do with the clients of others
    #[arg(long)]
    trusted: bool,
    /// The time of each item: 5, 5s or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

/// Item under examination; some exchanges give the findings of several items.
type Running<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + 'a>>;

/// Examines an item. Its time limit begins when the future is first polled.
fn running<'a, F>(examination: &'a Examination, item: Item, attempt: fn(Probe<'a>) -> F) -> Running<'a>
where
    F: Future<Output = Result<Finding, Trouble>> + 'a,
{
    running_with(examination, item, attempt)
}

/// Like [`running`], for an attempt that captures values.
fn running_with<'a, F>(
    examination: &'a Examination,
    item: Item,
    attempt: impl FnOnce(Probe<'a>) -> F + 'a,
) -> Running<'a>
where
    F: Future<Output = Result<Finding, Trouble>> + 'a,
{
    Box::pin(async move {
        let probe = examination.probe();
        vec![item.conclude(attempt(probe).await)]
    })
}

impl Doctor {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        if let Some(url) = self.url.take() {
            self.broker.name(url);
        }
        if self.broker.shown().contains(',') {
            return Err(Failure::new(Exit::Usage, "several brokers are named; examine one after the other"));
        }
        let examination = Examination::new(self.broker.address()?, self.broker.root()?, self.timeout);
        run(self.examine(&examination))
    }

    async fn examine(&self, examination: &Examination) -> Result<(), Failure> {
        let stop = stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let findings = tokio::select! {
            findings = self.findings(examination) => Some(findings),
            _ = stop => None,
        };
        // Short, as a supervisor that stops the process does not wait long.
        let time = if findings.is_some() && self.load.is_some() { LOAD_TIMEOUT } else { REMOVAL_TIMEOUT };
        let limits = Limits { grace: Duration::ZERO, ..examination.limits(Instant::now() + time) };
        let removed = examination.traces.remove(&limits).await;
        if let Err(trouble) = removed {
            note(&format!("warning: what was tried is not removed, and expires: {trouble}"));
        }
        let Some(findings) = findings else {
            return Err(Failure::new(Exit::Cancelled, "cancelled before every item was examined"));
        };
        let report = Report { examination, findings };
        report.print(self.json);
        report.result()
    }

    async fn findings(&self, examination: &Examination) -> Vec<Finding> {
        let (reachable, reach) = bus::reach(examination).await;
        let mut findings = vec![reachable];
        let (mut items, mut alone): (Vec<Running<'_>>, Vec<Running<'_>>) = (Vec::new(), Vec::new());
        if !matches!(reach, Reach::Nowhere) {
            items.push(running(examination, item::VERSIONS, bus::versions));
        }
        if matches!(reach, Reach::Connects) {
            items.extend(bus::examinations(examination));
        }
        if !matches!(reach, Reach::Nowhere) {
            items.push(Box::pin(async { vec![bus::encryption(examination)] }));
            if examination.address.uses_tls() {
                items.push(running(examination, item::CERTIFICATE, bus::certificate));
                items.push(running(examination, item::PLAIN_PORT, bus::plain_port));
            }
            items.extend(strangers::without_login(examination));
            alone.push(strangers::everything(examination, false));
        }
        if matches!(reach, Reach::Connects) && examination.is_known() && !self.trusted {
            items.extend(strangers::with_login(examination));
            alone.push(strangers::everything(examination, true));
        }
        findings.extend(stream::iter(items).buffered(MAX_ITEMS_AT_ONCE).collect::<Vec<_>>().await.concat());
        findings.extend(stream::iter(alone).buffered(1).collect::<Vec<_>>().await.concat());
        if let (Some(names), Reach::Connects) = (self.load, reach) {
            let probe = Probe { examination, deadline: Instant::now() + self.timeout.max(LOAD_TIMEOUT) };
            findings.push(item::RETAINED_LOAD.conclude(bus::names(probe, names as usize).await));
        }
        findings.sort_by_key(|finding| finding.item.rank());
        findings
    }
}
