//! Accepting connections, up to a limit and with time limits, and shutting them down.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rantai_client::shares::ShareLog;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::guard::{Caller, Counts, Guard};
use super::handshake::{HandshakeError, handshake};
use super::head;
use super::places::Places;
use super::proxies;
use super::settings::Limits;
use super::tls::{Tls, with_sources};
use super::unread::{Lingering, Unread};

/// Maximum size of the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Time limit for the client to acknowledge what was sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for open connections after shutdown has begun.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Binds a socket.
pub(super) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// State shared by all connections.
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) guard: Arc<Guard>,
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<Tls>>,
    places: Places,
    /// Log of clients whose TLS handshake failed.
    refused: ShareLog,
}

impl Serving {
    pub(super) fn new(router: Router, guard: Arc<Guard>, limits: Limits, tls: Option<Arc<Tls>>) -> Self {
        Self { router, guard, limits, tls, places: Places::new(&limits), refused: ShareLog::default() }
    }

    /// Serves until `stop` is true, and then up to five seconds longer until running requests have ended.
    pub(super) async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let serving = Arc::new(self);
        let most = serving.limits.connections.get().min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(most));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // Removes connections that have ended.
                Some(_) = connections.join_next() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually because of too many open files: waits until there are fewer.
                    tracing::warn!("no connection was accepted: {error}");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let counts = &serving.guard.counts;
            let Ok(place) = serving.places.connection(&serving.guard, peer.ip()) else { continue };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                Counts::one(&counts.turned_away);
                continue;
            };
            let (serving, stop) = (serving.clone(), stop.clone());
            connections.spawn(async move {
                serving.guard.counts.connections.fetch_add(1, Ordering::Relaxed);
                serving.connection(stream, peer, stop).await;
                serving.guard.counts.connections.fetch_sub(1, Ordering::Relaxed);
                drop((place, permit));
            });
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_TIMEOUT, ended).await.is_err() {
            connections.shutdown().await;
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_nodelay(true);
        // A client that does not read the response must not hold the connection forever.
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(SEND_TIMEOUT));
        let ended = match &self.tls {
            None => self.http(stream, peer, async { drop(stop.wait_for(|stop| *stop).await) }).await,
            Some(tls) => {
                let handshake = tokio::select! {
                    handshake = self.handshake(stream, peer, tls) => handshake,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let Some(stream) = handshake else { return };
                let client = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                let end = async {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => {}
                        () = tls.no_longer_takes(client) => {}
                    }
                };
                self.http(stream, peer, end).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, "{error}");
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        tls: &Tls,
    ) -> Option<TlsStream<TcpStream>> {
        let _place = self.places.handshake(&self.guard, peer.ip()).ok()?;
        let error = match timeout(self.limits.handshake(), handshake(stream, tls)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error,
            Err(_) => HandshakeError::Failed(io::ErrorKind::TimedOut.into()),
        };
        Counts::one(&self.guard.counts.handshakes);
        let caller = Caller::Address(proxies::network(peer.ip()));
        match (&error, error.refusal()) {
            (HandshakeError::PlainHttp, _) if self.refused.may_log(caller.to_string()) => {
                tracing::warn!("{caller} sent {error}, and was told so");
            }
            (_, Some(reason)) if self.refused.may_log(caller.to_string()) => {
                tracing::info!("refused the TLS handshake of {caller}: {reason}");
            }
            _ => tracing::debug!(%peer, "{}", with_sources(&error)),
        }
        None
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        end: impl Future<Output = ()>,
    ) -> hyper::Result<()> {
        let unread = Unread::default();
        let stream = Lingering::new(stream, unread.clone());
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let (mut head, body) = request.into_parts();
            let (router, body) = (router.clone(), unread.watch(body));
            async move {
                if let Err(malformed) = head::check(&mut head) {
                    Counts::one(&self.guard.counts.malformed);
                    return Ok(malformed.answer());
                }
                head.extensions.insert(ConnectInfo(peer));
                router.call(Request::from_parts(head, body)).await
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head())
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            () = end => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

#[cfg(test)]
mod tests;
