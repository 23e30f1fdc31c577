//! `rantai bench pub`: publishes messages to subscribers, without any object.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rantai_client::client::{own_id, random_id};
use rantai_client::session::{Filter, Message, Options as Session, Outlet, Publish, QoS, Receiver, Unsent};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::board::{Board, DeliveryCounts, HEADER, Key};
use super::load::Ticket;
use super::options::{Options, Run, SIZE, size};
use super::report::{Figure, Report, Times};
use super::tally::{Done, Problem};
use crate::exit::{Exit, Failure};

/// Publish messages to subscribers of its own
///
/// A message is under way until every subscriber has got it; so many of each publisher are at a time.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench pub                                  one to one
  rantai bench pub --publishers 50 --qos 0          fan-in: fifty to one
  rantai bench pub --subscribers 50 --size 1024     fan-out: one to fifty
  rantai bench pub --rate 1000 --timeout 1s         what takes longer counts as lost
")]
pub(super) struct Publishing {
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    publishers: u16,
    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    subscribers: u16,
    /// Where to; a topic nobody else uses, if it is left out
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Bytes of a message, 20 at least, which identify it
    #[arg(long, value_name = "BYTES", value_parser = size, default_value_t = SIZE)]
    size: usize,
    /// Delivery guarantee, on both ways
    #[arg(long, value_name = "0|1", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    #[command(flatten)]
    options: Options,
}

/// Sessions of a run.
struct Bus {
    publishers: Vec<rantai_client::session::Session>,
    subscribers: Vec<rantai_client::session::Session>,
}

impl Publishing {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if self.size < HEADER {
            return Err(Failure::new(Exit::Usage, format!("--size is at least {HEADER} bytes")));
        }
        let run = self.options.clone().begin()?;
        let topic = match &self.topic {
            Some(topic) => topic.clone(),
            None => format!("{}/bench/{}", run.connection.broker.root()?, random_id("pub")),
        };
        let report = self.measure(&run, topic).await?;
        run.conclude(&report)
    }

    fn guarantee(&self) -> QoS {
        if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
    }

    async fn measure(&self, run: &Run, topic: String) -> Result<Report, Failure> {
        let (publishers, subscribers) = (usize::from(self.publishers), usize::from(self.subscribers));
        let marks = uuid::Uuid::new_v4().as_u64_pair();
        let board = Arc::new(Board::new(marks.0, publishers, subscribers));
        let bus = run.unless_stopped(self.connect(run, &board, &topic)).await??;
        let in_flight = run.in_flight(64);
        let sender = Sender {
            board: board.clone(),
            outlets: bus.publishers.iter().map(rantai_client::session::Session::outlet).collect(),
            topic: topic.clone(),
            filling: vec![b'x'; self.size - HEADER].into(),
            qos: self.guarantee(),
            timeout: run.options.timeout,
        };
        let sender = Arc::new(sender);
        let anew = || drop(board.take_seen());
        let send = move |ticket: Ticket| sender.clone().send(ticket);
        let (measured, warmup_errors) = run.measure(publishers * in_flight, anew, send).await?;
        let seen = board.take_seen();
        for session in bus.publishers.iter().chain(&bus.subscribers) {
            session.close().await;
        }
        let mut settings = run.settings(in_flight, self.publishers);
        settings.remove("clients");
        settings.insert("publishers".to_owned(), json!(self.publishers));
        settings.insert("subscribers".to_owned(), json!(self.subscribers));
        settings.insert("qos".to_owned(), json!(self.qos));
        settings.insert("size".to_owned(), json!(self.size));
        let mut report = Report {
            bench: "pub",
            what: self.topic.clone().unwrap_or_else(|| "messages".to_owned()),
            broker: run.shown(),
            settings,
            measured,
            warmup_errors,
            figures: Vec::new(),
            times: Vec::new(),
        };
        report.figures = figures(&report, &seen);
        if subscribers > 1 {
            let latencies = seen.latencies;
            report.times.push(Times { name: "delivery_us", label: "Each delivery", latencies });
        }
        Ok(report)
    }

    async fn connect(&self, run: &Run, board: &Arc<Board>, topic: &str) -> Result<Bus, Failure> {
        let address = run.connection.broker.address()?;
        let options = |kind: &str| Session::new(address.clone(), own_id(address.user(), random_id(kind)));
        let mut bus = Bus { publishers: Vec::new(), subscribers: Vec::new() };
        for _ in 0..self.subscribers {
            let inbox = Inbox { board: board.clone(), last: vec![0; self.publishers.into()] };
            let session = rantai_client::session::Session::connect(options("bench-sub"), |_| inbox).await?;
            session.begin(vec![Filter::new(topic).live().qos(self.guarantee())]).await?;
            bus.subscribers.push(session);
        }
        for _ in 0..self.publishers {
            let outcome = Outcome { board: board.clone() };
            let session = rantai_client::session::Session::connect(options("bench-pub"), |_| outcome).await?;
            bus.publishers.push(session);
        }
        Ok(bus)
    }
}

