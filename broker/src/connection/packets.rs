//! Handling of each packet of a client.

use super::bus::BusRefusal;
use super::filters::FilterChange;
use super::{BatchBuffers, Connection, ConnectionError, NextStep};
use crate::codec::{self, Acknowledge, Acknowledgement, DecodeError, Packet, Publish, Reason, Version};
use crate::control;
use crate::counters::Counters;
use crate::hub::ConnectionEnd;
use crate::log::ClientText;
use crate::logged::ReachedLimit;
use crate::message::QoS;
use crate::router::{FullQueues, Origin, Routed};
use crate::session::Scratch;
use crate::store::{Op, Phase};

impl Connection {
    /// Handles PUBACK, PUBREC, PUBREL and PUBCOMP.
    pub(super) fn acknowledged(&mut self, acknowledgement: Acknowledgement, scratch: &mut Scratch) {
        let session = &self.session;
        if !acknowledgement.ends_a_delivery() {
            self.unanswered.asked();
        }
        match acknowledgement {
            Acknowledgement::Ack { id } => {
                session.finished(&self.link, id, Phase::Queued, scratch);
            }
            Acknowledgement::Rec { id, refused: true } => {
                session.finished(&self.link, id, Phase::Sent, scratch);
            }
            Acknowledgement::Rec { id, refused: false } => {
                if !session.received(&self.link, id, scratch) {
                    self.acknowledge(Acknowledge::PubRel, id, Reason::PACKET_ID_NOT_FOUND, 0, scratch);
                }
            }
            Acknowledgement::Comp { id } => {
                session.finished(&self.link, id, Phase::Released, scratch);
            }
            Acknowledgement::Rel { id } => {
                let (known, durable) = {
                    let mut state = session.state.lock();
                    (state.received.remove(id), state.durable)
                };
                let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                let mut ticket = 0;
                if durable {
                    // A new message with this id must wait until the release of the id is on disk. After a crash it
                    // would otherwise look like a repetition of the old message.
                    ticket = self
                        .hub
                        .shared
                        .put([Op::Released { key: session.key, packet_id: id }], Some(session.key));
                }
                self.acknowledge(Acknowledge::PubComp, id, reason, ticket, scratch);
            }
        }
    }

    pub(super) fn handle(
        &mut self,
        packet: Packet,
        work: &mut BatchBuffers,
    ) -> Result<NextStep, ConnectionError> {
        if !matches!(packet, Packet::Acknowledgement(_)) {
            self.unanswered.asked();
        }
        let scratch = &mut work.scratch;
        match packet {
            Packet::Acknowledgement(acknowledgement) => self.acknowledged(acknowledgement, scratch),
            Packet::Publish(publish) => return self.publish(publish, work),
            Packet::Subscribe(subscribe) => {
                return self.change_filters(FilterChange::subscribe(subscribe), scratch);
            }
            Packet::Unsubscribe { id, filters } => {
                return self.change_filters(FilterChange::unsubscribe(id, filters), scratch);
            }
            Packet::PingReq => self.link.append_with(&mut scratch.dirty, codec::ping_response),
            Packet::Disconnect { with_will, expiry } => {
                if self.session_expiry == 0 && expiry.is_some_and(|e| e > 0) {
                    return Err(DecodeError::protocol(
                        "a session expiry in DISCONNECT where CONNECT had none",
                    ));
                }
                let ending =
                    if with_will { ConnectionEnd::Lost { expiry } } else { ConnectionEnd::Normal { expiry } };
                return Ok(NextStep::End(ending));
            }
            Packet::Auth => return Err(DecodeError::protocol("AUTH without an authentication method")),
            Packet::Connect(_) => return Err(DecodeError::protocol("a second CONNECT")),
        }
        Ok(NextStep::Next)
    }

    fn acknowledge(&self, kind: Acknowledge, id: u16, reason: Reason, ticket: u64, scratch: &mut Scratch) {
        self.acknowledge_because(kind, id, (reason, reason_string(reason)), ticket, scratch);
    }

