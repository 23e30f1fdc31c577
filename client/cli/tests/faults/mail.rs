//! Messages that the broker keeps on disk: for a session that is disconnected most of the time, and retained ones.
//! Their clients use none of our libraries, and record each acknowledgement.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rantai_testing::{
    Connect, Packet, Publish, Socket, SocketError, Version, ack, disconnect, subscribe, unique,
};

use crate::history::{Ended, History};
use crate::world::{PATIENCE, World};

const VERSION: Version = Version::V5;
/// Time without a packet after which a broker counts as hung.
const HANG: Duration = Duration::from_secs(15);
/// Time without a message after which all have arrived.
const QUIET: Duration = Duration::from_millis(300);
const PUBLISHERS: u64 = 2;

/// Publishers, and the session that receives their messages, each on a thread.
pub(crate) struct Mail {
    over: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Publisher>>,
    reader: JoinHandle<Reader>,
}

/// Outcome of the messages.
pub(crate) struct Delivered {
    pub(crate) rows: Vec<(&'static str, usize)>,
    pub(crate) broken: Vec<String>,
}

impl Mail {
    pub(crate) async fn start(world: &World, history: &Arc<History>, random: &mut fastrand::Rng) -> Self {
        let (over, name) = (Arc::new(AtomicBool::new(false)), unique());
        let mut reader = Reader {
            address: world.address(300).await,
            name: name.clone(),
            received: HashMap::new(),
            broken: Vec::new(),
        };
        let reader = tokio::task::spawn_blocking(move || {
            reader.subscribe();
            reader
        });
        let mut reader = reader.await.expect("no panic");
        let mut publishers = Vec::new();
        for number in 0..PUBLISHERS {
            let mut publisher = Publisher {
                address: world.address(301 + number).await,
                name: format!("{name}-{number}"),
                prefix: format!("{name}/{number}"),
                history: history.clone(),
                random: random.fork(),
                messages: Vec::new(),
                retained: Vec::new(),
            };
            let over = over.clone();
            publishers.push(thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    publisher.connect_and_publish(&over);
                }
                publisher
            }));
        }
        let reading = over.clone();
        let reader = thread::spawn(move || {
            while !reading.load(Ordering::Relaxed) {
                let _ = reader.read();
                thread::sleep(QUIET);
            }
            reader
        });
        Self { over, publishers, reader }
    }

    /// Waits for all acknowledged messages. Blocks.
    pub(crate) fn finish(self) -> Delivered {
        self.over.store(true, Ordering::Relaxed);
        let publishers: Vec<_> =
            self.publishers.into_iter().map(|publisher| publisher.join().expect("no panic")).collect();
        let mut reader = self.reader.join().expect("no panic");
        let acknowledged: Vec<&String> =
            publishers.iter().flat_map(|publisher| publisher.messages_that(Ended::Answered)).collect();
        let began = Instant::now();
        while began.elapsed() < PATIENCE
            && !acknowledged.iter().all(|message| reader.received.contains_key(*message))
        {
            let _ = reader.read();
        }
        let lost = acknowledged.iter().filter(|message| !reader.received.contains_key(**message)).count();
        let mut broken = std::mem::take(&mut reader.broken);
        if lost > 0 {
            broken.push(format!("{lost} messages were acknowledged and not delivered"));
        }
        let refused = publishers.iter().flat_map(|publisher| publisher.messages_that(Ended::Refused));
        let delivered = refused.filter(|message| reader.received.contains_key(*message)).count();
        if delivered > 0 {
            broken.push(format!("{delivered} messages were refused and delivered"));
        }
        let found = reader.retained();
        let wrong = publishers.iter().filter_map(|publisher| publisher.wrong_retained(&found));
        let wrong: Vec<String> = wrong.collect();
        let rows = vec![
            ("messages acknowledged to their publishers", acknowledged.len()),
            ("of them lost", lost),
            ("of them delivered again", reader.received.values().filter(|count| **count > 1).count()),
            ("retained messages that are not what was acknowledged", wrong.len()),
        ];
        broken.extend(wrong);
        Delivered { rows, broken }
    }
}

