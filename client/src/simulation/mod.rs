//! Deterministic simulation of a session in virtual time: the connection task, with everything above the byte stream,
//! runs against brokers, a network and an application whose behavior is derived from a seed.
//!
//! | Module | Content |
//! |---|---|
//! | `seeds` | Runs many seeds, and counts the states that they reach |
//! | `chances` | Probabilities of events |
//! | `world` | The clock, the agenda, the connections and the trace of one seed |
//! | `link`, `stream` | A connection, and the client's end of it |
//! | `broker`, `incidents` | Two brokers that keep MQTT 5 sessions; disturbances |
//! | `app` | The application: publishes, subscribes, drops futures, and receives messages |
//! | `edge` | Checks all packets that the session writes and reads |
//! | `record`, `wishes` | Requests of the application, and the results and subscriptions that they allow |
//! | `packet` | Packets, written and read by hand |
//!
//! Checked promises: an acknowledged publish has arrived, and one that was not sent has not; each future completes;
//! publishes of one publisher stay in order; messages that may be retransmitted are, by the rules of MQTT 5, and all
//! others are sent once; packet ids, Receive Maximum and Maximum Packet Size are respected; messages are passed to the
//! application in order, and acknowledged once after that; the subscriptions are those that the application has
//! requested; the send queue is bounded; dead connections are closed, and no others.

mod app;
mod broker;
mod chances;
mod edge;
mod incidents;
mod link;
mod packet;
mod record;
mod seeds;
mod stream;
mod wishes;
mod world;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::environment::{Environment, ManualClock};
use crate::session::{Address, Options, Publish, Session, Status, Unsent};
use crate::wire::name::ClientId;

use app::{App, Callbacks};
use record::Ending;
use seeds::{Run, for_each_seed};
use world::{World, drive};

pub(crate) use stream::{SimulatedPlace, SimulatedStream};

/// Minimum number of events of each seed.
const EVENTS: u64 = 1_000;
/// Number of events after which a seed with few incidents ends.
const MAX_EVENTS: u64 = 4_000;
const INCIDENTS: u64 = 10;
/// Time limit for the end of a session, in milliseconds: queued messages are written, and then DISCONNECT.
const ENDING_MS: u64 = 21_000;
/// Time limit for recovery after the last disturbance, in milliseconds: to notice a dead connection with a keep-alive
/// of a minute, and to wait for the next attempt to connect.
const CALM_MS: u64 = 400_000;
/// Maximum duration of a seed, in milliseconds of virtual time.
const MAX_MS: u64 = 24 * 3_600_000;

/// Outcome of a session.
enum Gone {
    /// It has ended; another one follows.
    Ended,
    /// The seed is finished.
    Done,
}

fn options(world: &Arc<Mutex<World>>, seed: u64) -> Options {
    let mut all = world.lock();
    let count = all.pick(&[1, 2]);
    let places = (0..count).map(|broker| SimulatedPlace { world: world.clone(), broker });
    let address = Address::simulated(places.collect());
    let id = ClientId::new("simulated").expect("letters");
    let mut options = Options::new(address, id);
    options.keep_alive = all.pick(&[1, 2, 5, 30]);
    options.session_expiry = all.pick(&[0, 3_600]);
    options.max_packet = all.pick(&[5_000, 100_000]);
    options.patient = all.random.bool();
    options.environment = Environment::simulated(ManualClock::new(0), seed);
    let record = &mut all.record;
    record.places = count;
    (record.keep_alive, record.session_expiry) = (options.keep_alive, options.session_expiry);
    record.max_packet = options.max_packet;
    options
}

