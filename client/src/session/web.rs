//! MQTT over WebSocket (MQTT 5, 6): binary messages, whose boundaries are independent of those of MQTT packets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, http};

use super::heard::Heard;
use super::stream::Stream;

/// WebSocket subprotocol of MQTT (MQTT 5, 6.0.0.3).
const SUBPROTOCOL: &str = "mqtt";
/// Maximum size of a written message, in bytes.
const MAX_WRITTEN_MESSAGE_BYTES: usize = 64 << 10;
/// Size of the read buffer, in bytes.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Maximum size of a message from the broker, in bytes: it may contain several packets.
const MAX_READ_MESSAGE_BYTES: usize = 64 << 20;

/// WebSocket above another stream.
pub(super) struct Web {
    socket: WebSocketStream<Heard<Stream>>,
    /// Rest of the last message.
    reading: Bytes,
    /// Whether messages were passed to the socket since it was last flushed.
    has_unsent: bool,
}

/// Error of the WebSocket handshake.
#[derive(Debug)]
pub(super) enum WebError {
    /// The layer below failed.
    Io(io::Error),
    /// The server answers, but does not accept this WebSocket. The text contains the reason and what to check.
    Refused(String),
}

impl Web {
    /// Performs the handshake for `url`, which is `ws://` or `wss://` with host, port and path.
    pub(super) async fn open(stream: Heard<Stream>, url: &str) -> Result<Self, WebError> {
        let mut request = url.into_client_request().map_err(refused)?;
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // Each message is written at once, because the session has combined packets already.
            .write_buffer_size(0)
            .max_message_size(Some(MAX_READ_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_READ_MESSAGE_BYTES));
        let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = opened.map_err(refused)?;
        Ok(Self { socket, reading: Bytes::new(), has_unsent: false })
    }

    /// Returns the stream below.
    pub(super) fn below(&self) -> &Stream {
        self.socket.get_ref().below()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.has_unsent || self.below().has_unsent()
    }
}

/// Converts the error of a failed handshake.
fn refused(error: Error) -> WebError {
    WebError::Refused(match error {
        Error::Io(error) => return WebError::Io(error),
        Error::Http(answer) => match answer.status() {
            http::StatusCode::NOT_FOUND => {
                "it has no WebSocket at this path (HTTP 404); is it /mqtt?".to_owned()
            }
            status => format!("it answers with HTTP {status} instead of WebSocket"),
        },
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol | SubProtocolError::InvalidSubProtocol,
        )) => "its WebSocket is not one for MQTT".to_owned(),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            "it closed the connection before WebSocket was agreed on".to_owned()
        }
        other => format!("it does not speak WebSocket: {other}"),
    })
}

/// Converts the error of an established WebSocket.
fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl AsyncRead for Web {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let web = self.get_mut();
        while web.reading.is_empty() {
            match ready!(Pin::new(&mut web.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => web.reading = bytes,
                // tungstenite has prepared the answer, which the next flush sends.
                Some(Ok(Message::Ping(_))) => web.has_unsent = true,
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                // A TCP reset instead of the closing handshake also counts as the end.
                Some(
                    Ok(Message::Close(_)) | Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)),
                )
                | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("a message of text, which MQTT has none of")));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let size = web.reading.len().min(buffer.remaining());
        buffer.put_slice(&web.reading[..size]);
        web.reading.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Web {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let web = self.get_mut();
        // Flushes the previous message first, so that at most one is waiting.
        ready!(Pin::new(&mut web.socket).poll_ready(context)).map_err(broken)?;
        let size = bytes.len().min(MAX_WRITTEN_MESSAGE_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..size]));
        web.has_unsent = true;
        Pin::new(&mut web.socket).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let web = self.get_mut();
        ready!(Pin::new(&mut web.socket).poll_flush(context)).map_err(broken)?;
        web.has_unsent = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let web = self.get_mut();
        ready!(Pin::new(&mut web.socket).poll_close(context)).map_err(broken)?;
        Pin::new(web.socket.get_mut()).poll_shutdown(context)
    }
}