/// Connects; returns `None` after a short delay if that fails.
fn connect(address: SocketAddr, connect: &Connect) -> Option<(Socket, bool)> {
    if let Ok(mut socket) = Socket::open(address, VERSION)
        && socket.send(&connect.encode()).is_ok()
        && let Ok(Some(Packet::Connack(connack))) = socket.receive(HANG)
        && connack.code == 0
    {
        return Some((socket, connack.session_present));
    }
    thread::sleep(Duration::from_millis(50));
    None
}

/// Returns the name of a message, if the remaining payload has the length given by the name.
fn name(publish: &Publish) -> Option<String> {
    let (name, rest) = publish.text().split_once(' ')?;
    let length: usize = name.rsplit('-').next()?.parse().ok()?;
    (rest.len() == length).then(|| name.to_owned())
}

struct Publisher {
    address: SocketAddr,
    name: String,
    /// Prefix of its topics.
    prefix: String,
    history: Arc<History>,
    random: fastrand::Rng,
    /// Names, which payloads begin with, and the outcome of each message.
    messages: Vec<(String, Ended)>,
    retained: Vec<(String, Ended)>,
}

impl Publisher {
    fn connect_and_publish(&mut self, over: &AtomicBool) {
        let Some((mut socket, _)) = connect(self.address, &Connect::new(VERSION).id(&self.name)) else {
            return;
        };
        while !over.load(Ordering::Relaxed) {
            let is_retained = self.random.u32(0..4) == 0;
            let count = if is_retained { 1 } else { self.random.usize(1..8) };
            if !self.publish(&mut socket, is_retained, count) {
                return;
            }
            thread::sleep(Duration::from_millis(self.random.u64(0..60)));
        }
        let _ = socket.send(&disconnect(VERSION, 0, &[]));
    }

    /// Publishes this many messages at once. Returns whether the connection is still usable.
    fn publish(&mut self, socket: &mut Socket, is_retained: bool, count: usize) -> bool {
        let (method, kept) = if is_retained {
            ("retained message", &mut self.retained)
        } else {
            ("queued message", &mut self.messages)
        };
        let first = kept.len();
        let topic = format!("{}/{}", self.prefix, if is_retained { "retained" } else { "box" });
        let mut bytes = Vec::new();
        for index in 0..count {
            // Long enough to make the database grow.
            let length = self.random.usize(0..3_000);
            let name = format!("{}-{}-{length}", self.name, first + index);
            let payload = format!("{name} {}", "x".repeat(length));
            let publish = Publish::new(&topic, &payload).qos(1).id(index as u16 + 1);
            bytes.extend(if is_retained { publish.retain() } else { publish }.encode(VERSION));
            kept.push((name, Ended::Lost));
        }
        let mut left = count;
        let mut works = socket.send(&bytes).is_ok();
        while works && left > 0 {
            let ended = match socket.receive(HANG) {
                Ok(Some(Packet::Puback(ack))) => {
                    let index = first + usize::from(ack.id) - 1;
                    // Retained messages have no subscriber; the others have a session.
                    let is_right = ack.code == 0 || (is_retained && ack.code == 0x10);
                    kept[index].1 = match ack.code {
                        _ if is_right => Ended::Answered,
                        0x80.. => Ended::Refused,
                        _ => Ended::Wrong,
                    };
                    left -= 1;
                    continue;
                }
                Ok(Some(Packet::Disconnect { .. })) | Err(SocketError::Closed(_)) => Ended::Lost,
                Ok(None) => Ended::Hung,
                Ok(Some(_)) | Err(_) => Ended::Wrong,
            };
            works = false;
            for (_, end) in kept[first..].iter_mut().filter(|(_, end)| *end == Ended::Lost) {
                *end = ended;
            }
        }
        for (_, end) in &kept[first..] {
            self.history.note(method, None, *end);
        }
        works
    }