/// Connects a session, with as many attempts as that takes.
async fn begin(world: &Arc<Mutex<World>>, options: &Options) -> Option<(Session, App)> {
    world.lock().record.begin_session();
    let session = world.lock().record.session;
    loop {
        let app = |outlet| App { world: world.clone(), outlet, session };
        match Session::connect(options.clone(), |outlet| Callbacks(app(outlet))).await {
            Ok(session) => {
                let app = app(session.outlet());
                app.begin_ids();
                return Some((session, app));
            }
            Err(error) => {
                let mut world = world.lock();
                world.event("first attempt failed");
                world.note(format_args!("no session: {error}"));
                if world.violation.is_some() || world.now() > MAX_MS {
                    return None;
                }
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Lets the application use the session until it ends, or the seed has had its events.
async fn live(app: &App, session: Session, driver: &JoinHandle<()>) -> Gone {
    let status = session.status();
    let mut calm_since = None;
    loop {
        sleep(Duration::from_millis(50)).await;
        if let Some(reason) = ended(&status) {
            {
                let mut world = app.world.lock();
                if world.violation.is_some() {
                    return Gone::Done;
                }
                if !world.record.is_taken_over {
                    world.violate(format!("the session has ended by itself: {reason}"));
                }
            }
            check_end(app).await;
            return Gone::Ended;
        }
        let ending = {
            let mut world = app.world.lock();
            let now = world.now();
            if driver.is_finished() || now > MAX_MS {
                world.violate("the simulation stands still".to_owned());
            }
            if world.violation.is_some() {
                return Gone::Done;
            }
            let is_enough =
                world.events >= EVENTS && (world.incidents >= INCIDENTS || world.events >= MAX_EVENTS);
            if is_enough && !world.is_calm {
                world.calm();
            }
            if world.is_calm {
                let since = *calm_since.get_or_insert(now);
                if is_quiet(&mut world, app, &status) {
                    check_filters(&mut world);
                    Some(Ending::Closed)
                } else if now - since > CALM_MS {
                    let waiting = format!("{:?}", world.record.waiting);
                    let unfinished: Vec<_> = world.record.unfinished().map(|(which, _)| which).collect();
                    world.violate(format!("not done: {waiting}, publishes {unfinished:?}"));
                    return Gone::Done;
                } else {
                    None
                }
            } else if world.random.u64(..1_000) < world.chances.end {
                let reason = Ending::EndedWith("enough".to_owned());
                let endings = [Ending::Closed, Ending::Dropped, reason];
                let index = world.random.usize(..endings.len());
                Some(endings[index].clone())
            } else {
                None
            }
        };
        if let Some(ending) = ending {
            let is_calm = app.world.lock().is_calm;
            end(app, session, ending).await;
            return if is_calm { Gone::Done } else { Gone::Ended };
        }
    }
}

fn ended(status: &watch::Receiver<Status>) -> Option<String> {
    match &*status.borrow() {
        Status::Ended(reason) => Some(reason.clone()),
        _ => None,
    }
}

/// Returns whether all requests of the application have results, and all messages are acknowledged.
fn is_quiet(world: &mut World, app: &App, status: &watch::Receiver<Status>) -> bool {
    if !world.record.waiting.is_empty() || world.record.unfinished().next().is_some() {
        return false;
    }
    let is_online = matches!(*status.borrow(), Status::Online(_));
    let is_settled = world.with_newest(|world, link| {
        let broker = &world.brokers[link.broker];
        link.edge.is_quiet()
            && link.to_broker.is_empty()
            && link.to_client.is_empty()
            && broker.current == Some(link.number)
            && broker.is_quiet()
    });
    let is_quiet = is_online && is_settled == Some(true);
    let backlog = app.outlet.backlog();
    if is_quiet && backlog > 0 {
        world.violate(format!("{backlog} bytes are left in the send queue"));
    }
    is_quiet
}

/// Checks that the broker has all filters that the application has subscribed to.
fn check_filters(world: &mut World) {
    let found = world.with_newest(|world, link| {
        let session = world.brokers[link.broker].session.as_ref();
        session.map(|session| session.filters.clone()).unwrap_or_default()
    });
    let found = found.unwrap_or_default();
    let missing = world.record.wishes.wanted().find(|(topic, options)| found.get(*topic) != Some(options));
    if let Some(missing) = missing {
        let text = format!("{missing:?} is missing at the broker: {found:?}");
        world.violate(text);
    }
    // Unsubscribing at one broker does not change the session of the other.
    let left = world.record.wishes.ended().find(|topic| found.contains_key(*topic));
    if let Some(left) = left
        && world.record.places == 1
    {
        let text = format!("{left} is left at the broker: {found:?}");
        world.violate(text);
    }
    world.reach("subscriptions compared at the end");
}

/// Ends the session in one of several ways.
async fn end(app: &App, session: Session, ending: Ending) {
    {
        let mut world = app.world.lock();
        world.note(format_args!("the application ends the session: {ending:?}"));
        world.event(match ending {
            Ending::Closed => "session closed",
            Ending::Dropped => "session dropped",
            Ending::EndedWith(_) => "session ended with a reason",
        });
        world.record.ending = Some(ending.clone());
    }
    let mut status = session.status();
    let is_over = async {
        match &ending {
            Ending::Closed => session.close().await,
            Ending::Dropped => drop(session),
            Ending::EndedWith(reason) => app.outlet.end(reason),
        }
        let _ = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
    };
    if timeout(Duration::from_millis(ENDING_MS), is_over).await.is_err() {
        return app.world.lock().violate(format!("no end of the session within {ENDING_MS} ms"));
    }
    let expected = match ending {
        Ending::EndedWith(reason) => reason,
        Ending::Closed | Ending::Dropped => "closed".to_owned(),
    };
    let reason = ended(&status).unwrap_or_default();
    {
        let mut world = app.world.lock();
        if reason != expected && !world.record.is_taken_over {
            world.violate(format!("the session has ended because of {reason:?}, not {expected:?}"));
        }
    }
    check_end(app).await;
}

/// Checks that nothing is waiting for the session after its end.
async fn check_end(app: &App) {
    sleep(Duration::from_millis(5)).await;
    let after = app.outlet.send_now(Publish::new("lane/0", "late"), 0);
    let mut world = app.world.lock();
    if after != Err(Unsent::Ended) {
        world.violate(format!("a publish after the end: {after:?}"));
    }
    if !world.record.waiting.is_empty() {
        let waiting = format!("{:?}", world.record.waiting);
        world.violate(format!("the session has ended, and the application waits for {waiting}"));
    }
    let left = world.record.without_result(false).map(|(which, published)| format!("{which}: {published:?}"));
    if let Some(left) = left {
        world.violate(format!("the session has ended, and nobody was told of publish {left}"));
    }
    if world.record.is_online {
        world.violate("the session has ended without `disconnected`".to_owned());
    }
}

async fn play(seed: u64, is_trace_kept: bool) -> Run {
    let world = Arc::new(Mutex::new(World::new(seed, is_trace_kept)));
    let driver = tokio::spawn(drive(world.clone()));
    let options = options(&world, seed);
    while let Some((session, app)) = begin(&world, &options).await {
        if !world.lock().is_calm {
            app.start();
        }
        if matches!(live(&app, session, &driver).await, Gone::Done) {
            break;
        }
    }
    driver.abort();
    let mut world = world.lock();
    if world.violation.is_none() && world.events < EVENTS {
        let events = world.events;
        world.violate(format!("{events} events only"));
    }
    Run {
        events: world.events,
        reached: world.reached().clone(),
        trace: world.trace(),
        violation: world.violation.take(),
    }
}

/// Runs one seed.
fn run(seed: u64, is_trace_kept: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(play(seed, is_trace_kept))
}

/// States that some of a hundred seeds must reach.
const STATES: [&str; 83] = [
    "CONNACK accepts",
    "DISCONNECT of the client",
    "DISCONNECT right behind CONNACK",
    "DISCONNECT with properties",
    "DISCONNECT without properties",
    "PINGREQ",
    "PUBACK out of order",
    "PUBACK that nobody waits for",
    "Receive Maximum reached",
    "Server Keep Alive",
    "broker restarted",
    "broker unreachable or back",
    "bytes lost in a cut",
    "closed by the broker",
    "connected with the session",
    "connected without a session",
    "connection attempt unanswered",
    "connection closed by the broker's keep-alive",
    "connection ended by a packet",
    "connection lost within a packet",
    "connection made",
    "connection refused",
    "cut",
    "failover to the second broker",
    "filter refused that was subscribed again",
    "filters subscribed again",
    "first attempt failed",
    "forget",
    "future of a publish dropped",
    "future of a subscribe dropped",
    "future of an unsubscribe dropped",
    "half-open",
    "message acknowledged",
    "message handed on at QoS 0",
    "message handed on at QoS 1",
    "message handed on that was repeated",
    "message of the broker",
    "message sent again",
    "own connection taken over",
    "packet ids came round",
    "packet read by the broker",
    "packet read by the client",
    "packet that no broker may send",
    "publish acknowledged",
    "publish as large as the broker takes",
    "publish asked for",
    "publish at QoS 0 queued",
    "publish denied",
    "publish ended with the session",
    "publish lost",
    "publish offline",
    "publish refused",
    "publish sent again after several connections",
    "publish sent again by its packet id",
    "publish sent again without a session",
    "publish sent for the first time",
    "publish that MQTT cannot express",
    "publish to busy subscribers",
    "publish to no topic",
    "publish too large",
    "publish within a callback",
    "publish without subscriber",
    "publish written at QoS 0",
    "publish written at QoS 1",
    "retained message sent",
    "session closed",
    "session dropped",
    "session ended with a reason",
    "session forgotten",
    "silent connection left",
    "stall",
    "subscribe ended with the session",
    "subscribe lost",
    "subscribe refused",
    "subscribe without waiting",
    "subscribed",
    "subscriptions compared after a connect",
    "subscriptions compared at the end",
    "unsubscribe lost",
    "unsubscribe without waiting",
    "unsubscribed",
    "unsubscribed in time",
    "write waits",
];

#[test]
fn session_keeps_its_promises_under_network_and_broker_faults() {
    for_each_seed("rantai-client", 15, &STATES, |seed| run(seed, false));
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in [5, 12, 23] {
        let [first, again, other] = [seed, seed, seed + 1].map(|seed| run(seed, true).trace);
        assert!(first.len() > 200, "{} lines", first.len());
        if let Some(at) = (0..first.len()).find(|at| first.get(*at) != again.get(*at)) {
            panic!("line {at}: {:?} and {:?}", first[at], again.get(at));
        }
        assert_eq!(first.len(), again.len());
        assert_ne!(first, other);
    }
}
