//! The application of a simulated session: publishers, subscribers and callbacks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::packet::publish_size;
use super::record::{Told, payload};
use super::world::World;
use crate::session::{Filter, Message, Outlet, Publish, QoS, Receiver, SubscribeError, Unsent};

/// Size of the send queue from which publishers wait, in bytes, as documented by the outbox.
const FULL_QUEUE_BYTES: usize = 256 << 10;
/// Maximum number of concurrent requests of the application.
const MAX_WAITING: usize = 60;
const PUBLISHERS: u32 = 3;
/// Publisher number of the callbacks.
const CALLBACK_LANE: u32 = 90;
/// Publishers with this number or a higher one publish once each.
const FIRST_SINGLE_LANE: u32 = 1_000;

#[derive(Clone)]
pub(super) struct App {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) outlet: Outlet,
    /// Number of the session.
    pub(super) session: u32,
}

impl App {
    /// Makes the session start with another packet id than 1.
    pub(super) fn begin_ids(&self) {
        let last = self.world.lock().pick(&[0, 0, 300, 65_530]);
        self.outlet.skip_packet_ids(last);
    }

    /// Starts publishers and subscribers, which run until the session ends or the disturbances are over.
    pub(super) fn start(&self) {
        for lane in 0..PUBLISHERS {
            tokio::spawn(self.clone().publish_on(lane));
        }
        for number in 0..2 {
            tokio::spawn(self.clone().subscribe_on(number));
        }
    }

    /// Waits for a random time. Returns whether there is more to do.
    async fn pause(&self, longest_ms: u64) -> bool {
        let wait = self.world.lock().random.u64(..=longest_ms);
        sleep(Duration::from_millis(wait)).await;
        let world = self.world.lock();
        !world.is_calm && world.record.session == self.session && world.violation.is_none()
    }