    fn messages_that(&self, ended: Ended) -> impl Iterator<Item = &String> {
        self.messages.iter().filter(move |(_, end)| *end == ended).map(|(name, _)| name)
    }

    /// Checks its retained message: it must be the last acknowledged one, or a later one that was neither acknowledged
    /// nor refused.
    fn wrong_retained(&self, found: &HashMap<String, String>) -> Option<String> {
        let found = found.get(&format!("{}/retained", self.prefix));
        let last = self.retained.iter().rposition(|(_, end)| *end == Ended::Answered);
        let may_be = |(index, (name, end)): (usize, &(String, Ended))| {
            let is_later = last.is_none_or(|last| index > last) && *end == Ended::Lost;
            (Some(index) == last || is_later) && Some(name) == found
        };
        let is_right = self.retained.iter().enumerate().any(may_be) || (found.is_none() && last.is_none());
        (!is_right).then(|| {
            let acknowledged = last.map(|last| &self.retained[last].0);
            format!("retained is {found:?}, and acknowledged was {acknowledged:?}")
        })
    }
}

struct Reader {
    address: SocketAddr,
    name: String,
    received: HashMap<String, u64>,
    broken: Vec<String>,
}

impl Reader {
    fn connect(&self) -> Option<(Socket, bool)> {
        connect(self.address, &Connect::new(VERSION).id(&self.name).persistent())
    }

    fn subscribe(&mut self) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let Some((mut socket, _)) = self.connect() else { continue };
            let filter = format!("{}/+/box", self.name);
            if socket.send(&subscribe(VERSION, 1, &[(&filter, 1)])).is_ok()
                && let Ok(Some(Packet::Suback(suback))) = socket.receive(HANG)
                && suback.codes == [1]
            {
                return;
            }
        }
        panic!("cannot subscribe");
    }

    /// Receives the available messages.
    fn read(&mut self) -> Option<()> {
        let (mut socket, is_resumed) = self.connect()?;
        if !is_resumed {
            self.broken.push("a session that is kept was not there".to_owned());
            self.subscribe();
        }
        while let Some(packet) = socket.receive(QUIET).ok()? {
            if let Packet::Publish(publish) = packet {
                match name(&publish) {
                    Some(name) => *self.received.entry(name).or_default() += 1,
                    None => self.broken.push(format!("a message was changed: {}", publish.text())),
                }
                socket.send(&ack(4, VERSION, publish.id, 0)).ok()?;
            }
        }
        socket.send(&disconnect(VERSION, 0, &[])).ok()
    }

    /// Returns the names by topic.
    fn retained(&self) -> HashMap<String, String> {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "the retained messages cannot be read");
            let Some((mut socket, _)) = connect(self.address, &Connect::new(VERSION)) else { continue };
            let filter = format!("{}/+/retained", self.name);
            let mut found = HashMap::new();
            if socket.send(&subscribe(VERSION, 1, &[(&filter, 0)])).is_err() {
                continue;
            }
            let mut is_subscribed = false;
            while let Ok(Some(packet)) = socket.receive(Duration::from_secs(1)) {
                match packet {
                    Packet::Suback(_) => is_subscribed = true,
                    Packet::Publish(publish) => {
                        found.insert(publish.topic.clone(), name(&publish).unwrap_or_default());
                    }
                    _ => {}
                }
            }
            if is_subscribed {
                return found;
            }
        }
    }
}

/// Publishes a retained message until the broker acknowledges it. Blocks.
pub(crate) fn wait_until_kept(place: &str) {
    let address = place.parse().expect("an address");
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let Some((mut socket, _)) = connect(address, &Connect::new(VERSION)) else { continue };
        let publish = Publish::new("mail/probe", "x").qos(1).retain().id(1).encode(VERSION);
        if socket.send(&publish).is_ok()
            && let Ok(Some(Packet::Puback(ack))) = socket.receive(HANG)
            && ack.code < 0x80
        {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}
