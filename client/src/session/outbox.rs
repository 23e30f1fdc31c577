//! What is to be written, what waits for its acknowledgement, and what is subscribed to. No I/O: the handles put
//! in, the task takes out.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{self, v5 as packets};
use tokio::sync::oneshot;

use super::{Filter, Publish, QoS, SubscribeError, Unsent};
use crate::wire::topic::is_topic;

/// From this many bytes on, whoever publishes waits.
pub(super) const ENOUGH: usize = 256 << 10;
/// From this many messages on that wait for the broker's window, whoever publishes waits.
const MANY: usize = 4_096;
/// A buffer that was larger is given back when it is empty.
const KEPT: usize = 128 << 10;
/// Subscriptions in one packet.
const FILTERS_AT_ONCE: usize = 64;
/// The longest text or binary of a packet, in bytes (MQTT 5, 1.5.4).
const LONGEST: usize = u16::MAX as usize;

type Told<E> = oneshot::Sender<Result<(), E>>;

/// Who is told what became of a message.
#[derive(Debug)]
pub(super) enum Waiter {
    Nobody,
    Token(u128),
    Future(Told<Unsent>),
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// DISCONNECT 0x00: the will is forgotten.
    Normal,
    /// DISCONNECT 0x04: the will is published.
    WithWill,
}

#[derive(Debug)]
struct InFlight {
    publish: packets::Publish,
    waiter: Waiter,
    resend: bool,
    order: u64,
}

#[derive(Debug)]
struct Waiting {
    /// With a packet id where it was in flight already.
    publish: packets::Publish,
    waiter: Waiter,
    resend: bool,
}

#[derive(Debug)]
struct Asked {
    filters: Vec<Filter>,
    told: Option<Told<SubscribeError>>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    buffer: BytesMut,
    in_flight: HashMap<u16, InFlight>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    subscriptions: Vec<Filter>,
    subscribing: HashMap<u16, Asked>,
    unsubscribing: HashMap<u16, Told<SubscribeError>>,
    online: bool,
    window: usize,
    max_packet: usize,
    last_id: u16,
    order: u64,
    /// What waited and can no longer be sent.
    pub(super) failed: Vec<(Waiter, Unsent)>,
    /// The task knows that there is something to do.
    pub(super) awake: bool,
    /// Somebody waits for room.
    pub(super) wanted: bool,
    pub(super) closing: Option<Farewell>,
}