    async fn publish_on(self, lane: u32) {
        loop {
            let pause = self.world.lock().chances.pause_ms;
            if !self.pause(pause).await {
                return;
            }
            let (kind, is_dropped) = {
                let mut world = self.world.lock();
                let dropped = world.chances.dropped;
                (world.random.u8(..20), world.chance(dropped))
            };
            self.skip_packet_ids();
            let goes_on = match kind {
                _ if is_dropped => self.publish_and_drop(lane).await,
                0..5 => self.publish(lane).await,
                5..10 => {
                    self.publish_beside();
                    true
                }
                10..16 => self.send(lane).await,
                16..18 => self.send_now(lane),
                _ => self.command(lane).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Makes packet ids continue as if enough publishes had been sent to wrap around to those in use.
    fn skip_packet_ids(&self) {
        let mut world = self.world.lock();
        let skipped = world.chances.skipped_ids;
        if !world.chance(skipped) {
            return;
        }
        let used = world.used_ids();
        if !used.is_empty() {
            let used = world.pick(&used);
            let last = used.saturating_sub(world.random.u16(1..4));
            world.reach("packet ids came round");
            world.note(format_args!("packet ids go on behind {last}"));
            self.outlet.skip_packet_ids(last);
        }
    }

    /// Creates a message of a publisher, and its number.
    fn message(&self, lane: u32, told: Told, is_qos_1: bool) -> (usize, Publish) {
        let mut world = self.world.lock();
        let (qos_0, once, retained) = (world.chances.qos_0, world.chances.once, world.chances.retained);
        let (large, borderline) = (world.chances.large, world.chances.borderline);
        let qos = u8::from(is_qos_1 || !world.chance(qos_0));
        let (resend, retain) = (!world.chance(once), world.chance(retained));
        let is_bad = world.random.u8(..60) == 0;
        let topic = if is_bad && world.random.bool() { "lane/+".to_owned() } else { format!("lane/{lane}") };
        let limit = world.record.max_packet_of_broker;
        let size = if world.chance(borderline) && (100..20_000).contains(&limit) {
            limit - publish_size(topic.len(), 0, qos) - 5 + world.random.usize(..8)
        } else if world.chance(large) {
            world.random.usize(1_000..60_000)
        } else {
            world.random.usize(8..60)
        };
        let which = world.record.ask(lane, &topic, size, told);
        let published = &mut world.record.publishes[which];
        (published.qos, published.resend, published.retain) = (qos, resend, retain);
        published.is_bad = is_bad;
        let mut publish = Publish::new(topic, payload(which, size));
        if is_bad {
            publish.properties.user.push(("x", "y".repeat(65_536)));
        }
        publish.qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        (publish.resend, publish.retain) = (resend, retain);
        world.event("publish asked for");
        let how = if resend { "" } else { " once" };
        world.note(format_args!("publish {which} of {lane} at QoS {qos}{how}, {size} bytes, {told:?}"));
        (which, publish)
    }

    fn begin(&self, text: String) -> u64 {
        self.world.lock().record.begin(text)
    }

    /// Records a result. Returns whether the session continues.
    fn settle(&self, wait: u64, which: usize, result: Result<(), Unsent>, said: Option<&str>) -> bool {
        let goes_on = result != Err(Unsent::Ended);
        let mut world = self.world.lock();
        world.record.end(wait);
        world.settle(which, result, said);
        goes_on
    }

    async fn publish(&self, lane: u32) -> bool {
        let (which, publish) = self.message(lane, Told::Future, false);
        let wait = self.begin(format!("publish {which}"));
        let result = self.outlet.publish(publish).await;
        self.settle(wait, which, result, None)
    }

    /// Publishes on a separate task.
    fn publish_beside(&self) {
        let lane = {
            let mut world = self.world.lock();
            if world.record.waiting.len() >= MAX_WAITING {
                return;
            }
            world.single_lanes += 1;
            FIRST_SINGLE_LANE + world.single_lanes
        };
        let app = self.clone();
        tokio::spawn(async move { app.publish(lane).await });
    }

    async fn publish_and_drop(&self, lane: u32) -> bool {
        let (which, publish) = self.message(lane, Told::Future, false);
        let wait = self.begin(format!("publish {which}, to be dropped"));
        let patience = self.world.lock().random.u64(..400);
        let result = timeout(Duration::from_millis(patience), self.outlet.publish(publish)).await;
        if let Ok(result) = result {
            return self.settle(wait, which, result, None);
        }
        let mut world = self.world.lock();
        world.record.end(wait);
        world.record.drop_future(which);
        world.event("future of a publish dropped");
        true
    }

    async fn command(&self, lane: u32) -> bool {
        let (which, publish) = self.message(lane, Told::Future, true);
        let wait = self.begin(format!("command {which}"));
        match self.outlet.command(publish).await {
            Ok(said) => self.settle(wait, which, Ok(()), Some(&said)),
            Err(error) => self.settle(wait, which, Err(error), None),
        }
    }

    /// Chooses who gets the result of a message that is only queued, and its token.
    fn token(&self) -> Told {
        if self.world.lock().random.bool() { Told::Token } else { Told::Nobody }
    }

    async fn send(&self, lane: u32) -> bool {
        let count = self.world.lock().pick(&[1, 1, 2, 8]);
        for _ in 0..count {
            let told = self.token();
            let (which, publish) = self.message(lane, told, false);
            let size = publish_size(publish.topic.len(), publish.payload.len(), 1);
            if self.outlet.backlog() >= FULL_QUEUE_BYTES {
                self.world.lock().reach("send queue full");
            }
            let wait = self.begin(format!("send {which}"));
            let token = token(told, which);
            let result = self.outlet.send(publish, token).await;
            let backlog = self.outlet.backlog();
            if result.is_ok() && backlog > FULL_QUEUE_BYTES + size {
                self.world.lock().violate(format!("{backlog} bytes wait behind publish {which}"));
            }
            if !self.queued(Some(wait), which, result) {
                return false;
            }
        }
        true
    }

    fn send_now(&self, lane: u32) -> bool {
        let count = self.world.lock().pick(&[1, 2, 5]);
        (0..count).all(|_| {
            let told = self.token();
            let (which, publish) = self.message(lane, told, false);
            let token = token(told, which);
            let result = self.outlet.send_now(publish, token);
            self.queued(None, which, result)
        })
    }

    /// Records that a message was queued. Returns whether the session continues.
    fn queued(&self, wait: Option<u64>, which: usize, result: Result<(), Unsent>) -> bool {
        let mut world = self.world.lock();
        if let Some(wait) = wait {
            world.record.end(wait);
        }
        let goes_on = result != Err(Unsent::Ended);
        let published = &world.record.publishes[which];
        if result.is_ok() && (published.qos > 0 || published.told == Told::Token) {
            world.record.queued(which);
        } else {
            world.settle(which, result, None);
        }
        goes_on
    }

    async fn subscribe_on(self, number: usize) {
        loop {
            let pause = self.world.lock().chances.subscribe_ms;
            if !self.pause(pause).await {
                return;
            }
            let kind = self.world.lock().random.u8(..20);
            let goes_on = match kind {
                0..7 => self.subscribe(number, None).await,
                7..9 => {
                    let patience = self.world.lock().random.u64(..300);
                    self.subscribe(number, Some(patience)).await
                }
                9..11 => {
                    let filters = self.filters(number);
                    let mut world = self.world.lock();
                    world.event("subscribe without waiting");
                    world.note(format_args!("subscribe_now {}", topics(&filters).join(" ")));
                    world.record.wishes.ask(&filters);
                    drop(world);
                    self.outlet.subscribe_now(filters);
                    true
                }
                11..18 => self.unsubscribe(number, kind).await,
                _ => {
                    let topics = topics(&self.filters(number));
                    let mut world = self.world.lock();
                    world.event("forget");
                    world.note(format_args!("forget {}", topics.join(" ")));
                    world.record.wishes.forget(&topics);
                    drop(world);
                    self.outlet.forget(&topics);
                    true
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Chooses some filters of a subscriber, without duplicates.
    fn filters(&self, number: usize) -> Vec<Filter> {
        let mut world = self.world.lock();
        if number == 0 && world.random.u8(..25) == 0 {
            return (0..70).map(|number| Filter::new(format!("b/{number}"))).collect();
        }
        let first = world.random.usize(..6);
        (0..world.random.usize(1..4))
            .map(|index| {
                let mut filter = Filter::new(format!("s{number}/{}", (first + index) % 6));
                filter.lasting = world.random.u8(..6) > 0;
                filter.retained = world.random.bool();
                if world.random.bool() { filter.qos(QoS::AtMostOnce) } else { filter }
            })
            .collect()
    }

    async fn subscribe(&self, number: usize, patience: Option<u64>) -> bool {
        let filters = self.filters(number);
        let asking = {
            let mut world = self.world.lock();
            world.note(format_args!("subscribe {}", topics(&filters).join(" ")));
            world.record.wishes.ask(&filters)
        };
        let wait = self.begin(format!("subscribe {filters:?}"));
        let subscribing = self.outlet.subscribe(filters);
        let result = match patience {
            None => Some(subscribing.await),
            Some(patience) => timeout(Duration::from_millis(patience), subscribing).await.ok(),
        };
        let mut world = self.world.lock();
        world.record.end(wait);
        let Some(result) = result else {
            world.event("future of a subscribe dropped");
            return true;
        };
        world.note(format_args!("subscribe ends with {result:?}"));
        match result {
            Ok(()) => {
                world.event("subscribed");
                world.record.wishes.granted(&asking);
            }
            Err(SubscribeError::Refused { .. }) => {
                world.event("subscribe refused");
                world.record.wishes.refused(&asking);
            }
            Err(SubscribeError::Lost) => {
                world.event("subscribe lost");
                world.record.wishes.lost(&asking);
            }
            Err(SubscribeError::Ended) => {
                world.event("subscribe ended with the session");
                return false;
            }
        }
        true
    }

    async fn unsubscribe(&self, number: usize, kind: u8) -> bool {
        let topics = topics(&self.filters(number));
        let wait = {
            let mut world = self.world.lock();
            world.note(format_args!("unsubscribe {}", topics.join(" ")));
            world.record.wishes.forget(&topics);
            world.record.begin(format!("unsubscribe {topics:?}"))
        };
        let (result, name) = match kind {
            11..15 => {
                let result = self.outlet.unsubscribe(topics.clone()).await;
                if result.is_ok() {
                    self.world.lock().record.wishes.unsubscribed(&topics);
                }
                let name = if result.is_ok() { "unsubscribed" } else { "unsubscribe lost" };
                (result, name)
            }
            15 => {
                let patience = self.world.lock().random.u64(..100);
                let unsubscribing = self.outlet.unsubscribe(topics);
                match timeout(Duration::from_millis(patience), unsubscribing).await {
                    Ok(result) => (result, "unsubscribed in time"),
                    Err(_) => (Ok(()), "future of an unsubscribe dropped"),
                }
            }
            _ => {
                self.outlet.unsubscribe_now(topics);
                (Ok(()), "unsubscribe without waiting")
            }
        };
        let mut world = self.world.lock();
        world.record.end(wait);
        world.event(name);
        if !matches!(result, Ok(()) | Err(SubscribeError::Lost)) {
            world.violate(format!("unsubscribe ends with {result:?}"));
        }
        true
    }
}

/// Returns the token that a message is sent with; 0 if nobody gets the result.
fn token(told: Told, which: usize) -> u128 {
    if told == Told::Token { which as u128 + 1 } else { 0 }
}

fn topics(filters: &[Filter]) -> Vec<String> {
    filters.iter().map(|filter| filter.topic.clone()).collect()
}

/// Callbacks of the application.
pub(super) struct Callbacks(pub(super) App);

impl Receiver for Callbacks {
    fn connected(&mut self) {
        let mut world = self.0.world.lock();
        world.note(format_args!("connected"));
        if std::mem::replace(&mut world.record.is_online, true) {
            world.violate("connected twice".to_owned());
        }
    }

    fn disconnected(&mut self) {
        let mut world = self.0.world.lock();
        world.note(format_args!("disconnected"));
        if !std::mem::replace(&mut world.record.is_online, false) {
            world.violate("disconnected twice".to_owned());
        }
        world.record.wishes.disconnected();
        let left =
            world.record.without_result(true).map(|(which, published)| format!("{which}: {published:?}"));
        if let Some(left) = left {
            world.violate(format!("disconnected, and nobody was told of publish {left}"));
        }
    }

    fn message(&mut self, message: Message) {
        let is_answered = {
            let mut world = self.0.world.lock();
            world.handed_on(&message);
            let reply = world.chances.reply;
            !world.is_calm && world.chance(reply)
        };
        if is_answered {
            self.0.world.lock().reach("publish within a callback");
            self.0.send_now(CALLBACK_LANE);
        }
    }

    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        let mut world = self.0.world.lock();
        let which = token as usize - 1;
        if world.record.publishes[which].told != Told::Token {
            world.violate(format!("a result for publish {which}, which has no token"));
        }
        world.settle(which, result, None);
    }
}
