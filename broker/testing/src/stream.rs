//! Connection that carries the same bytes over each transport.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::files::client_config;
use crate::frames::{Incoming, end_of_answer, framed, request};
use crate::place::{At, Place};

/// Source address of a connection, and the size of its receive buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// Source address, one of this machine's. Default: that of the broker.
    pub from: Option<IpAddr>,
    /// Size of the socket's receive buffer, in bytes. Default: the system's.
    pub receive_buffer: Option<u32>,
}

/// Connection to a broker, after the handshakes of its transport.
#[derive(Debug)]
pub struct Stream {
    bytes: Bytes,
    web: Option<Box<Web>>,
}

/// Stream below WebSocket.
#[derive(Debug)]
enum Bytes {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug, Default)]
struct Web {
    incoming: Incoming,
    /// Frames that are not written yet.
    out: Vec<u8>,
}

impl Place {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or not with this transport.
    pub async fn open(&self) -> io::Result<Stream> {
        self.open_from(Origin::default()).await
    }

    /// Connects from this origin.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    ///
    /// # Panics
    ///
    /// Panics if this machine does not have the source address, or if one is given for a unix socket.
    pub async fn open_from(&self, origin: Origin) -> io::Result<Stream> {
        let (socket, name) = match &self.at {
            At::Port(address) => {
                (Socket::Tcp(connect(*address, origin).await?), ServerName::from(address.ip()))
            }
            At::Socket(path) => {
                assert!(origin.from.is_none(), "a client of a unix socket has no address");
                (Socket::Unix(UnixStream::connect(path).await?), "localhost".try_into().expect("a name"))
            }
        };
        let bytes = if self.transport().uses_tls() {
            let connected = TlsConnector::from(client_config()).connect(name, socket).await?;
            Bytes::Tls(Box::new(connected))
        } else {
            Bytes::Plain(socket)
        };
        let mut stream = Stream { bytes, web: None };
        if self.transport().uses_web() {
            stream.upgrade(&self.address().to_string()).await?;
        }
        Ok(stream)
    }
}

async fn connect(address: SocketAddr, origin: Origin) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = origin.from {
        socket.bind(SocketAddr::new(from, 0)).unwrap_or_else(|error| panic!("cannot use {from}: {error}"));
    }
    if let Some(bytes) = origin.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Stream {
    async fn upgrade(&mut self, host: &str) -> io::Result<()> {
        self.bytes.write_all(request(host).as_bytes()).await?;
        self.bytes.flush().await?;
        let mut answer = Vec::new();
        let end = loop {
            if let Some(end) = end_of_answer(&answer).map_err(io::Error::other)? {
                break end;
            }
            if self.bytes.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let mut web = Web::default();
        web.incoming.feed(&answer[end..])?;
        self.web = Some(Box::new(web));
        Ok(())
    }

    /// Enables Nagle's algorithm, as most MQTT libraries leave it. Does nothing for a unix socket.
    ///
    /// # Errors
    ///
    /// The socket has failed.
    pub fn leave_nagle_on(&self) -> io::Result<()> {
        let socket = match &self.bytes {
            Bytes::Plain(socket) => socket,
            Bytes::Tls(stream) => stream.get_ref().0,
        };
        match socket {
            Socket::Tcp(stream) => stream.set_nodelay(false),
            Socket::Unix(_) => Ok(()),
        }
    }
}

impl Web {
    /// Writes the waiting frames, including answers to the server's frames.
    fn poll_write_out(&mut self, bytes: &mut Bytes, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.append(&mut self.incoming.answers);
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut *bytes).poll_write(context, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { bytes, web } = self.get_mut();
        let Some(web) = web else { return Pin::new(bytes).poll_read(context, buffer) };
        loop {
            if !web.incoming.answers.is_empty() {
                // A server that has closed the connection may not read the answer; its earlier bytes are still read.
                match web.poll_write_out(bytes, context) {
                    Poll::Ready(Ok(())) => drop(Pin::new(&mut *bytes).poll_flush(context)),
                    Poll::Ready(Err(_)) => web.out.clear(),
                    Poll::Pending => {}
                }
            }
            let room = buffer.initialize_unfilled();
            let count = web.incoming.take(room);
            if count > 0 || web.incoming.is_at_end() {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [0; 8 << 10];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *bytes).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            web.incoming.feed(read.filled())?;
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let Self { bytes, web } = self.get_mut();
        let Some(web) = web else { return Pin::new(bytes).poll_write(context, from) };
        ready!(web.poll_write_out(bytes, context))?;
        let (frame, count) = framed(from);
        web.out = frame;
        // Bytes that cannot be written now are written before the next frame, or by a flush.
        let _ = web.poll_write_out(bytes, context)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { bytes, web } = self.get_mut();
        if let Some(web) = web {
            ready!(web.poll_write_out(bytes, context))?;
        }
        Pin::new(bytes).poll_flush(context)
    }

    /// No close frame is sent: the connection ends as if it were lost.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().bytes).poll_shutdown(context)
    }
}

/// Forwards the methods of a stream to the variant that it is.
macro_rules! forward_to_variant {
    ($of:ident: $($variant:ident),+) => {
        impl AsyncRead for $of {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_read(context, buffer),)+
                }
            }
        }

        impl AsyncWrite for $of {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                from: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_write(context, from),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_flush(context),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_shutdown(context),)+
                }
            }
        }
    };
}

forward_to_variant!(Socket: Tcp, Unix);
forward_to_variant!(Bytes: Plain, Tls);
