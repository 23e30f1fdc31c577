//! Proxy in front of a broker on TCP that terminates TLS, WebSocket or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Maximum length of a WebSocket message, in bytes, so that packets and messages have different boundaries.
const MAX_MESSAGE_BYTES: usize = 777;

/// Layers that a tunnel terminates.
#[derive(Clone, Debug)]
pub enum Layers {
    /// No layers, on TCP.
    Tcp,
    /// TLS.
    Tls(Arc<ServerConfig>),
    /// WebSocket, over TLS if there is a configuration for it.
    Web(Option<Arc<ServerConfig>>),
    /// No layers, on the unix socket at this path.
    Unix(PathBuf),
}

/// Running tunnel. It ends with all its connections on drop.
#[derive(Debug)]
pub struct Tunnel {
    address: Option<SocketAddr>,
    runtime: Option<Runtime>,
}

impl Tunnel {
    /// Starts a tunnel on a free port, or on the socket. It forwards connections to `broker`.
    ///
    /// # Errors
    ///
    /// The port or the socket cannot be bound.
    pub fn start(layers: Layers, broker: SocketAddr) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Does not wait, because the caller may be in another runtime.
        let context = runtime.enter();
        let mut address = None;
        if let Layers::Unix(path) = &layers {
            let listener = UnixListener::bind(path)?;
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(plain(stream, broker));
                }
            });
        } else {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            address = Some(listener.local_addr()?);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(terminate_layers(layers.clone(), stream, broker));
                }
            });
        }
        drop(context);
        Ok(Self { address, runtime: Some(runtime) })
    }

    /// Returns the port.
    ///
    /// # Panics
    ///
    /// Panics for a unix socket.
    pub fn port(&self) -> u16 {
        self.address.expect("it is on TCP").port()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn terminate_layers(layers: Layers, stream: TcpStream, broker: SocketAddr) -> io::Result<()> {
    match layers {
        Layers::Tcp | Layers::Unix(_) => plain(stream, broker).await,
        Layers::Tls(config) => plain(TlsAcceptor::from(config).accept(stream).await?, broker).await,
        Layers::Web(Some(config)) => web(TlsAcceptor::from(config).accept(stream).await?, broker).await,
        Layers::Web(None) => web(stream, broker).await,
    }
}

async fn to(broker: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(broker).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn plain(mut stream: impl AsyncRead + AsyncWrite + Unpin, broker: SocketAddr) -> io::Result<()> {
    copy_bidirectional(&mut stream, &mut to(broker).await?).await.map(|_| ())
}

async fn web(stream: impl AsyncRead + AsyncWrite + Unpin, broker: SocketAddr) -> io::Result<()> {
    #[expect(clippy::unnecessary_wraps, clippy::result_large_err, reason = "the callback's type is given")]
    fn subprotocol(
        _: &Request,
        mut answer: Response,
    ) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
        answer.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        Ok(answer)
    }
    let mut socket =
        tokio_tungstenite::accept_hdr_async(stream, subprotocol).await.map_err(io::Error::other)?;
    let mut broker = to(broker).await?;
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => broker.write_all(&bytes).await?,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            size = broker.read(&mut bytes) => match size? {
                0 => return socket.close(None).await.map_err(io::Error::other),
                size => {
                    // The client must answer the ping between its own messages.
                    socket.feed(Message::Ping(Bytes::new())).await.map_err(io::Error::other)?;
                    let message = Message::Binary(Bytes::copy_from_slice(&bytes[..size]));
                    socket.send(message).await.map_err(io::Error::other)?;
                }
            },
        }
    }
}