    /// Same as [`acknowledge`](Self::acknowledge), with a given Reason String; with none if it is empty.
    fn acknowledge_because(
        &self,
        kind: Acknowledge,
        id: u16,
        (reason, text): (Reason, &str),
        ticket: u64,
        scratch: &mut Scratch,
    ) {
        let peer = self.link.peer;
        let text = Some(text).filter(|text| {
            let length = text.len() + codec::AROUND_REASON_STRING;
            !text.is_empty() && peer.problem_information && length <= peer.packet_maximum as usize
        });
        self.session.acknowledge(&self.hub.shared, &self.link, ticket, scratch, |out| {
            codec::acknowledge(peer.version, kind, id, reason, text, out);
        });
    }

    pub(super) fn publish(
        &mut self,
        mut publish: Publish,
        work: &mut BatchBuffers,
    ) -> Result<NextStep, ConnectionError> {
        Counters::add(&self.hub.shared.counters.messages_received, 1);
        if let Some(alias) = publish.alias {
            let most = (self.agreed.topic_aliases, self.hub.shared.limits().topic_alias_bytes);
            self.aliases.resolve(alias, &mut publish.message.topic, most)?;
        }
        let message = &mut publish.message;
        if message.qos != QoS::AtMostOnce {
            let state = self.session.state.lock();
            if publish.message.qos == QoS::ExactlyOnce && state.received.contains(publish.id) {
                drop(state);
                return Ok(self.repeated(publish.id, &mut work.scratch));
            }
            // MQTT 3.1.1 has no Receive Maximum: the limit is the number of packet ids.
            let limit = usize::from(self.agreed.receive_maximum);
            if self.link.peer.version == Version::V5 && state.received.len() >= limit {
                let reason = Reason::RECEIVE_MAXIMUM_EXCEEDED;
                return Err(DecodeError {
                    reason,
                    text: "more unacknowledged messages than the receive maximum",
                });
            }
        }
        let allowed = self.check_publish(&publish, &mut work.scratch);
        let message = &mut publish.message;
        let shared = &self.hub.shared;
        if message.properties.user.len() > shared.limits().user_properties {
            return self.refuse_properties(&publish, &mut work.scratch);
        }
        let needed = match allowed {
            Ok(needed) => needed,
            Err(denial) => {
                self.deny(&publish, &denial, &mut work.scratch);
                return Ok(NextStep::Next);
            }
        };
        if control::is_command(&message.topic) {
            let message = message.detach();
            return Ok(NextStep::Command(Box::new(Publish { message, ..publish })));
        }
        match self.enter_bus(message, needed, work.scratch.now) {
            Ok(()) => self.route(publish, FullQueues::Wait, work),
            Err(BusRefusal::Denied(denial)) => {
                self.deny(&publish, &denial, &mut work.scratch);
                Ok(NextStep::Next)
            }
            Err(BusRefusal::Share) => self.refuse_share(&publish, &mut work.scratch),
        }
    }

    /// Refuses a request of a client that already waits for as many replies as it may: at QoS 1 and 2 with a reason
    /// code, at QoS 0 by dropping it.
    fn refuse_share(&self, publish: &Publish, scratch: &mut Scratch) -> Result<NextStep, ConnectionError> {
        let shared = &self.hub.shared;
        Counters::add(&shared.counters.refused_grants, 1);
        if shared.may_log_limit(&mut self.session.state.lock().logged, ReachedLimit::Grants) {
            tracing::warn!(
                client = %ClientText(&self.session.client_id), user = %ClientText(self.link.principal.name()),
                peer = %self.link.peer.address, "refused: more requests without a reply than its share"
            );
        }
        self.refuse(publish, Reason::QUOTA_EXCEEDED, "too many requests without a reply", scratch)?;
        Ok(NextStep::Next)
    }

    /// Refuses a message with too many user properties: at QoS 1 and 2 with a reason code, at QoS 0 by dropping it.
    fn refuse_properties(
        &self,
        publish: &Publish,
        scratch: &mut Scratch,
    ) -> Result<NextStep, ConnectionError> {
        let shared = &self.hub.shared;
        Counters::add(&shared.counters.refused_properties, 1);
        if shared.may_log_limit(&mut self.session.state.lock().logged, ReachedLimit::UserProperties) {
            tracing::warn!(
                client = %ClientText(&self.session.client_id), peer = %self.link.peer.address,
                "refused: messages of more than limits.user_properties"
            );
        }
        self.refuse(publish, Reason::QUOTA_EXCEEDED, "too many user properties", scratch)?;
        Ok(NextStep::Next)
    }

