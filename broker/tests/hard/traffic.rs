//! Packets of a hostile, defective or confused client: each [`Script`] is one connection.

use rantai_testing::{Version, binary, frame, string, variable_integer};

use crate::random::Random;
use crate::texts::{BAD_TEXT, FILTERS, STRANGE_FILTERS, TOPICS};

/// All bytes sent on one connection, and how the connection ends.
pub(crate) struct Script {
    pub(crate) bytes: Vec<u8>,
    /// Number of packets in `bytes`; a run of random bytes counts as one.
    pub(crate) packets: usize,
    /// Whether the client reads until the end, or closes with unread packets.
    pub(crate) polite: bool,
}

impl Script {
    /// Returns a random script of one of several kinds.
    pub(crate) fn new(random: &mut Random) -> Self {
        let version = random.pick(&[Version::V3, Version::V5]);
        let mut script = Self { bytes: Vec::new(), packets: 0, polite: random.percent(70) };
        match random.below(100) {
            0..4 => script.push(noise(random, 200)),
            4..8 => {
                let packet = any_packet(random, version);
                script.push(packet);
            }
            8..16 => {
                let connect = connect(random, version);
                script.push(mutate(random, connect));
                script.push(publish(random, version));
            }
            16..62 => script.session_gone_wrong(random, version),
            62..72 => script.exactly_once_games(random, version),
            72..80 => script.strange_subscriptions(random, version),
            80..86 => script.topic_aliases(random),
            86..94 => script.stream_damage(random, version),
            _ => script.properties_out_of_place(random),
        }
        script
    }

    fn push(&mut self, packet: Vec<u8>) {
        self.bytes.extend(packet);
        self.packets += 1;
    }

    fn open(&mut self, random: &mut Random, version: Version) {
        self.push(connect(random, version));
    }

    fn steps(&mut self, random: &mut Random, version: Version, most: usize) {
        for _ in 0..random.below(most) {
            self.push(step(random, version));
        }
    }

    /// Valid packets, followed by one that is invalid, unexpected or of the other version.
    fn session_gone_wrong(&mut self, random: &mut Random, version: Version) {
        self.open(random, version);
        self.steps(random, version, 60);
        match random.below(8) {
            0 => self.open(random, version),
            1 => self.push(server_only(random)),
            2 => {
                let other = if version == Version::V5 { Version::V3 } else { Version::V5 };
                self.steps(random, other, 4);
            }
            3 => self.push(noise(random, 64)),
            4 => self.push(frame(0xE0, &[])),
            _ => {
                for _ in 0..=random.below(3) {
                    let packet = any_packet(random, version);
                    self.push(mutate(random, packet));
                }
            }
        }
        self.steps(random, version, 3);
    }

    /// QoS 2 packets with few packet ids, in any order.
    fn exactly_once_games(&mut self, random: &mut Random, version: Version) {
        self.open(random, version);
        self.push(subscribe(random, version, &["t/#"]));
        for _ in 0..random.below(80) {
            let id = random.below(6).max(usize::from(random.percent(98))) as u16;
            if random.percent(45) {
                let topic = format!("t/{}", random.below(4));
                let duplicate = u8::from(random.percent(30)) << 3;
                let mut body = Vec::new();
                body.extend(string(&topic));
                body.extend(id.to_be_bytes());
                if version == Version::V5 {
                    body.push(0);
                }
                body.extend(b"game");
                self.push(frame(0x30 | duplicate | if random.percent(80) { 4 } else { 2 }, &body));
            } else {
                self.push(answer(random, version, id));
            }
        }
    }

    fn strange_subscriptions(&mut self, random: &mut Random, version: Version) {
        self.open(random, version);
        self.steps(random, version, 10);
        for _ in 0..random.below(10) {
            let count = random.below(4);
            let filters: Vec<&str> = (0..count).map(|_| random.pick(STRANGE_FILTERS)).collect();
            self.push(subscribe(random, version, &filters));
            self.steps(random, version, 3);
        }
    }

    fn topic_aliases(&mut self, random: &mut Random) {
        self.open(random, Version::V5);
        for _ in 0..random.below(40) {
            let alias = match random.below(60) {
                0 => 0,
                1 => u16::MAX,
                other => (other % 12 + 1) as u16,
            };
            let topic = if random.percent(60) { random.pick(TOPICS) } else { "" };
            let mut body = Vec::new();
            body.extend(string(topic));
            let mut properties = vec![0x23];
            properties.extend(alias.to_be_bytes());
            if random.percent(2) {
                properties.extend_from_within(..);
            }
            body.extend(variable_integer(properties.len() as u32));
            body.extend(properties);
            body.extend(b"alias");
            self.push(frame(0x30, &body));
        }
    }

