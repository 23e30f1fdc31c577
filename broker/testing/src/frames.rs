//! Client side of WebSocket, written by hand and without I/O: the upgrade request, encoding of frames, and strict
//! decoding of frames.

use std::io;

use crate::reader::{Malformed, ensure, malformed};

/// Key of the example in RFC 6455, 1.3, and the server's answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Mask of all frames. The standard requires a random one because of proxies, of which there are none here.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x17, 0x88];
/// Maximum payload of a frame that is written, in bytes, so that packets and frames have different boundaries.
const MAX_FRAME_PAYLOAD: usize = 7_777;
/// Maximum length of the head of the server's answer, in bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Returns the request that opens a WebSocket for MQTT.
pub(crate) fn request(host: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
}

/// Returns the offset of the end of the answer's head; `None` if it is incomplete.
///
/// # Errors
///
/// The head is too long, or the server refuses the WebSocket.
pub(crate) fn end_of_answer(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() < MAX_HEAD_BYTES, "a head of HTTP does not end");
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let value = |name: &str| {
        let mut values = head.lines().filter_map(|line| line.split_once(':'));
        let found = values.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let opens = head.starts_with("HTTP/1.1 101 ")
        && value("Upgrade").eq_ignore_ascii_case("websocket")
        && value("Connection").eq_ignore_ascii_case("upgrade")
        && value("Sec-WebSocket-Accept") == ACCEPT
        && value("Sec-WebSocket-Protocol") == "mqtt";
    ensure!(opens, "no WebSocket for MQTT is opened by {head:?}");
    Ok(Some(end + 4))
}

/// Returns a frame with the beginning of `bytes`, and the number of bytes in it.
pub(crate) fn framed(bytes: &[u8]) -> (Vec<u8>, usize) {
    let count = bytes.len().min(MAX_FRAME_PAYLOAD);
    (frame(BINARY, &bytes[..count]), count)
}

/// Returns a complete message in one masked frame (RFC 6455, 5.2).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 0x7E);
            out.extend(u16::try_from(length).expect("no frame is longer").to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Decoder of received frames.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    raw: Vec<u8>,
    data: Vec<u8>,
    /// Number of bytes of `data` that were taken.
    taken: usize,
    /// Frames that answer those of the server.
    pub(crate) answers: Vec<u8>,
    /// Whether a message has begun that further frames continue.
    inside: bool,
    closed: bool,
}

impl Incoming {
    /// Decodes bytes read from the connection.
    ///
    /// # Errors
    ///
    /// The bytes are frames that a server must not send to an MQTT client.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw.extend_from_slice(bytes);
        let mut read = 0;
        while let Some((first, payload)) = first_frame(&self.raw[read..]).map_err(io::Error::other)? {
            let payload = read + payload.start..read + payload.end;
            read = payload.end;
            self.frame(first, payload).map_err(io::Error::other)?;
        }
        self.raw.drain(..read);
        Ok(())
    }

    fn frame(&mut self, first: u8, payload: std::ops::Range<usize>) -> Result<(), Malformed> {
        ensure!(first & 0x70 == 0, "reserved bits of a frame");
        ensure!(!self.closed, "a frame behind the one that closes");
        let (ends, opcode) = (first & 0x80 != 0, first & 0x0F);
        let payload = self.raw[payload].to_vec();
        match opcode {
            BINARY | CONTINUATION => {
                ensure!(self.inside == (opcode == CONTINUATION), "a message begins inside another");
                self.inside = !ends;
                self.data.extend(payload);
            }
            CLOSE | PING | PONG => {
                ensure!(ends && payload.len() < 126, "a control frame in parts");
                ensure!(opcode != CLOSE || payload.len() >= 2, "a server that closes says why");
                match opcode {
                    CLOSE => {
                        self.closed = true;
                        self.answers.extend(frame(CLOSE, &payload));
                    }
                    PING => self.answers.extend(frame(PONG, &payload)),
                    _ => {}
                }
            }
            other => malformed!("a frame of type {other}"),
        }
        Ok(())
    }

    /// Moves payload into `out`. Returns the number of bytes, 0 if there are none.
    pub(crate) fn take(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.data.len() - self.taken);
        out[..count].copy_from_slice(&self.data[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.data.len() {
            self.data.clear();
            self.taken = 0;
        }
        count
    }

    /// Returns whether the server has closed the WebSocket, and all payload before that was taken.
    pub(crate) fn is_at_end(&self) -> bool {
        self.closed && self.data.is_empty()
    }
}

/// Returns the first byte of the first frame and the range of its payload; `None` if it is incomplete.
fn first_frame(bytes: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, Malformed> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    ensure!(second & 0x80 == 0, "a server masks its frames");
    let (start, length) = match second {
        126 => (4, bytes.get(2..4).map(|two| u64::from(u16::from_be_bytes([two[0], two[1]])))),
        127 => (10, bytes.get(2..10).map(|eight| u64::from_be_bytes(eight.try_into().expect("eight bytes")))),
        length => (2, Some(u64::from(length))),
    };
    let Some(length) = length else { return Ok(None) };
    let least = match start {
        2 => 0,
        4 => 126,
        _ => 1 << 16,
    };
    ensure!(length >= least, "the length of a frame is longer than it need be");
    let end = start + usize::try_from(length).expect("this machine has 64 bits");
    Ok((bytes.len() >= end).then_some((first, start..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(incoming: &mut Incoming) -> Vec<u8> {
        let mut out = [0; 100];
        let count = incoming.take(&mut out);
        out[..count].to_vec()
    }

    #[test]
    fn frames_are_decoded_in_pieces_of_any_size() {
        let mut incoming = Incoming::default();
        let bytes = [0x02, 2, b'a', b'b', 0x89, 1, b'?', 0x80, 1, b'c', 0x88, 2, 3, 0xE8];
        for (number, byte) in bytes.iter().enumerate() {
            assert!(!incoming.is_at_end(), "before byte {number}");
            incoming.feed(&[*byte]).expect("frames");
        }
        assert_eq!(taken(&mut incoming), b"abc");
        assert!(incoming.is_at_end());
        let answers = [frame(PONG, b"?"), frame(CLOSE, &[3, 0xE8])].concat();
        assert_eq!(incoming.answers, answers);
        assert!(incoming.feed(&[0x82, 0]).is_err(), "behind the end");
    }

    #[test]
    fn frames_that_a_server_must_not_send_are_errors() {
        for (wrong, says) in [
            (&[0x82, 0x80][..], "masks"),
            (&[0xC2, 0], "reserved bits"),
            (&[0x81, 0], "type 1"),
            (&[0x80, 0], "inside"),
            (&[0x09, 0], "in parts"),
            (&[0x88, 0], "says why"),
            (&[0x82, 126, 0, 125], "need be"),
        ] {
            let error = Incoming::default().feed(wrong).expect_err(says).to_string();
            assert!(error.contains(says), "{wrong:02x?}: {error}");
        }
    }

    #[test]
    fn a_frame_is_masked_and_has_its_length() {
        let (frame, count) = framed(&[0; 10_000]);
        assert_eq!(
            (count, &frame[..2], frame.len()),
            (MAX_FRAME_PAYLOAD, &[0x82, 0xFE][..], MAX_FRAME_PAYLOAD + 8)
        );
        assert_eq!(frame[4..8], frame[8..12], "zeros show the mask");
    }
}