impl Outbox {
    pub(super) fn new(max_packet: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            in_flight: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            subscriptions: Vec::new(),
            subscribing: HashMap::new(),
            unsubscribing: HashMap::new(),
            online: false,
            window: 0,
            max_packet,
            last_id: 0,
            order: 0,
            failed: Vec::new(),
            awake: false,
            wanted: false,
            closing: None,
        }
    }

    pub(super) fn backlog(&self) -> usize {
        self.buffer.len() + self.waiting_bytes
    }

    pub(super) fn has_room(&self) -> bool {
        self.online && self.backlog() < ENOUGH && self.waiting.len() < MANY
    }

    /// Takes a message: to the buffer, or at QoS 1 to those that wait.
    pub(super) fn publish(&mut self, publish: Publish, waiter: Waiter) -> Result<(), Unsent> {
        if self.closing.is_some() {
            return Err(Unsent::Ended);
        }
        check(&publish)?;
        let resend = publish.resend;
        let mut publish = packet(publish);
        if self.online {
            let size = publish.size() + 2;
            if size > self.max_packet {
                return Err(Unsent::TooLarge { size, limit: self.max_packet });
            }
        }
        if !self.online && (publish.qos == mqttbytes::QoS::AtMostOnce || !resend) {
            return Err(Unsent::Offline);
        }
        if publish.qos == mqttbytes::QoS::AtMostOnce {
            self.write(&packets::Packet::Publish(publish));
            return Ok(());
        }
        if self.online && self.waiting.is_empty() && self.in_flight.len() < self.window {
            publish.pkid = self.next_id();
            self.launch(publish, waiter, resend);
        } else {
            self.waiting_bytes += publish.payload.len();
            self.waiting.push_back(Waiting { publish, waiter, resend });
        }
        Ok(())
    }

    /// Appends bytes that are packets already.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What has been put in since the last time, in place of what is in `into`, which is empty.
    pub(super) fn take(&mut self, into: &mut BytesMut) {
        if into.capacity() > KEPT {
            *into = BytesMut::new();
        }
        std::mem::swap(&mut self.buffer, into);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// A PUBACK came: who is to be told what. What waited for the window goes out.
    pub(super) fn acknowledged(
        &mut self,
        id: u16,
        outcome: Result<(), Unsent>,
    ) -> Option<(Waiter, Result<(), Unsent>)> {
        let acknowledged = self.in_flight.remove(&id);
        self.release();
        let InFlight { publish, waiter, .. } = acknowledged?;
        // What is retained was kept, whoever was there to see it.
        let kept = publish.retain && outcome == Err(Unsent::NobodyThere);
        Some((waiter, if kept { Ok(()) } else { outcome }))
    }

    fn release(&mut self) {
        while self.in_flight.len() < self.window
            && let Some(Waiting { mut publish, waiter, resend }) = self.waiting.pop_front()
        {
            self.waiting_bytes -= publish.payload.len();
            let size = publish.size() + 2;
            if size > self.max_packet {
                // The broker takes less than it did when this was published.
                self.failed.push((waiter, Unsent::TooLarge { size, limit: self.max_packet }));
                continue;
            }
            if publish.pkid == 0 {
                publish.pkid = self.next_id();
            }
            self.launch(publish, waiter, resend);
        }
    }

    fn launch(&mut self, publish: packets::Publish, waiter: Waiter, resend: bool) {
        let packet = packets::Packet::Publish(publish);
        self.write(&packet);
        if let packets::Packet::Publish(publish) = packet {
            self.order += 1;
            self.in_flight.insert(publish.pkid, InFlight { publish, waiter, resend, order: self.order });
        }
    }

    fn write(&mut self, packet: &packets::Packet) {
        packet.write(&mut self.buffer, None).expect("lengths and ids were checked");
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            // Those of a resumed session stand at the front, until they are sent again.
            let reserved =
                self.waiting.iter().take_while(|w| w.publish.pkid != 0).any(|w| w.publish.pkid == id);
            if !reserved
                && !self.in_flight.contains_key(&id)
                && !self.subscribing.contains_key(&id)
                && !self.unsubscribing.contains_key(&id)
            {
                return id;
            }
        }
    }

    pub(super) fn subscribe(
        &mut self,
        filters: Vec<Filter>,
    ) -> oneshot::Receiver<Result<(), SubscribeError>> {
        let (told, granted) = oneshot::channel();
        if filters.is_empty() {
            let _ = told.send(Ok(()));
        } else if let Some(bad) = filters.iter().find(|f| f.topic.is_empty() || f.topic.len() > LONGEST) {
            let _ =
                told.send(Err(SubscribeError::Refused { filter: bad.topic.clone(), reason: "no filter" }));
        } else if self.online {
            self.ask(filters, Some(told));
        }
        granted
    }

    fn ask(&mut self, filters: Vec<Filter>, told: Option<Told<SubscribeError>>) {
        let pkid = self.next_id();
        let subscribe =
            packets::Subscribe { pkid, filters: filters.iter().map(filter).collect(), properties: None };
        self.write(&packets::Packet::Subscribe(subscribe));
        self.subscribing.insert(pkid, Asked { filters, told });
    }

    pub(super) fn unsubscribe(
        &mut self,
        filters: Vec<String>,
    ) -> Option<oneshot::Receiver<Result<(), SubscribeError>>> {
        self.forget(&filters);
        if !self.online || filters.is_empty() {
            return None;
        }
        let (told, done) = oneshot::channel();
        let pkid = self.next_id();
        self.write(&packets::Packet::Unsubscribe(packets::Unsubscribe { pkid, filters, properties: None }));
        self.unsubscribing.insert(pkid, told);
        Some(done)
    }

    pub(super) fn forget(&mut self, filters: &[String]) {
        self.subscriptions.retain(|known| !filters.contains(&known.topic));
    }

    /// A SUBACK came; filters that were refused, if nobody waits to hear of them.
    pub(super) fn granted(
        &mut self,
        id: u16,
        codes: &[packets::SubscribeReasonCode],
    ) -> Option<SubscribeError> {
        let Asked { filters, told } = self.subscribing.remove(&id)?;
        let refused = filters.iter().zip(codes).find_map(|(filter, code)| {
            let reason = refusal(*code)?;
            Some(SubscribeError::Refused { filter: filter.topic.clone(), reason })
        });
        let topics: Vec<String> = filters.iter().map(|f| f.topic.clone()).collect();
        self.forget(&topics);
        let Some(told) = told else {
            // After a reconnect: each by itself.
            let granted = filters.into_iter().zip(codes).filter(|(_, code)| refusal(**code).is_none());
            self.subscriptions.extend(granted.map(|(filter, _)| filter));
            return refused;
        };
        let result = match refused {
            None => {
                self.subscriptions.extend(filters.into_iter().filter(|f| f.lasting));
                Ok(())
            }
            Some(error) => Err(error),
        };
        let _ = told.send(result);
        None
    }

    /// An UNSUBACK came.
    pub(super) fn ungranted(&mut self, id: u16) {
        if let Some(told) = self.unsubscribing.remove(&id) {
            let _ = told.send(Ok(()));
        }
    }

    /// The connection is up: subscriptions first, then what was not acknowledged, then what waited.
    pub(super) fn connected(&mut self, resumed: bool, window: usize, max_packet: usize) {
        self.online = true;
        self.window = window;
        self.max_packet = max_packet;
        self.buffer.clear();
        let known = self.subscriptions.clone();
        for filters in known.chunks(FILTERS_AT_ONCE) {
            self.ask(filters.to_vec(), None);
        }
        for Waiting { publish, .. } in self.waiting.iter_mut().take_while(|w| w.publish.pkid != 0) {
            if resumed {
                publish.dup = true;
            } else {
                publish.pkid = 0;
            }
        }
        self.release();
    }

    /// The connection is gone: whose message is lost with it, and whose was not sent. The rest waits.
    pub(super) fn disconnected(&mut self) -> Vec<(Waiter, Unsent)> {
        self.online = false;
        self.buffer = BytesMut::new();
        self.subscribing.clear();
        self.unsubscribing.clear();
        let mut in_flight: Vec<InFlight> = self.in_flight.drain().map(|(_, f)| f).collect();
        in_flight.sort_unstable_by_key(|f| f.order);
        let mut lost = Vec::new();
        for Waiting { publish, waiter, resend } in std::mem::take(&mut self.waiting) {
            if resend {
                self.waiting.push_back(Waiting { publish, waiter, resend });
            } else {
                self.waiting_bytes -= publish.payload.len();
                lost.push((waiter, Unsent::Offline));
            }
        }
        for InFlight { publish, waiter, resend, .. } in in_flight.into_iter().rev() {
            if resend {
                self.waiting_bytes += publish.payload.len();
                self.waiting.push_front(Waiting { publish, waiter, resend });
            } else {
                lost.push((waiter, Unsent::Lost));
            }
        }
        lost
    }

    /// The session has ended: who still waits.
    pub(super) fn ended(&mut self) -> Vec<(Waiter, Unsent)> {
        self.closing.get_or_insert(Farewell::Normal);
        let mut lost = self.disconnected();
        self.waiting_bytes = 0;
        lost.extend(std::mem::take(&mut self.waiting).into_iter().map(|w| (w.waiter, Unsent::Ended)));
        lost
    }
}

