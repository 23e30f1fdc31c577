//! Sockets that accept.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::counters::Counters;
use crate::hub::Hub;
use crate::transport::Transport;

/// Connections the system holds until they are accepted.
const BACKLOG: i32 = 1_024;

/// Binds an address; port 0 takes a free one.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last owner is gone is free, though connections of his may linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the broker stops.
pub(crate) async fn accept(hub: Arc<Hub>, listener: TcpListener) {
    let mut stopping = hub.shared.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|&stop| stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                Counters::add(&hub.shared.counters.connections, 1);
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(peer = %address, "no TCP_NODELAY: {error}");
                }
                tokio::spawn(crate::handshake::accept(hub.clone(), Transport::Tcp(stream), address));
            }
            // Out of file descriptors, most likely: those that end make room.
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