    /// Damage to the stream instead of single packets: truncated, spliced, repeated, or with flipped bits.
    fn stream_damage(&mut self, random: &mut Random, version: Version) {
        self.open(random, version);
        let start = if random.percent(80) { self.bytes.len() } else { 0 };
        self.steps(random, version, 30);
        let length = self.bytes.len();
        if length <= start {
            return;
        }
        let at = start + random.below(length - start);
        match random.below(4) {
            0 => self.bytes.truncate(at),
            1 => {
                let end = at + random.below(length - at);
                self.bytes.drain(at..end);
            }
            2 => {
                let copy = self.bytes[at..].to_vec();
                self.bytes.extend(copy);
            }
            _ => self.bytes[at] ^= 1 << random.below(8),
        }
        self.steps(random, version, 3);
    }

    /// MQTT 5 properties of another packet, with a wrong length, or repeated.
    fn properties_out_of_place(&mut self, random: &mut Random) {
        self.open(random, Version::V5);
        self.steps(random, Version::V5, 10);
        let mut properties = Vec::new();
        for _ in 0..=random.below(4) {
            properties.extend(property(random));
        }
        let mut body = Vec::new();
        let first = random.pick(&[0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xE0, 0xF0]);
        if first >> 4 == 3 {
            body.extend(string("t/1"));
        }
        if !matches!(first, 0x30 | 0xE0 | 0xF0) {
            body.extend([0, 7]);
        }
        if matches!(first, 0x40 | 0x50 | 0x62 | 0x70 | 0xE0 | 0xF0) {
            body.push(0);
        }
        match random.below(6) {
            0 => body.extend(variable_integer(268_435_455)),
            1 => body.extend([0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
            2 => body.extend(variable_integer(random.below(300) as u32)),
            _ => body.extend(variable_integer(properties.len() as u32)),
        }
        body.extend(properties);
        if matches!(first, 0x82 | 0xA2) {
            body.extend(string("t/2"));
            if first == 0x82 {
                body.push(1);
            }
        }
        self.push(frame(first, &body));
        self.steps(random, Version::V5, 3);
    }
}

fn connect(random: &mut Random, version: Version) -> Vec<u8> {
    let v5 = version == Version::V5;
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if v5 { 5 } else { 4 }];
    let will = random.percent(20);
    let user = random.percent(10);
    let mut flags = if random.percent(80) { 2 } else { 0 };
    if will {
        flags |= 4 | (random.below(3) as u8) << 3 | u8::from(random.percent(20)) << 5;
    }
    if user {
        flags |= 0xC0;
    }
    body.push(flags);
    body.extend([0, u8::from(!random.percent(90))]);
    if v5 {
        let mut properties = Vec::new();
        if random.percent(30) {
            properties.extend([0x11, 0, 0, 0, 2]);
        }
        if random.percent(30) {
            properties.extend([0x21, 0, 1 + random.below(20) as u8]);
        }
        if random.percent(30) {
            properties.extend([0x22, 0, random.below(20) as u8]);
        }
        if random.percent(20) {
            properties.extend([0x27, 0, 0, 0, 30 + random.below(100) as u8]);
        }
        body.extend(variable_integer(properties.len() as u32));
        body.extend(properties);
    }
    match random.below(20) {
        0 => body.extend(string("")),
        1 => body.extend(string("a/b+#$")),
        2 => body.extend(string("é")),
        3 => body.extend(string(&"x".repeat(300))),
        _ => body.extend(string(&format!("hostile-{}", random.below(64)))),
    }
    if will {
        if v5 {
            body.extend([5, 0x18, 0, 0, 0, random.below(2) as u8]);
        }
        body.extend(string(random.pick(TOPICS)));
        body.extend(binary(b"last words"));
    }
    if user {
        body.extend(string("somebody"));
        body.extend(binary(b"something"));
    }
    frame(0x10, &body)
}

fn publish(random: &mut Random, version: Version) -> Vec<u8> {
    let qos = random.below(3) as u8;
    let mut body = Vec::new();
    body.extend(string(random.pick(TOPICS)));
    if qos > 0 {
        body.extend((1 + random.below(200) as u16).to_be_bytes());
    }
    if version == Version::V5 {
        let mut properties = Vec::new();
        if random.percent(20) {
            properties.push(0x08);
            properties.extend(string(random.pick(TOPICS)));
        }
        if random.percent(20) {
            properties.push(0x09);
            properties.extend(binary(b"correlation"));
        }
        if random.percent(10) {
            properties.extend([0x02, 0, 0, 0, 1]);
        }
        if random.percent(10) {
            properties.push(0x26);
            properties.extend(string("name"));
            properties.extend(string("value"));
        }
        body.extend(variable_integer(properties.len() as u32));
        body.extend(properties);
    }
    let length = if random.percent(1) { random.below(40_000) } else { random.below(60) };
    body.resize(body.len() + length, b'.');
    let retain = u8::from(random.percent(10));
    let duplicate = if qos > 0 { u8::from(random.percent(10)) << 3 } else { 0 };
    frame(0x30 | duplicate | qos << 1 | retain, &body)
}

fn answer(random: &mut Random, version: Version, id: u16) -> Vec<u8> {
    // PUBACK, PUBREC, PUBREL or PUBCOMP.
    let first = random.pick(&[0x40, 0x50, 0x62, 0x70]);
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 && random.percent(20) {
        body.push(random.pick(&[0x00, 0x10, 0x80, 0x92, 0x97]));
    }
    frame(first, &body)
}

fn subscribe(random: &mut Random, version: Version, filters: &[&str]) -> Vec<u8> {
    let mut body = (1 + random.below(200) as u16).to_be_bytes().to_vec();
    if version == Version::V5 {
        match random.below(10) {
            0 => body.extend([2, 0x0B, random.below(100) as u8]),
            1 => body.extend([5, 0x0B, 0xFF, 0xFF, 0xFF, 0x7F]),
            _ => body.push(0),
        }
    }
    for filter in filters {
        body.extend(string(filter));
        let mut options = random.below(3) as u8;
        if version == Version::V5 && random.percent(30) {
            options |= (random.below(12) as u8) << 2;
        }
        body.push(if random.percent(98) { options } else { random.next() as u8 });
    }
    frame(0x82, &body)
}

/// Returns a packet that a client may send at any time.
fn step(random: &mut Random, version: Version) -> Vec<u8> {
    match random.below(100) {
        0..60 => publish(random, version),
        60..75 => {
            let count = 1 + random.below(3);
            let filters: Vec<&str> = (0..count).map(|_| random.pick(FILTERS)).collect();
            subscribe(random, version, &filters)
        }
        75..80 => {
            let mut body = (1 + random.below(200) as u16).to_be_bytes().to_vec();
            if version == Version::V5 {
                body.push(0);
            }
            body.extend(string(random.pick(FILTERS)));
            frame(0xA2, &body)
        }
        80..90 => frame(0xC0, &[]),
        _ => {
            let id = 1 + random.below(30) as u16;
            answer(random, version, id)
        }
    }
}

fn any_packet(random: &mut Random, version: Version) -> Vec<u8> {
    match random.below(10) {
        0 => connect(random, version),
        1 => frame(0xE0, &[]),
        2 => server_only(random),
        3 if version == Version::V5 => frame(0xF0, &[0x18, 0]),
        _ => step(random, version),
    }
}

fn server_only(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => frame(0x20, &[0, 0]),
        1 => frame(0x20, &[0, 0, 0]),
        2 => frame(random.pick(&[0x90, 0xB0]), &[0, 1, 0]),
        _ => frame(0xD0, &[]),
    }
}