fn check(publish: &Publish) -> Result<(), Unsent> {
    let topic = &publish.topic;
    if !is_topic(topic) {
        return Err(Unsent::BadTopic(topic.to_string()));
    }
    let properties = &publish.properties;
    let texts = properties.user.iter().flat_map(|(name, value)| [name.len(), value.len()]);
    let others = [&properties.content_type, &properties.response_topic];
    let longest = texts
        .chain(others.iter().filter_map(|t| t.as_ref().map(String::len)))
        .chain(properties.correlation.as_ref().map(Vec::len))
        .max();
    if longest > Some(LONGEST) {
        return Err(Unsent::Refused("a property of more than 65,535 bytes"));
    }
    Ok(())
}

fn packet(publish: Publish) -> packets::Publish {
    let Publish { topic, payload, properties, qos, retain, .. } = publish;
    let none = properties.content_type.is_none()
        && properties.response_topic.is_none()
        && properties.correlation.is_none()
        && properties.expiry.is_none()
        && properties.user.is_empty();
    let properties = (!none).then(|| packets::PublishProperties {
        message_expiry_interval: properties.expiry,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation.map(Bytes::from),
        user_properties: properties.user,
        content_type: properties.content_type,
        ..packets::PublishProperties::default()
    });
    packets::Publish {
        dup: false,
        qos: level(qos),
        retain,
        topic: topic.into_bytes(),
        pkid: 0,
        payload,
        properties,
    }
}

