//! TLS handshake of accepted connections, and the response to clients that do not begin one.

use std::io;

use rantai_tls::client_failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls::Tls;

/// First byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 0x16;
/// Number of bytes read of a request without TLS before it is answered; closing with more unread would reset the
/// connection, and the answer would be lost.
const MAX_REQUEST_BYTES: usize = 16 << 10;

const ANSWER: &str =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
const ADVICE: &str =
    "This port speaks HTTPS, and the request came by HTTP: begin its address with https://\n";

/// Error of accepting a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The client speaks HTTP without TLS; it got a response.
    #[error("a request by http:// on a port that speaks https://")]
    PlainHttp,
    /// The client speaks neither HTTP nor TLS, or the handshake failed.
    #[error("the TLS handshake failed")]
    Failed(#[from] io::Error),
}

impl HandshakeError {
    /// Returns the TLS error; `None` for other errors.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let Self::Failed(error) = self else { return None };
        error.get_ref()?.downcast_ref().map(client_failure)
    }
}

/// Performs the TLS handshake with a client, without a time limit.
pub(super) async fn handshake(
    mut stream: TcpStream,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE && first[0].is_ascii_uppercase() {
        refuse(&mut stream).await?;
        return Err(HandshakeError::PlainHttp);
    }
    Ok(tls.acceptor().accept(stream).await?)
}

/// Answers a request that was sent without TLS.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = vec![0; MAX_REQUEST_BYTES];
    let _ = stream.read(&mut request).await?;
    let answer = format!("{ANSWER}Content-Length: {}\r\n\r\n{ADVICE}", ADVICE.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Reads the rest, as closing with unread bytes would reset the connection, and the answer could be lost.
    let mut left = MAX_REQUEST_BYTES;
    while left > 0 {
        match stream.read(&mut request).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
