//! Relays whose connections fail according to a plan.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Counters of what relays have done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) connections: AtomicU64,
    pub(crate) delays: AtomicU64,
    pub(crate) slices: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) cuts: AtomicU64,
    pub(crate) resets: AtomicU64,
}

/// Whether relays do anything besides forwarding.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) fails: Arc<AtomicBool>,
    pub(crate) done: Arc<Done>,
}

enum End {
    /// The connection was closed.
    Closed,
    /// The connection was reset.
    Reset,
}

/// Starts a relay to this address; returns its port.
pub(crate) async fn relay(to: String, plan: Plan, number: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((client, _)) = listener.accept().await {
            connections += 1;
            plan.done.connections.fetch_add(1, Ordering::Relaxed);
            let seed =
                plan.seed.wrapping_mul(31).wrapping_add(number).wrapping_mul(1_009).wrapping_add(connections);
            let (plan, to) = (plan.clone(), to.clone());
            tokio::spawn(async move {
                // The broker may be away: the connection ends then.
                if let Ok(server) = TcpStream::connect(&to).await {
                    carry(client, server, &plan, fastrand::Rng::with_seed(seed)).await;
                }
            });
        }
    });
    port
}

async fn carry(client: TcpStream, server: TcpStream, plan: &Plan, mut random: fastrand::Rng) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (up, down) = (random.fork(), random.fork());
    let end = tokio::select! {
        end = pass(&mut from_client, &mut to_server, plan, up) => end,
        end = pass(&mut from_server, &mut to_client, plan, down) => end,
    };
    if matches!(end, End::Reset) {
        for (from, to) in [(from_client, to_client), (from_server, to_server)] {
            if let Ok(stream) = from.reunite(to) {
                let _ = stream.set_zero_linger();
            }
        }
    }
}

async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    plan: &Plan,
    mut random: fastrand::Rng,
) -> End {
    let mut bytes = vec![0; 16 << 10];
    let done = &plan.done;
    let count = |what: &AtomicU64| what.fetch_add(1, Ordering::Relaxed);
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return End::Closed };
        let mut rest = &bytes[..read];
        if plan.fails.load(Ordering::Relaxed) {
            match random.u32(0..10_000) {
                0..3 => {
                    count(&done.resets);
                    return End::Reset;
                }
                3..10 => {
                    count(&done.cuts);
                    // Writes a part of it at most, which leaves an incomplete packet.
                    let _ = to.write_all(&rest[..random.usize(0..read)]).await;
                    return End::Closed;
                }
                10..40 => {
                    count(&done.stalls);
                    sleep(Duration::from_millis(random.u64(200..1_500))).await;
                }
                40..400 => {
                    count(&done.delays);
                    sleep(Duration::from_millis(random.u64(1..60))).await;
                }
                400..1_400 => {
                    count(&done.slices);
                    for _ in 0..random.usize(1..5) {
                        let (slice, others) = rest.split_at(random.usize(0..=rest.len().min(64)));
                        if to.write_all(slice).await.is_err() {
                            return End::Closed;
                        }
                        rest = others;
                        tokio::task::yield_now().await;
                    }
                }
                _ => {}
            }
        }
        if to.write_all(rest).await.is_err() {
            return End::Closed;
        }
    }
}
