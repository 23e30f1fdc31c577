//! Fuzz target: arbitrary bytes to a broker, in pieces of any size. An honest client must be answered afterwards.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rantai_broker::{Broker, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

static BROKER: LazyLock<(Runtime, SocketAddr)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let broker = runtime.block_on(Broker::start(Config::on_free_port())).expect("a broker");
    let address = broker.addresses()[0];
    // Leaked, because it is used until the process ends.
    std::mem::forget(broker);
    (runtime, address)
});

const CONNECT: &[u8] = b"\x10\x0D\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00";

/// Sends arbitrary bytes. The first byte decides whether CONNECT is sent before, and the size of the pieces.
async fn hostile(address: SocketAddr, bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let _ = stream.set_nodelay(true);
    if how & 1 == 1 && stream.write_all(CONNECT).await.is_err() {
        return;
    }
    for piece in rest.chunks(usize::from(how >> 1).max(1)) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
    let mut sink = Vec::new();
    // The broker closes the connection after the client has.
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut sink)).await.expect("the broker closes");
}

async fn honest(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    stream.write_all(CONNECT).await.expect("it reads");
    stream.write_all(&[0xC0, 0]).await.expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(&[0xD0, 0]) {
        let mut chunk = [0; 256];
        let count = timeout(Duration::from_secs(5), stream.read(&mut chunk)).await;
        let count = count.expect("it answers").expect("it is there");
        assert!(count > 0, "it closed on an honest client");
        answer.extend_from_slice(&chunk[..count]);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (runtime, address) = &*BROKER;
    runtime.block_on(async {
        hostile(*address, bytes).await;
        honest(*address).await;
    });
});
