//! From an accepted socket to the stream that HTTP is read from: the TLS handshake, and what is told to those who do not
//! begin one.

use std::io;

use rantai_tls::client_failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls::Tls;

/// The first byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 0x16;
/// As much of a request without TLS is read before it is answered; with more unread, the system would take the answer back.
const READ: usize = 16 << 10;

const ANSWER: &str =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
const ADVICE: &str =
    "This port speaks HTTPS, and the request came by HTTP: begin its address with https://\n";

/// Error of accepting a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The client speaks HTTP without TLS, and has been told.
    #[error("a request by http:// on a port that speaks https://")]
    PlainHttp,
    /// Neither HTTP nor a TLS handshake that can be completed.
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

/// Makes the handshake of a client. It has no time limit of its own.
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

/// Answers a request that came without TLS.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = vec![0; READ];
    let _ = stream.read(&mut request).await?;
    let answer = format!("{ANSWER}Content-Length: {}\r\n\r\n{ADVICE}", ADVICE.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What still comes is read, or the system might take the answer back.
    let mut left = READ;
    while left > 0 {
        match stream.read(&mut request).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
