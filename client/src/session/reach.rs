//! Opens byte streams to places: TCP or a unix socket, then TLS, then WebSocket.

use std::io;

use rantai_tls::{ClientTls, TlsFiles, TlsProblem};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use super::address::Place;
use super::dial::{DialError, dial};
use super::error::ConnectError;
use super::heard::{FirstBytes, Heard};
use super::mismatch::{Spoken, mismatch, without_tls};
use super::stream::Stream;
use super::tickets::Tickets;
use super::web::{Web, WebError};

/// Converts errors of a stream to one place.
pub(super) struct StreamErrors {
    place: String,
    tls: Option<ClientTls>,
}

impl StreamErrors {
    /// Converts an error of reading or writing.
    pub(super) fn explain(&self, source: io::Error) -> ConnectError {
        let address = self.place.clone();
        let told = source.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
        match (&self.tls, told) {
            (Some(tls), Some(error)) => ConnectError::Tls { address, source: tls.explain(error) },
            _ => ConnectError::Unreachable { address, source },
        }
    }

    /// Converts an error of the TLS handshake; `first` are the first bytes received by TCP.
    fn explain_handshake(&self, place: &Place, source: io::Error, first: &[u8]) -> ConnectError {
        let is_closed = is_closed(&source);
        // A peer that has sent TLS records does speak TLS.
        let spoken = if first.is_empty() { is_closed.then_some(Spoken::Nothing) } else { Spoken::of(first) };
        match without_tls(place, spoken) {
            Some(error) => error,
            None if is_closed => {
                ConnectError::Tls { address: self.place.clone(), source: TlsProblem::Closed }
            }
            None => self.explain(source),
        }
    }

    /// Converts an error of the WebSocket handshake; `first` are the first bytes received.
    fn explain_web(&self, place: &Place, error: WebError, first: &[u8]) -> ConnectError {
        let spoken = match &error {
            _ if !first.is_empty() => Spoken::of(first),
            WebError::Refused(_) => Some(Spoken::Nothing),
            WebError::Io(source) => is_closed(source).then_some(Spoken::Nothing),
        };
        let other = spoken.and_then(|spoken| mismatch(place, spoken));
        other.unwrap_or_else(|| match error {
            WebError::Io(error) => self.explain(error),
            WebError::Refused(reason) => ConnectError::Web { address: self.place.clone(), reason },
        })
    }
}

/// Returns whether the error means that the peer has closed the connection.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Connects, with the cached TLS configurations. Calls `reached` as soon as a server has answered at all.
pub(super) async fn reach(
    place: &Place,
    files: &TlsFiles,
    tickets: &Tickets,
    reached: impl FnOnce(),
) -> Result<(Stream, StreamErrors), ConnectError> {
    let mut errors = StreamErrors { place: place.to_string(), tls: None };
    let (host, port, tls, path) = match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| errors.explain(error))?;
            reached();
            return Ok((Stream::Unix(stream), errors));
        }
        Place::Embedded(broker) => {
            let stream = broker.0.connect().map_err(|error| errors.explain(error))?;
            reached();
            return Ok((Stream::Embedded(stream), errors));
        }
        #[cfg(test)]
        Place::Simulated(place) => {
            let stream = place.connect().await.map_err(|error| errors.explain(error))?;
            reached();
            return Ok((Stream::Simulated(stream), errors));
        }
        Place::Network { host, port, tls, path } => (host, *port, *tls, path),
    };
    // Read before anything is sent, because a missing file is not an error of the broker.
    if tls {
        errors.tls = Some(tickets.config(files, host).map_err(ConnectError::TlsFiles)?);
    }
    let tcp = dial(host, port).await.map_err(|error| match error {
        DialError::Unresolved(source) => ConnectError::Unresolved { host: host.clone(), source },
        DialError::Unreachable(source) => errors.explain(source),
    })?;
    reached();
    // A request is one small packet, which must not wait for the TCP acknowledgement of the previous one (Nagle's
    // algorithm).
    tcp.set_nodelay(true).map_err(|error| errors.explain(error))?;
    let mut stream = match &errors.tls {
        None => Stream::Tcp(tcp),
        Some(tls) => {
            let first = FirstBytes::default();
            let tcp = Heard::new(tcp, first.clone());
            let connected = TlsConnector::from(tls.config()).connect(tls.server_name(), tcp).await;
            let connected =
                connected.map_err(|error| errors.explain_handshake(place, error, &first.read()))?;
            Stream::Tls(Box::new(connected))
        }
    };
    if path.is_some() {
        let first = FirstBytes::default();
        let web = Web::open(Heard::new(stream, first.clone()), &errors.place).await;
        let web = web.map_err(|error| errors.explain_web(place, error, &first.read()))?;
        stream = Stream::Web(Box::new(web));
    }
    Ok((stream, errors))
}
