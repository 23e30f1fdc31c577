//! One-way traffic from one client to a hundred, and from a hundred to one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::ends::{Publisher, Subscriber};
use crate::failure::Failure;

/// Number of clients on the side with many.
const MANY: usize = 100;

/// Parameters of a fan.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// QoS of the messages.
    pub qos: u8,
    /// Size of each payload, in bytes.
    pub payload: usize,
    /// Duration of the warm-up, which does not count.
    pub warm_up: Duration,
    /// Duration of the measurement.
    pub length: Duration,
}

/// Counter of messages between the warm-up and the end.
struct Count {
    load: Load,
    started: Instant,
    counting: Option<(Instant, u64)>,
}

impl Count {
    fn start(load: Load) -> Self {
        Self { load, started: Instant::now(), counting: None }
    }

    /// Updates the counter with the total so far; returns the rate once the measurement is over.
    fn reached(&mut self, total: u64) -> Option<f64> {
        let now = Instant::now();
        match self.counting {
            None if now - self.started >= self.load.warm_up => self.counting = Some((now, total)),
            Some((since, before)) if now - since >= self.load.length => {
                return Some((total - before) as f64 / (now - since).as_secs_f64());
            }
            _ => {}
        }
        None
    }
}

/// Measures one publisher and a hundred subscribers. Returns deliveries per second.
pub fn out(address: SocketAddr, load: Load, deadline: Instant) -> Result<f64, Failure> {
    const TOPIC: &str = "bench/fan/out";
    let Load { qos, payload, .. } = load;
    let batch = if payload < 1024 { 64 } else { 2 };
    let mut subscribers = (0..MANY)
        .map(|number| {
            let client_id = format!("bench-subscriber-{number}");
            Subscriber::open(address, &client_id, TOPIC, qos, deadline)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut publisher = Publisher::open(address, "bench-publisher", TOPIC, qos, payload, deadline)?;
    let mut count = Count::start(load);
    publisher.send(batch)?;
    let mut sent = batch;
    let rate = loop {
        // One batch is in flight while the previous one is read.
        publisher.send(batch)?;
        sent += batch;
        for subscriber in &mut subscribers {
            subscriber.receive_until(sent - batch, sent)?;
        }
        publisher.acknowledged_but(batch)?;
        if let Some(rate) = count.reached(sent * MANY as u64) {
            break rate;
        }
    };
    // All messages must arrive, including the last batch.
    for subscriber in &mut subscribers {
        subscriber.receive_until(sent, sent)?;
    }
    publisher.acknowledged_but(0)?;
    Ok(rate)
}

/// Measures a hundred publishers and one subscriber. Returns messages per second.
pub fn inward(address: SocketAddr, load: Load, deadline: Instant) -> Result<f64, Failure> {
    let Load { qos, payload, .. } = load;
    // Publishers per turn, and messages of each. Two turns are in flight, all to a single subscriber: they must not
    // exceed what a broker queues for it at QoS 0.
    let (publishers_per_turn, batch) = if payload < 1024 { (MANY, 16) } else { (6, 1) };
    let turn = publishers_per_turn as u64 * batch;
    let mut subscriber = Subscriber::open(address, "bench-subscriber", "bench/fan/in/+", qos, deadline)?;
    let mut publishers = (0..MANY)
        .map(|number| {
            let client_id = format!("bench-publisher-{number}");
            let topic = format!("bench/fan/in/{number}");
            Publisher::open(address, &client_id, &topic, qos, payload, deadline)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut count = Count::start(load);
    let mut sent = 0;
    let mut next = 0;
    let rate = loop {
        for _ in 0..publishers_per_turn {
            let publisher = &mut publishers[next];
            publisher.acknowledged_but(batch)?;
            publisher.send(batch)?;
            next = (next + 1) % MANY;
        }
        sent += turn;
        subscriber.receive_until(sent - turn, sent)?;
        if let Some(rate) = count.reached(sent) {
            break rate;
        }
    };
    subscriber.receive_until(sent, sent)?;
    for publisher in &mut publishers {
        publisher.acknowledged_but(0)?;
    }
    Ok(rate)
}
