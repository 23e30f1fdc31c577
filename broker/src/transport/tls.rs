//! TLS above a socket. What is encrypted and not taken by the socket is bounded: as long as there is any, nothing more is
//! encrypted.

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

/// Bytes that are encrypted before they are handed to the socket.
const ENCRYPTED_AT_ONCE: usize = 64 << 10;
/// Reads of the socket before the others get their turn, though nothing was decrypted: each is of 4 KiB.
const READS_AT_ONCE: usize = 16;

/// One client's TLS: the server's side.
pub(crate) struct Tls {
    below: Socket,
    server: Arc<ServerTls>,
    state: Mutex<State>,
}

struct State {
    connection: ServerConnection,
    /// The first byte that the client has sent.
    first: Option<u8>,
    /// Why the stream has failed.
    violation: Option<&'static str>,
    /// The writing half of the socket ends when all is sent.
    ends_when_sent: bool,
    /// The last read has not met the end of what the socket held.
    may_have_more: bool,
    /// Bytes read that were of no use any more.
    discarded: usize,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// It goes on when the socket can be read.
    Reads,
    /// It goes on when the socket takes more.
    Writes,
}

/// Why a handshake does not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// The client is gone.
    Gone,
    /// TLS has failed: why, for the log. The alert that tells the client has been written.
    Failed(&'static str),
}

impl Tls {
    /// Before its handshake.
    ///
    /// # Errors
    ///
    /// The configuration cannot be used.
    pub(super) fn new(below: Socket, server: Arc<ServerTls>) -> Result<Self, Error> {
        let connection = ServerConnection::new(server.config())?;
        let state = State {
            connection,
            first: None,
            violation: None,
            ends_when_sent: false,
            may_have_more: false,
            discarded: 0,
        };
        Ok(Self { below, server, state: Mutex::new(state) })
    }

    /// Takes the handshake as far as it goes without waiting. Costs up to a millisecond of arithmetic.
    ///
    /// # Errors
    ///
    /// The handshake has failed.
    pub(crate) fn try_handshake(&self) -> Result<Progress, HandshakeError> {
        let mut state = self.state.lock();
        loop {
            if !state.flush(&self.below).map_err(|_| HandshakeError::Gone)? {
                return Ok(Progress::Writes);
            }
            if !state.connection.is_handshaking() {
                return Ok(Progress::Done);
            }
            match state.read(&self.below) {
                Ok(0) => return Err(HandshakeError::Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Reads),
                Err(_) => return Err(state.violation.map_or(HandshakeError::Gone, HandshakeError::Failed)),
            }
        }
    }

    /// The certificate that the client has shown, with those of its issuers behind it; it was checked in the handshake.
    pub(crate) fn client_chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.state.lock().connection.peer_certificates().map(<[_]>::to_vec)
    }

    /// Why the client's certificate would not be let in now; none where it would, or there is none.
    pub(crate) fn distrust(&self) -> Option<&'static str> {
        let error = self.server.check_client(&self.client_chain()?).err()?;
        Some(client_failure(&error))
    }

    /// Reads until `buffer` is full or the socket empty; 0 at the end of the stream, with or without `close_notify`.
    pub(super) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.is_over() {
            return discard(&mut state.discarded, |buffer| self.below.try_read(&mut &mut buffer[..]));
        }
        state.may_have_more = false;
        let mut count = state.take_plaintext(buffer);
        for _ in 0..READS_AT_ONCE {
            if !buffer.has_remaining_mut() {
                break;
            }
            match state.read(&self.below) {
                Ok(0) => return Ok(count),
                Ok(_) => count += state.take_plaintext(buffer),
                // What was decrypted comes first, also what stood before a record that is damaged; the error is there again in
                // the next call.
                Err(error) => {
                    count += state.take_plaintext(buffer);
                    return if count > 0 { Ok(count) } else { Err(error) };
                }
            }
        }
        state.may_have_more = true;
        // Records without plaintext: to be tried again, after others that are ready.
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    /// Encrypts as much as may wait, once everything before it was taken by the socket.
    pub(super) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        if !state.flush(&self.below)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for piece in pieces {
            let part = &piece[..piece.len().min(ENCRYPTED_AT_ONCE - taken)];
            let count = state.connection.writer().write(part)?;
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        state.flush(&self.below)?;
        Ok(taken)
    }

    /// Whether another read is worth trying, though the last one left room in its buffer.
    pub(super) fn may_have_more(&self) -> bool {
        self.state.lock().may_have_more
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.state.lock().connection.wants_write()
    }

    pub(super) fn try_flush(&self) -> io::Result<bool> {
        self.state.lock().flush(&self.below)
    }

    /// Ready when the socket is, or something that was decrypted waits to be read.
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

    /// Why the stream has failed, where that was TLS.
    pub(super) fn violation(&self) -> Option<&'static str> {
        self.state.lock().violation
    }

    /// Says `close_notify` before the end of writing. Where the socket does not take that, [`try_flush`](Self::try_flush) ends
    /// the writing.
    pub(super) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            let mut state = self.state.lock();
            if !state.ends_when_sent {
                state.ends_when_sent = true;
                // There is nothing to close before the handshake has ended.
                if !state.connection.is_handshaking() {
                    state.connection.send_close_notify();
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

impl State {
    /// Whether nothing will be read of it any more, whatever was decrypted: it has failed, and the client has been told.
    fn is_over(&self) -> bool {
        self.violation.is_some() && self.ends_when_sent
    }

    /// Reads and decrypts once; returns the bytes of the socket, 0 at the end.
    fn read(&mut self, below: &Socket) -> io::Result<usize> {
        if self.violation.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = self.connection.read_tls(&mut Below { socket: below, first: &mut self.first })?;
        if let Err(error) = self.connection.process_new_packets() {
            self.violation = Some(self.explain(&error));
            // The alert: a client that does not take it is told nothing.
            let _ = self.flush(below);
            return Err(io::ErrorKind::InvalidData.into());
        }
        // What has to be answered; what the socket does not take is unsent.
        self.flush(below)?;
        Ok(count)
    }

    fn explain(&self, error: &Error) -> &'static str {
        let is_first = self.connection.is_handshaking();
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

    /// Hands what is encrypted to the socket; true when that was all.
    fn flush(&mut self, below: &Socket) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Below { socket: below, first: &mut None }) {
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

    /// Moves what is decrypted to `buffer`, as far as it has room.
    fn take_plaintext(&mut self, buffer: &mut impl BufMut) -> usize {
        let mut taken = 0;
        let mut reader = self.connection.reader();
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
        self.connection.reader().fill_buf().is_ok_and(|plaintext| !plaintext.is_empty())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("below", &self.below).finish_non_exhaustive()
    }
}

/// The socket, as rustls takes it.
struct Below<'a> {
    socket: &'a Socket,
    /// Is set to the first byte that is read, where none was before.
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
