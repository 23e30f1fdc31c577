//! Accepting connections, up to a limit in total and for each address.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rantai_client::error_chain;
use rantai_client::shares::{ShareLimits, Shares};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::frame::Version;
use crate::gateway::{Counts, GatewayState, Origin};
use crate::session;

/// Time after which the keep-alive of TCP asks whether the client is still there.
const ALIVE: Duration = Duration::from_mins(1);
/// Time limit for running calls after shutdown has begun.
const GRACE: Duration = Duration::from_secs(5);
/// Delay after a connection could not be accepted.
const AGAIN: Duration = Duration::from_millis(50);

/// Serves until `stop` is true, and then up to five seconds longer until running calls have ended.
pub(crate) async fn serve(
    gateway: Arc<GatewayState>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    let limits = gateway.limits;
    let room = Arc::new(Semaphore::new(limits.connections.get().min(Semaphore::MAX_PERMITS)));
    let addresses = [false, true].map(|is_here| {
        let address = if is_here { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([192, 0, 2, 1]) };
        Shares::new(ShareLimits { limit: u64::MAX, per_caller: Some(limits.connections_of(address)) })
    });
    let mut connections = JoinSet::new();
    let mut number = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Removes connections that have ended.
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                // Usually because of too many open files: waits until there are fewer.
                tracing::warn!("no connection was accepted: {error}");
                sleep(AGAIN).await;
                continue;
            }
        };
        let place = addresses[usize::from(peer.is_loopback())].take(&network(peer));
        let (Some(place), Ok(permit)) = (place, room.clone().try_acquire_owned()) else {
            Counts::one(&gateway.counts.turned_away);
            if gateway.refused.may_log(peer.to_string()) {
                tracing::warn!(
                    "a connection of {peer} was closed: there are as many as `limits` in [pyro] allows"
                );
            }
            continue;
        };
        number += 1;
        let (gateway, stop) = (gateway.clone(), stop.clone());
        connections.spawn(async move {
            gateway.counts.connections.fetch_add(1, Ordering::Relaxed);
            connection(&gateway, stream, peer, number, stop).await;
            gateway.counts.connections.fetch_sub(1, Ordering::Relaxed);
            drop((place, permit));
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(
    gateway: &Arc<GatewayState>,
    stream: TcpStream,
    peer: IpAddr,
    number: u64,
    stop: watch::Receiver<bool>,
) {
    let socket = SockRef::from(&stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ALIVE));
    let Ok(local) = stream.local_addr() else { return };
    // The version is that of the first message.
    let origin = Origin { version: Version::Five, connection: number, peer, local };
    let ended = match &gateway.tls {
        None => session::serve(gateway.clone(), stream, origin, stop).await,
        Some(tls) => {
            let handshake = timeout(gateway.limits.connect(), tls.acceptor().accept(stream)).await;
            match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => session::serve(gateway.clone(), stream, origin, stop).await,
                Err(error) => {
                    Counts::one(&gateway.counts.handshakes);
                    Err(error.into())
                }
            }
        }
    };
    if let Err(error) = ended {
        let is_of_client = session::count(&gateway.counts, &error);
        if is_of_client && gateway.refused.may_log(peer.to_string()) {
            tracing::warn!("closed a connection of {peer}: {}", error_chain(&error));
        } else {
            tracing::debug!(%peer, "{}", error_chain(&error));
        }
    }
}

/// Returns the network that an address is counted as: IPv6 addresses as their network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => IpAddr::V6(std::net::Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}
