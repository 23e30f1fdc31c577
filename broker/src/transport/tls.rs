//! TLS above a socket. The encrypted bytes that the socket has not accepted are bounded: while there are any, nothing
//! more is encrypted.

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use parking_lot::Mutex;
use rantai_tls::{ServerTls, client_failure};
use rustls::pki_types::CertificateDer;
use rustls::{Error, InvalidMessage, ServerConnection};

use super::discard;
use super::socket::Socket;

/// Maximum number of bytes encrypted before they are written to the socket.
const MAX_ENCRYPTED_BYTES: usize = 64 << 10;
/// Number of reads of the socket, of 4 KiB each, before the task yields.
const READS_PER_TURN: usize = 16;

/// TLS session of one client, on the server's side.
pub(crate) struct Tls {
    below: Socket,
    server: Arc<ServerTls>,
    state: Mutex<TlsState>,
}

struct TlsState {
    /// `None` while a step of the handshake is computed on another thread.
    connection: Option<ServerConnection>,
    /// First byte received from the client.
    first: Option<u8>,
    /// Protocol violation by which the stream has failed.
    violation: Option<&'static str>,
    /// Whether to shut down the socket for writing when everything is sent.
    ends_when_sent: bool,
    /// Whether the last read may have left bytes in the socket.
    may_have_more: bool,
    /// Number of bytes discarded so far.
    discarded: usize,
}

/// Next step of a handshake.
#[derive(Debug)]
pub(crate) enum TlsStep {
    Done,
    /// Continue when the socket is readable.
    Reads,
    /// Continue when the socket is writable.
    Writes,
    /// Continue with [`Tls::resume`], after this was [computed](Computation::run) on another thread.
    Computes(Box<Computation>),
}

/// Bytes of a client's handshake that are not processed yet.
pub(crate) struct Computation(ServerConnection);

/// Result of a [`Computation`].
pub(crate) struct Computed {
    connection: ServerConnection,
    result: Result<(), Error>,
}

impl Computation {
    /// Processes the client's bytes: up to a millisecond of public-key cryptography.
    pub(crate) fn run(mut self) -> Computed {
        let result = self.0.process_new_packets().map(drop);
        Computed { connection: self.0, result }
    }
}

impl fmt::Debug for Computation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computation").finish_non_exhaustive()
    }
}

/// Error of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// The client has closed the connection.
    Gone,
    /// TLS has failed; with the reason for the log. The alert for the client was written.
    Failed(&'static str),
}

impl Tls {
    /// Creates a session before its handshake.
    ///
    /// # Errors
    ///
    /// The configuration cannot be used.
    pub(super) fn new(below: Socket, server: Arc<ServerTls>) -> Result<Self, Error> {
        let connection = Some(ServerConnection::new(server.config())?);
        let state = TlsState {
            connection,
            first: None,
            violation: None,
            ends_when_sent: false,
            may_have_more: false,
            discarded: 0,
        };
        Ok(Self { below, server, state: Mutex::new(state) })
    }

    /// Continues the handshake as far as possible without waiting or computing.
    ///
    /// # Errors
    ///
    /// The handshake has failed.
    pub(crate) fn try_handshake(&self) -> Result<TlsStep, HandshakeError> {
        let gone = |_| HandshakeError::Gone;
        let mut state = self.state.lock();
        if !state.flush(&self.below).map_err(gone)? {
            return Ok(TlsStep::Writes);
        }
        let TlsState { connection, first, .. } = &mut *state;
        let Some(mut reading) = connection.take_if(|connection| connection.is_handshaking()) else {
            return Ok(TlsStep::Done);
        };
        let read = reading.read_tls(&mut Below { socket: &self.below, first });
        match read {
            Ok(1..) => return Ok(TlsStep::Computes(Box::new(Computation(reading)))),
            _ => *connection = Some(reading),
        }
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(TlsStep::Reads),
            _ => Err(HandshakeError::Gone),
        }
    }

    /// Continues the handshake after a computation.
    ///
    /// # Errors
    ///
    /// The handshake has failed.
    pub(crate) fn resume(&self, computed: Computed) -> Result<(), HandshakeError> {
        let mut state = self.state.lock();
        state.connection = Some(computed.connection);
        match computed.result {
            Ok(()) => Ok(()),
            Err(error) => Err(HandshakeError::Failed(state.fail(&error, &self.below))),
        }
    }

    /// Returns the client's certificate chain, which was verified in the handshake.
    pub(crate) fn client_chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.state.lock().connection().peer_certificates().map(<[_]>::to_vec)
    }

    /// Returns why the client's certificate would not be accepted now; `None` if it would, or if there is none.
    pub(crate) fn distrust(&self) -> Option<&'static str> {
        let error = self.server.check_client(&self.client_chain()?).err()?;
        Some(client_failure(&error))
    }

    /// Reads until `buffer` is full or the socket is empty. Returns 0 at the end of the stream, with or without
    /// `close_notify`.
    pub(super) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.is_over() {
            return discard(&mut state.discarded, |buffer| self.below.try_read(&mut &mut buffer[..]));
        }
        state.may_have_more = false;
        let mut count = state.take_plaintext(buffer);
        for _ in 0..READS_PER_TURN {
            if !buffer.has_remaining_mut() {
                break;
            }
            match state.read(&self.below) {
                Ok(0) => return Ok(count),
                Ok(_) => count += state.take_plaintext(buffer),
                // Decrypted bytes come first, including those before a damaged record; the next call returns the error
                // again.
                Err(error) => {
                    count += state.take_plaintext(buffer);
                    return if count > 0 { Ok(count) } else { Err(error) };
                }
            }
        }
        state.may_have_more = true;
        // The records had no plaintext: tried again after other ready tasks.
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    /// Encrypts bytes up to the limit, if the socket has accepted all earlier ones.
    pub(super) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        if !state.flush(&self.below)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for piece in pieces {
            let part = &piece[..piece.len().min(MAX_ENCRYPTED_BYTES - taken)];
            let count = state.connection().writer().write(part)?;
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        state.flush(&self.below)?;
        Ok(taken)
    }

    /// Returns whether to try another read, although the last one left room in its buffer.
    pub(super) fn may_have_more(&self) -> bool {
        self.state.lock().may_have_more
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.state.lock().connection.as_ref().is_some_and(|connection| connection.wants_write())
    }

    pub(super) fn try_flush(&self) -> io::Result<bool> {
        self.state.lock().flush(&self.below)
    }

    /// Polls for the socket to become readable, or for decrypted bytes to be available.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        if !state.is_over() && state.has_plaintext() {
            return Poll::Ready(Ok(()));
        }
        drop(state);
        self.below.poll_readable(cx)
    }

    pub(super) fn below(&self) -> &Socket {
        &self.below
    }

    /// Returns the TLS violation by which the stream has failed, if any.
    pub(super) fn violation(&self) -> Option<&'static str> {
        self.state.lock().violation
    }

    /// Sends `close_notify` and ends the writing. If the socket does not accept it, [`try_flush`](Self::try_flush)
    /// ends the writing.
    pub(super) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            let mut state = self.state.lock();
            if !state.ends_when_sent {
                state.ends_when_sent = true;
                // Before the end of the handshake there is nothing to close.
                if let Some(connection) = state.connection.as_mut().filter(|it| !it.is_handshaking()) {
                    connection.send_close_notify();
                }
            }
            let flushed = state.flush(&self.below);
            if how == Shutdown::Write && flushed.is_ok() {
                return;
            }
        }
        self.below.shutdown(how);
    }
}