fn level(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
    }
}

fn filter(filter: &Filter) -> packets::Filter {
    use packets::RetainForwardRule::{Never, OnEverySubscribe};
    packets::Filter {
        path: filter.topic.clone(),
        qos: level(filter.qos),
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: if filter.retained { OnEverySubscribe } else { Never },
    }
}

fn refusal(code: packets::SubscribeReasonCode) -> Option<&'static str> {
    use packets::SubscribeReasonCode as Code;
    Some(match code {
        Code::Success(_) => return None,
        Code::Failure | Code::Unspecified => "no reason given",
        Code::ImplementationSpecific => "the broker cannot do it",
        Code::NotAuthorized => "not allowed",
        Code::TopicFilterInvalid => "not a filter",
        Code::PkidInUse => "packet id in use",
        Code::QuotaExceeded => "too many subscriptions",
        Code::SharedSubscriptionsNotSupported => "the broker has no shared subscriptions",
        Code::SubscriptionIdNotSupported => "the broker has no subscription identifiers",
        Code::WildcardSubscriptionsNotSupported => "the broker has no wildcard subscriptions",
    })
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;
    use packets::Packet;

    fn written(outbox: &mut Outbox) -> Vec<Packet> {
        let mut bytes = BytesMut::new();
        outbox.take(&mut bytes);
        let mut found = Vec::new();
        while let Some(packet) = frame::next(&mut bytes, 1 << 20).expect("what we wrote") {
            found.push(packet);
        }
        found
    }

    fn texts(outbox: &mut Outbox) -> Vec<String> {
        written(outbox)
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(p) => {
                    format!(
                        "{}{}{}",
                        String::from_utf8_lossy(&p.payload),
                        p.pkid,
                        if p.dup { "!" } else { "" }
                    )
                }
                other => format!("{other:?}").chars().take(9).collect(),
            })
            .collect()
    }

    fn put(outbox: &mut Outbox, text: &'static str) {
        outbox.publish(Publish::new("t", text), Waiter::Nobody).expect("taken");
    }

    #[test]
    fn the_window_holds_back_and_lets_go_in_order() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 2, 1 << 20);
        for text in ["a", "b", "c", "d"] {
            put(&mut outbox, text);
        }
        assert_eq!(texts(&mut outbox), ["a1", "b2"]);
        outbox.acknowledged(2, Ok(()));
        assert_eq!(texts(&mut outbox), ["c3"]);
        assert!(outbox.acknowledged(9, Ok(())).is_none(), "nobody sent it");
        assert_eq!(texts(&mut outbox), [""; 0]);
        outbox
            .publish(Publish::new("t", "q").qos(QoS::AtMostOnce), Waiter::Nobody)
            .expect("no window at QoS 0");
        assert_eq!(texts(&mut outbox), ["q0"]);
    }

    #[test]
    fn after_a_reconnect_what_was_not_acknowledged_goes_first() {
        for (resumed, expected) in [(false, ["a4", "b5", "d6"]), (true, ["a1!", "b2!", "d4"])] {
            let mut outbox = Outbox::new(1 << 20);
            outbox.connected(false, 3, 1 << 20);
            put(&mut outbox, "a");
            put(&mut outbox, "b");
            outbox.publish(Publish::new("t", "c").once(), Waiter::Token(7)).expect("taken");
            put(&mut outbox, "d");
            outbox.publish(Publish::new("t", "e").once(), Waiter::Token(8)).expect("taken");
            texts(&mut outbox);
            let lost = outbox.disconnected();
            let told = [(Waiter::Token(8), Unsent::Offline), (Waiter::Token(7), Unsent::Lost)];
            assert_eq!(format!("{lost:?}"), format!("{told:?}"));
            assert_eq!(outbox.publish(Publish::new("t", "f").once(), Waiter::Nobody), Err(Unsent::Offline));
            outbox.connected(resumed, 3, 1 << 20);
            assert_eq!(texts(&mut outbox), expected);
        }
    }

    #[test]
    fn what_is_retained_needs_nobody_there() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 10, 1 << 20);
        outbox.publish(Publish::new("t", "a"), Waiter::Token(1)).expect("taken");
        outbox.publish(Publish::new("t", "b").retain(), Waiter::Token(2)).expect("taken");
        let nobody = || Err(Unsent::NobodyThere);
        assert!(matches!(outbox.acknowledged(1, nobody()), Some((Waiter::Token(1), Err(_)))));
        assert!(matches!(outbox.acknowledged(2, nobody()), Some((Waiter::Token(2), Ok(())))));
    }

    #[test]
    fn an_id_is_free_only_when_nobody_has_it() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 65_535, 1 << 20);
        put(&mut outbox, "a");
        outbox.last_id = u16::MAX;
        put(&mut outbox, "b");
        drop(outbox.subscribe(vec![Filter::new("x")]));
        outbox.last_id = u16::MAX;
        put(&mut outbox, "c");
        assert_eq!(texts(&mut outbox), ["a1", "b2", "Subscribe", "c4"]);
    }

    #[test]
    fn subscriptions_are_made_again_and_refused_ones_forgotten() {
        use packets::SubscribeReasonCode::{NotAuthorized, Success};
        let ok = Success(mqttbytes::QoS::AtLeastOnce);
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 10, 1 << 20);
        let mut granted = outbox.subscribe(vec![Filter::new("a"), Filter::new("b")]);
        let mut refused = outbox.subscribe(vec![Filter::new("c")]);
        assert!(granted.try_recv().is_err(), "not yet");
        outbox.granted(1, &[ok, ok]);
        outbox.granted(2, &[NotAuthorized]);
        assert_eq!(granted.try_recv().expect("told"), Ok(()));
        let error = SubscribeError::Refused { filter: "c".into(), reason: "not allowed" };
        assert_eq!(refused.try_recv().expect("told"), Err(error));
        let mut lost = outbox.subscribe(vec![Filter::new("d")]);
        outbox.disconnected();
        assert!(lost.try_recv().is_err());
        outbox.forget(&["a".to_owned()]);
        outbox.connected(false, 10, 1 << 20);
        let packets = written(&mut outbox);
        let [Packet::Subscribe(again)] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!(again.filters.iter().map(|f| &*f.path).collect::<Vec<_>>(), ["b"]);
        assert!(outbox.granted(again.pkid, &[NotAuthorized]).is_some(), "nobody else hears of it");
        assert!(outbox.subscriptions.is_empty());
    }

    #[test]
    fn what_no_broker_takes_is_refused_here() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 10, 100);
        let mut refused = |publish| outbox.publish(publish, Waiter::Nobody).expect_err("no broker takes it");
        for topic in ["", "a/+", "#", "a\0"] {
            assert!(matches!(refused(Publish::new(topic, "x")), Unsent::BadTopic(_)));
        }
        assert!(matches!(refused(Publish::new("t", vec![0; 100])), Unsent::TooLarge { limit: 100, .. }));
        let mut long = Publish::new("t", "x");
        long.properties.user.push(("x".into(), "y".repeat(70_000)));
        assert!(matches!(refused(long), Unsent::Refused(_)));
        outbox.disconnected();
        let offline = outbox.publish(Publish::new("t", "x").qos(QoS::AtMostOnce), Waiter::Nobody);
        assert_eq!(offline, Err(Unsent::Offline));
        assert!(!outbox.has_room());
    }
}
