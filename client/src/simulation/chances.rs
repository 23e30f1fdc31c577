//! Probabilities of events for one seed: each seed disables some kinds of events and makes others more frequent.

/// Disturbance of the network or of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incident {
    /// The connection ends; bytes in transit arrive up to any position.
    Cut,
    /// Bytes sent from now on are lost in both directions, without notice to either side.
    HalfOpen,
    /// Only bytes that the client sends are lost.
    LostToBroker,
    /// Only bytes that the broker sends are lost.
    LostToClient,
    /// One direction stalls for a while.
    Stall,
    /// The broker closes the connection, with or without a DISCONNECT.
    HangUp,
    /// The broker reports that another client has taken the session over.
    Takeover,
    /// The broker discards the session.
    Forget,
    /// The broker is restarted without its sessions.
    Restart,
    /// One broker becomes unreachable, or reachable again.
    Outage,
    /// The broker sends something that violates MQTT.
    Violation,
}

/// Probabilities in percent, and ranges, of one seed.
#[derive(Debug)]
pub(super) struct Chances {
    /// Maximum delay of bytes, in milliseconds.
    pub(super) delay_ms: u64,
    pub(super) is_sliced: bool,
    /// Number of bytes in transit to the broker from which writes wait.
    pub(super) capacity: usize,
    /// Maximum time between two incidents, in milliseconds.
    pub(super) incident_ms: u64,
    pub(super) incidents: Vec<Incident>,
    pub(super) refused_dial: u8,
    pub(super) silent_dial: u8,
    /// CONNECT is not answered by an accepting CONNACK.
    pub(super) refused_connect: u8,
    pub(super) disconnect_at_once: u8,
    pub(super) forgotten_session: u8,
    /// Values for the brokers' Receive Maximum; 0 for none.
    pub(super) windows: &'static [u16],
    /// Values for the brokers' Maximum Packet Size; 0 for none.
    pub(super) packet_sizes: &'static [u32],
    /// Values for Server Keep Alive; `None` for none.
    pub(super) keep_alives: &'static [Option<u16>],
    pub(super) refused_publish: u8,
    pub(super) refused_subscribe: u8,
    /// Maximum delay of a PUBACK, in milliseconds.
    pub(super) ack_ms: u64,
    /// Whether PUBACKs may arrive in any order.
    pub(super) is_ack_order_free: bool,
    /// Maximum time between two messages of the broker, in milliseconds.
    pub(super) message_ms: u64,
    /// Maximum pause of a publisher, in milliseconds.
    pub(super) pause_ms: u64,
    pub(super) once: u8,
    pub(super) qos_0: u8,
    pub(super) retained: u8,
    pub(super) large: u8,
    /// A packet has about the broker's Maximum Packet Size.
    pub(super) borderline: u8,
    pub(super) dropped: u8,
    pub(super) reply: u8,
    /// Probability per thousand, every 50 ms, that the session is ended.
    pub(super) end: u64,
    pub(super) subscribe_ms: u64,
    /// Packet ids continue shortly before some that are in use.
    pub(super) skipped_ids: u8,
}

fn pick<T: Copy>(random: &mut fastrand::Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

impl Chances {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        use Incident::{
            Cut, Forget, HalfOpen, HangUp, LostToBroker, LostToClient, Outage, Restart, Stall, Takeover,
            Violation,
        };
        let mut incidents = Vec::new();
        for (incident, times) in [
            (Cut, 6),
            (HalfOpen, 1),
            (LostToBroker, 1),
            (LostToClient, 1),
            (Stall, 3),
            (HangUp, 2),
            (Takeover, 1),
            (Forget, 1),
            (Restart, 1),
            (Outage, 2),
            (Violation, 1),
        ] {
            if random.u8(..100) < 60 {
                incidents.extend(std::iter::repeat_n(incident, times));
            }
        }
        Self {
            delay_ms: pick(random, &[0, 1, 5, 40, 300]),
            is_sliced: random.bool(),
            capacity: pick(random, &[40, 1_000, 64 << 10, 1 << 20]),
            incident_ms: pick(random, &[150, 1_000, 4_000, 15_000]),
            incidents,
            refused_dial: pick(random, &[0, 0, 10, 40]),
            silent_dial: pick(random, &[0, 0, 5]),
            refused_connect: pick(random, &[0, 0, 10, 30]),
            disconnect_at_once: pick(random, &[0, 0, 10]),
            forgotten_session: pick(random, &[0, 20]),
            windows: pick(random, &[&[0], &[1], &[1, 2, 5, 0], &[20, 3], &[65_535]]),
            packet_sizes: pick(random, &[&[0], &[0], &[130, 131], &[131, 400, 0], &[16_387, 16_388, 0]]),
            keep_alives: pick(random, &[&[None], &[None], &[None, Some(1), Some(3)], &[Some(0), Some(2)]]),
            refused_publish: pick(random, &[0, 10, 50]),
            refused_subscribe: pick(random, &[0, 10, 40]),
            ack_ms: pick(random, &[0, 0, 30, 400, 3_000]),
            is_ack_order_free: random.u8(..4) == 0,
            message_ms: pick(random, &[30, 300, 3_000]),
            pause_ms: pick(random, &[5, 20, 100, 400]),
            once: pick(random, &[0, 30, 80]),
            qos_0: pick(random, &[0, 15, 50]),
            retained: pick(random, &[0, 20]),
            large: pick(random, &[0, 0, 0, 30]),
            borderline: pick(random, &[0, 20]),
            dropped: pick(random, &[0, 5, 20]),
            reply: pick(random, &[0, 20]),
            end: pick(random, &[0, 0, 2, 10]),
            subscribe_ms: pick(random, &[20, 200, 2_000]),
            skipped_ids: pick(random, &[0, 0, 10]),
        }
    }
}
