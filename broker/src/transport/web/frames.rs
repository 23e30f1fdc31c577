//! Decoding of a client's frames into payload.

use bytes::BufMut;

/// Maximum length of a masked frame's header: two bytes, eight of length and four of mask.
const MAX_HEADER_BYTES: usize = 14;
/// Maximum payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL_BYTES: u64 = 125;

/// A protocol violation by the client, and the status code to report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) text: &'static str,
}

/// Creates a protocol error (RFC 6455, 7.4.1).
const fn protocol(text: &'static str) -> Violation {
    Violation { code: 1002, text }
}

/// Decoder state of a stream of frames.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    /// Bytes of a header received so far.
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    /// Frame whose payload is being read.
    frame: Option<Frame>,
    /// Whether a message has begun that further frames continue.
    in_message: bool,
    /// Payload of an unfinished control frame.
    control: Vec<u8>,
    /// Last ping that was not answered.
    ping: Option<Vec<u8>>,
    closed: bool,
    close_code: Option<u16>,
}

#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    /// Number of payload bytes that have not arrived yet.
    left: u64,
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Data,
    Ping,
    Pong,
    Close,
}

impl FrameReader {
    /// Decodes the next bytes of the stream, unmasking them in place, and appends the payload of binary frames to
    /// `payload`, which must have room for as many bytes. Returns the number of bytes appended. Bytes after a close
    /// frame are ignored.
    pub(super) fn decode(
        &mut self,
        mut bytes: &mut [u8],
        payload: &mut impl BufMut,
    ) -> Result<usize, Violation> {
        let mut count = 0;
        while !self.closed && !bytes.is_empty() {
            let Some(frame) = &mut self.frame else {
                bytes = self.read_header(bytes)?;
                continue;
            };
            let length = bytes.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
            let (part, rest) = bytes.split_at_mut(length);
            unmask(part, &mut frame.mask);
            frame.left -= length as u64;
            match frame.kind {
                FrameKind::Data => {
                    payload.put_slice(part);
                    count += length;
                }
                FrameKind::Ping | FrameKind::Close => self.control.extend_from_slice(part),
                FrameKind::Pong => {}
            }
            bytes = rest;
            self.end_frame()?;
        }
        Ok(count)
    }

    /// Checks whether the client has sent its close frame.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the status code of the client's close frame, if it had one.
    pub(super) fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// Returns the payload of the last ping since the previous call; earlier ones need no answer (RFC 6455, 5.5.3).
    pub(super) fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Reads bytes of a header, and begins its frame when it is complete. Returns the remaining bytes.
    fn read_header<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a mut [u8], Violation> {
        let needed = self.header_length();
        let length = bytes.len().min(needed - self.header_bytes);
        let (part, rest) = bytes.split_at_mut(length);
        self.header[self.header_bytes..self.header_bytes + length].copy_from_slice(part);
        self.header_bytes += length;
        // The first two bytes determine the length.
        if self.header_bytes >= 2 && self.header_bytes == self.header_length() {
            self.begin_frame()?;
            self.end_frame()?;
        }
        Ok(rest)
    }

    fn header_length(&self) -> usize {
        match (self.header_bytes, self.header[1] & 0x7F) {
            (0 | 1, _) => 2,
            (_, 126) => 8,
            (_, 127) => MAX_HEADER_BYTES,
            _ => 6,
        }
    }

    fn begin_frame(&mut self) -> Result<(), Violation> {
        let header = &self.header[..std::mem::take(&mut self.header_bytes)];
        let (first, second) = (header[0], header[1]);
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err(protocol("a WebSocket frame with reserved bits; no extension was agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(protocol("a WebSocket frame without a mask; clients have to mask"));
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&header[header.len() - 4..]);
        let left = match second & 0x7F {
            126 => u64::from(u16::from_be_bytes([header[2], header[3]])),
            127 => header[2..10].iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
            short => u64::from(short),
        };
        if left > i64::MAX as u64 {
            return Err(protocol("a WebSocket frame with a length above 2^63"));
        }
        let kind = match opcode {
            0 if !self.in_message => {
                return Err(protocol("a WebSocket continuation of no message"));
            }
            0 | 2 => {
                if opcode == 2 && self.in_message {
                    return Err(protocol("a WebSocket message within another one"));
                }
                self.in_message = !is_final;
                FrameKind::Data
            }
            // MQTT-6.0.0-1
            1 => {
                let text = "a WebSocket text frame; MQTT is sent in binary frames";
                return Err(Violation { code: 1003, text });
            }
            8..=10 if !is_final || left > MAX_CONTROL_BYTES => {
                return Err(protocol("a WebSocket control frame in parts, or of more than 125 bytes"));
            }
            8 => FrameKind::Close,
            9 => FrameKind::Ping,
            10 => FrameKind::Pong,
            _ => return Err(protocol("a WebSocket frame of an unknown kind")),
        };
        self.frame = Some(Frame { kind, left, mask });
        Ok(())
    }

    /// Ends the frame if its payload is complete.
    fn end_frame(&mut self) -> Result<(), Violation> {
        let Some(Frame { kind, left: 0, .. }) = self.frame else { return Ok(()) };
        self.frame = None;
        match kind {
            FrameKind::Data | FrameKind::Pong => {}
            FrameKind::Ping => self.ping = Some(std::mem::take(&mut self.control)),
            FrameKind::Close => {
                let status = std::mem::take(&mut self.control);
                self.close_code = match status[..] {
                    [] => None,
                    [_] => return Err(protocol("a WebSocket close frame of one byte")),
                    [high, low, ..] => {
                        Some(u16::from_be_bytes([high, low])).filter(|&code| may_be_sent(code))
                    }
                };
                self.closed = true;
            }
        }
        Ok(())
    }
}

/// Checks whether a close frame may have this code (RFC 6455, 7.4).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Unmasks the next bytes of a payload, and rotates the mask for the bytes after them.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(bytes.len() % 4);
}
