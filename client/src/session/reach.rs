//! From a place to a stream of bytes: TCP or a unix socket, then TLS, then WebSocket.

use std::io;

use rantai_tls::{ClientTls, TlsFiles, TlsProblem};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Place;
use super::error::ConnectError;
use super::stream::Stream;
use super::web::{Web, WebError};

/// What errors of a stream to one place mean.
pub(super) struct Errors {
    place: String,
    tls: Option<ClientTls>,
}

impl Errors {
    /// An error of reading or writing.
    pub(super) fn explain(&self, source: io::Error) -> ConnectError {
        let address = self.place.clone();
        let told = source.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
        match (&self.tls, told) {
            (Some(tls), Some(error)) => ConnectError::Tls { address, source: tls.explain(error) },
            _ => ConnectError::Unreachable { address, source },
        }
    }

    /// An error before TLS was agreed on.
    fn explain_handshake(&self, source: io::Error) -> ConnectError {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match source.kind() {
            BrokenPipe | ConnectionReset | UnexpectedEof => {
                ConnectError::Tls { address: self.place.clone(), source: TlsProblem::Closed }
            }
            _ => self.explain(source),
        }
    }
}

/// Connects. Calls `reached` as soon as somebody has answered at all.
pub(super) async fn reach(
    place: &Place,
    files: &TlsFiles,
    reached: impl FnOnce(),
) -> Result<(Stream, Errors), ConnectError> {
    let mut errors = Errors { place: place.to_string(), tls: None };
    let (host, port, tls, path) = match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| errors.explain(error))?;
            reached();
            return Ok((Stream::Unix(stream), errors));
        }
        Place::Network { host, port, tls, path } => (host, *port, *tls, path),
    };
    // Before anything is sent: a file that is missing is no fault of the broker.
    if tls {
        errors.tls = Some(ClientTls::new(files, host).map_err(ConnectError::TlsFiles)?);
    }
    let tcp = TcpStream::connect((&**host, port)).await.map_err(|error| errors.explain(error))?;
    reached();
    // A request is one small packet; it must not wait for the acknowledgement of the one before.
    tcp.set_nodelay(true).map_err(|error| errors.explain(error))?;
    let mut stream = match &errors.tls {
        None => Stream::Tcp(tcp),
        Some(tls) => {
            let connected = TlsConnector::from(tls.config()).connect(tls.server_name(), tcp).await;
            Stream::Tls(Box::new(connected.map_err(|error| errors.explain_handshake(error))?))
        }
    };
    if path.is_some() {
        let web = Web::open(stream, &errors.place).await.map_err(|error| match error {
            WebError::Io(error) => errors.explain(error),
            WebError::Refused(reason) => ConnectError::Web { address: errors.place.clone(), reason },
        })?;
        stream = Stream::Web(Box::new(web));
    }
    Ok((stream, errors))
}