fn figures(report: &Report, seen: &DeliveryCounts) -> Vec<Figure> {
    let mib = seen.bytes as f64 / f64::from(1 << 20);
    let figure = |name, label, value| Figure { name, label, value };
    let mut figures = vec![
        figure("deliveries", "Deliveries", seen.deliveries as f64),
        figure("deliveries_per_second", "  a second", report.per_second(seen.deliveries as f64)),
        figure("mib_per_second", "  MiB a second", report.per_second(mib)),
    ];
    for (name, label, count) in [
        ("out_of_order", "  twice or astray", seen.out_of_order),
        ("too_late", "  too late", seen.too_late),
        ("foreign", "  of others", seen.foreign),
    ] {
        if count > 0 {
            figures.push(figure(name, label, count as f64));
        }
    }
    figures
}

/// Receiver of a publisher's session, which records failures of publishing.
struct Outcome {
    board: Arc<Board>,
}

impl Receiver for Outcome {
    fn message(&mut self, _: Message) {}

    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        if let (Err(error), Some(key)) = (result, Key::of_token(token)) {
            self.board.refused(key, &error);
        }
    }
}

/// Receiver of a subscriber's session, which records its messages.
struct Inbox {
    board: Arc<Board>,
    /// Last number received of each publisher.
    last: Vec<u64>,
}

impl Receiver for Inbox {
    fn message(&mut self, message: Message) {
        self.board.arrived(&message.payload, &mut self.last);
    }
}

struct Sender {
    board: Arc<Board>,
    outlets: Vec<Outlet>,
    topic: String,
    filling: Bytes,
    qos: QoS,
    timeout: Duration,
}

impl Sender {
    async fn send(self: Arc<Self>, ticket: Ticket) -> Result<Done, Problem> {
        let deadline = Instant::now() + self.timeout;
        let publisher = ticket.worker % self.outlets.len();
        let outlet = &self.outlets[publisher];
        match timeout_at(deadline, outlet.room()).await {
            Ok(room) => room.map_err(|error| Problem::from(&error))?,
            Err(_) => return Err(Problem::new("expired", "not sent in time: no connection to the broker")),
        }
        // No await from here to `send_now`, as numbers have to be in the order of publishing.
        let (key, word) = self.board.expect(publisher, ticket.due);
        let payload = [&self.board.header(key), &self.filling[..]].concat();
        let publish = Publish::new(self.topic.as_str(), payload).qos(self.qos).once();
        if let Err(error) = outlet.send_now(publish, key.token()) {
            self.board.give_up(key);
            return Err((&error).into());
        }
        match timeout_at(deadline, word).await {
            Ok(Ok(Ok(()))) => Ok(Done::default()),
            Ok(Ok(Err(problem))) => Err(problem),
            Ok(Err(_)) | Err(_) => {
                let there = self.board.give_up(key);
                let text = format!("within {:?} {there} subscribers had got it", self.timeout);
                Err(Problem::new("lost_message", text))
            }
        }
    }
}