impl TlsState {
    /// Returns the connection, which is only missing during a handshake, when nothing reads or writes.
    fn connection(&mut self) -> &mut ServerConnection {
        self.connection.as_mut().expect("no step of a handshake is computed")
    }

    /// Returns whether nothing more will be read, even if bytes were decrypted: the stream has failed, and its end was
    /// sent.
    fn is_over(&self) -> bool {
        self.violation.is_some() && self.ends_when_sent
    }

    /// Reads and decrypts once. Returns the number of bytes read from the socket, 0 at the end.
    fn read(&mut self, below: &Socket) -> io::Result<usize> {
        if self.violation.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let TlsState { connection, first, .. } = self;
        let connection = connection.as_mut().expect("no step of a handshake is computed");
        let count = connection.read_tls(&mut Below { socket: below, first })?;
        if let Err(error) = connection.process_new_packets() {
            self.fail(&error, below);
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Sends answers of TLS; bytes that the socket does not accept are unsent.
        self.flush(below)?;
        Ok(count)
    }

    /// Ends the stream with an alert, if the socket accepts it. Returns the reason for the log.
    fn fail(&mut self, error: &Error, below: &Socket) -> &'static str {
        let violation = self.explain(error);
        self.violation = Some(violation);
        let _ = self.flush(below);
        violation
    }

    fn explain(&mut self, error: &Error) -> &'static str {
        let is_first = self.connection().is_handshaking();
        match (error, self.first) {
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Some(0x10)) if is_first => {
                "MQTT without TLS on a TLS listener"
            }
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Some(b'A'..=b'Z')) if is_first => {
                "HTTP without TLS on a TLS listener"
            }
            _ => client_failure(error),
        }
    }

    /// Writes encrypted bytes to the socket. Returns whether none are left.
    fn flush(&mut self, below: &Socket) -> io::Result<bool> {
        while let Some(connection) = self.connection.as_mut().filter(|connection| connection.wants_write()) {
            match connection.write_tls(&mut Below { socket: below, first: &mut None }) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ends_when_sent {
            below.shutdown(Shutdown::Write);
        }
        Ok(true)
    }

    /// Moves decrypted bytes to `buffer`, as far as it has room. Returns their number.
    fn take_plaintext(&mut self, buffer: &mut impl BufMut) -> usize {
        let mut taken = 0;
        let mut reader = self.connection().reader();
        while buffer.has_remaining_mut()
            && let Ok(plaintext) = reader.fill_buf()
            && !plaintext.is_empty()
        {
            let count = plaintext.len().min(buffer.remaining_mut());
            buffer.put_slice(&plaintext[..count]);
            reader.consume(count);
            taken += count;
        }
        taken
    }

    fn has_plaintext(&mut self) -> bool {
        self.connection().reader().fill_buf().is_ok_and(|plaintext| !plaintext.is_empty())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("below", &self.below).finish_non_exhaustive()
    }
}

/// Socket as a `Read` and `Write` for rustls.
struct Below<'a> {
    socket: &'a Socket,
    /// Set to the first byte read, if it is not set yet.
    first: &'a mut Option<u8>,
}

impl Read for Below<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.try_read(&mut &mut buffer[..])?;
        if count > 0 {
            self.first.get_or_insert(buffer[0]);
        }
        Ok(count)
    }
}

impl Write for Below<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
