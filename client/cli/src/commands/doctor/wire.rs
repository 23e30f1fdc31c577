//! Packets of one version of MQTT on a byte stream.

use std::io;

use bytes::BytesMut;
use rantai_client::session::{Address, ConnectError, RawStream, open};
use rmqtt_codec::error::{DecodeError, EncodeError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::{Decoder, Encoder};

use super::trouble::Trouble;

/// Connection that reads packets, and writes them until a deadline.
pub(super) struct Wire<C> {
    stream: RawStream,
    codec: C,
    reading: BytesMut,
    writing: BytesMut,
    deadline: Instant,
}

impl<C> Wire<C> {
    /// Opens the connection, without sending a packet.
    pub(super) async fn open(address: &Address, codec: C, deadline: Instant) -> Result<Self, Trouble> {
        let opened = timeout_at(deadline, open(address)).await;
        let stream = opened.map_err(|_| Trouble::Silent(opening(address)))?.map_err(Trouble::unreachable)?;
        Ok(Self { stream, codec, reading: BytesMut::new(), writing: BytesMut::new(), deadline })
    }

    /// Returns the codec, whose limits may be changed.
    pub(super) fn codec(&mut self) -> &mut C {
        &mut self.codec
    }

    /// Sets the deadline of writes.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Sends bytes that are a packet.
    pub(super) async fn send_bytes(&mut self, packet: &[u8]) -> Result<(), Trouble> {
        self.writing.extend_from_slice(packet);
        self.flush().await
    }

    /// Sends the contents of the write buffer.
    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        let written = async {
            self.stream.write_all(&self.writing).await?;
            self.stream.flush().await
        };
        let written = timeout_at(self.deadline, written).await;
        self.writing.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(error, "an answer")),
            Err(_) => Err(Trouble::Silent("room for what is sent")),
        }
    }

    /// Writes a packet into the buffer that [`flush`](Self::flush) sends.
    pub(super) fn write<P>(&mut self, packet: P) -> Result<(), Trouble>
    where
        C: Encoder<P, Error = EncodeError>,
    {
        Ok(self.codec.encode(packet, &mut self.writing)?)
    }

    /// Sends a packet.
    pub(super) async fn send<P>(&mut self, packet: P) -> Result<(), Trouble>
    where
        C: Encoder<P, Error = EncodeError>,
    {
        self.write(packet)?;
        self.flush().await
    }

    /// Returns the next packet; `None` if none has arrived at the time `until`. `expected` names in errors the packet that was
    /// waited for. Cancelling loses nothing.
    pub(super) async fn next<P>(
        &mut self,
        until: Instant,
        expected: &'static str,
    ) -> Result<Option<P>, Trouble>
    where
        C: Decoder<Item = (P, u32), Error = DecodeError>,
    {
        loop {
            if let Some((packet, _)) = self.codec.decode(&mut self.reading)? {
                return Ok(Some(packet));
            }
            // Checked here too: while the stream always has more bytes, the timer would not be polled.
            if Instant::now() >= until {
                return Ok(None);
            }
            match timeout_at(until, self.stream.read_buf(&mut self.reading)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => return Err(Trouble::cut(expected)),
                Ok(Err(error)) => return Err(self.broken(error, expected)),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Converts an error of the stream; TLS states why it ended a connection.
    fn broken(&self, error: io::Error, instead_of: &'static str) -> Trouble {
        match self.stream.explain(error) {
            error @ ConnectError::Tls { .. } => Trouble::unreachable(error),
            _ => Trouble::cut(instead_of),
        }
    }
}

/// Returns the layers of a connection before its first packet, as a noun phrase.
fn opening(address: &Address) -> &'static str {
    let address = address.to_string();
    match address.split_once("://").map(|(scheme, _)| scheme) {
        Some("mqtts") => "a connection with TLS",
        Some("ws") => "a connection with WebSocket",
        Some("wss") => "a connection with TLS and WebSocket",
        _ => "a connection",
    }
}