fn property(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![random.pick(&[
        0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x1F,
        0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x00, 0x2B, 0x7F, 0xFF,
    ])];
    match bytes[0] {
        0x02 | 0x11 | 0x18 | 0x27 => bytes.extend([0, 0, 0, 0]),
        0x13 | 0x21..=0x23 => bytes.extend([0, random.below(3) as u8]),
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => {
            bytes.extend(binary(random.pick(BAD_TEXT)));
        }
        0x26 => {
            bytes.extend(string("name"));
            bytes.extend(binary(random.pick(BAD_TEXT)));
        }
        _ => bytes.push(random.below(4) as u8),
    }
    bytes
}

fn noise(random: &mut Random, most: usize) -> Vec<u8> {
    (0..=random.below(most)).map(|_| random.next() as u8).collect()
}

/// Returns the packet with one error.
fn mutate(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    let length = packet.len();
    match random.below(12) {
        0..3 => {
            for _ in 0..=random.below(8) {
                packet[random.below(length)] ^= 1 << random.below(8);
            }
        }
        3 => packet[random.below(length)] = random.next() as u8,
        4 => packet.truncate(random.below(length)),
        5 => {
            let at = random.below(length);
            let inserted = noise(random, 8);
            packet.splice(at..at, inserted);
        }
        6 => packet[1] = packet[1].wrapping_add(random.pick(&[1, 2, 10, 0xFF, 0xFE])),
        7 => {
            let huge = random.pick::<&[u8]>(&[
                &[0xFF, 0xFF, 0xFF, 0x7F],
                &[0xFF, 0xFF, 0xFF, 0xFF],
                &[0x80, 0x80, 0x80, 0x01],
                &[0x80, 0x00],
            ]);
            packet.splice(1..2, huge.iter().copied());
        }
        8 => packet[0] ^= 1 << random.below(4),
        9 => {
            // Replaces the first text with an invalid one, with correct lengths.
            let text = random.pick(BAD_TEXT);
            let mut body = Vec::new();
            match packet[0] >> 4 {
                1 => {
                    body.extend([0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0]);
                    body.extend(binary(text));
                }
                8 | 10 => {
                    body.extend([0, 9]);
                    body.extend(binary(text));
                    body.push(0);
                }
                _ => {
                    body.extend(binary(text));
                    body.extend([0, 9, 0]);
                }
            }
            packet = frame(packet[0], &body);
        }
        10 if length > 4 => packet.drain(2..4).for_each(drop),
        _ => {
            // Packet id 0, QoS 3, or a body in a packet without one.
            packet = match random.below(3) {
                0 => frame(0x32, &[0, 1, b't', 0, 0, 0]),
                1 => frame(0x36, &[0, 1, b't', 0, 1, 0]),
                _ => frame(0xC0, &[1, 2, 3]),
            };
        }
    }
    packet
}