    /// Acknowledges a QoS 2 message that was received before: only its PUBREC is sent again.
    fn repeated(&self, id: u16, scratch: &mut Scratch) -> NextStep {
        let session = &self.session;
        let durable = session.state.lock().durable;
        let mut ticket = 0;
        if durable {
            ticket =
                self.hub.shared.put([Op::Received { key: session.key, packet_id: id }], Some(session.key));
        }
        self.acknowledge(Acknowledge::PubRec, id, Reason::SUCCESS, ticket, scratch);
        NextStep::Next
    }

    /// Routes a message that has passed every check, and acknowledges it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it may not be used again: it may be the read buffer's"
    )]
    pub(super) fn route(
        &self,
        publish: Publish,
        full_queues: FullQueues,
        work: &mut BatchBuffers,
    ) -> Result<NextStep, ConnectionError> {
        let (session, qos) = (&self.session, publish.message.qos);
        let exactly_once = qos == QoS::ExactlyOnce;
        let owner = self.owner.as_ref();
        let mut origin = Origin { session: Some(session), owner, full_queues, ..Origin::default() };
        if exactly_once {
            let mut state = session.state.lock();
            state.received.insert(publish.id);
            origin.received = Some(publish.id);
            origin.durable = state.durable;
        }
        let routed = self.hub.router.route(&publish.message, origin, &mut work.scratch, &mut work.targets);
        match routed {
            Routed::Done { matched, unserved, ticket } => {
                self.note_replied(&publish.message);
                if unserved {
                    self.answer_unserved(&publish.message, &mut work.scratch);
                }
                let reason = if matched { Reason::SUCCESS } else { Reason::NO_MATCHING_SUBSCRIBERS };
                self.answer(&publish, reason, ticket, &mut work.scratch);
                Ok(NextStep::Next)
            }
            Routed::Full(full) => {
                if exactly_once {
                    session.state.lock().received.remove(publish.id);
                }
                // Copied, because the message would keep the read buffer for as long as it waits.
                let publish = Publish { message: publish.message.detach(), ..publish };
                Ok(NextStep::Wait(Box::new((publish, full))))
            }
            Routed::Refused(reason, text) => {
                if exactly_once {
                    session.state.lock().received.remove(publish.id);
                }
                self.refuse(&publish, reason, text, &mut work.scratch)?;
                Ok(NextStep::Next)
            }
        }
    }

    /// Refuses a message with a reason code in MQTT 5. MQTT 3.1.1 has no reason codes, so the connection ends without
    /// an acknowledgement and the client keeps the message.
    pub(super) fn refuse(
        &self,
        publish: &Publish,
        reason: Reason,
        text: &'static str,
        scratch: &mut Scratch,
    ) -> Result<(), ConnectionError> {
        let disk = self.hub.shared.disk_refusal() == Some(text);
        if disk {
            self.session.log_disk_refusal(&mut self.session.state.lock(), &self.hub.shared);
        }
        if self.link.peer.version == Version::V3 && publish.message.qos != QoS::AtMostOnce {
            return Err(DecodeError { reason, text });
        }
        let text = if disk { text } else { reason_string(reason) };
        self.answer_because(publish, (reason, text), 0, scratch);
        Ok(())
    }

    fn answer(&self, publish: &Publish, reason: Reason, ticket: u64, scratch: &mut Scratch) {
        self.answer_because(publish, (reason, reason_string(reason)), ticket, scratch);
    }

    pub(super) fn answer_because(
        &self,
        publish: &Publish,
        reason: (Reason, &str),
        ticket: u64,
        scratch: &mut Scratch,
    ) {
        let kind = match publish.message.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => Acknowledge::PubAck,
            QoS::ExactlyOnce => Acknowledge::PubRec,
        };
        self.acknowledge_because(kind, publish.id, reason, ticket, scratch);
    }
}

/// Returns the default Reason String of a code: empty unless it is an error.
fn reason_string(reason: Reason) -> &'static str {
    if reason.is_error() { reason.text() } else { "" }
}
