//! Broker on its own thread, which other work of the process does not delay.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rantai_broker::{BrokerThread, Config, StartError};

use crate::support::{Connect, Version, keep_to_tcp};

/// Returns whether the broker answers a client that uses no runtime.
fn is_answered(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has timeouts");
    stream.write_all(&Connect::new(Version::V3).encode()).expect("sent");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).is_ok() && connack == [0x20, 2, 0, 0]
}

#[test]
fn a_broker_thread_answers_while_the_callers_runtime_does_not_run() {
    let _tcp = keep_to_tcp("it is about the thread of the broker");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let broker = runtime.block_on(BrokerThread::start(Config::on_free_port())).expect("it starts");
    let address = broker.addresses()[0];
    assert!(is_answered(address));
    assert!(broker.local_credentials().is_some());
    let mut config = Config::on_free_port();
    config.listen = vec![address];
    let refused = runtime.block_on(BrokerThread::start(config)).expect_err("the port is in use");
    assert!(matches!(refused, StartError::Bind { .. }), "{refused}");
    runtime.block_on(broker.shutdown());
    assert!(!is_answered(address), "nobody listens there any more");
    // The broker also stops when it is dropped.
    let broker = runtime.block_on(BrokerThread::start(Config::on_free_port())).expect("it starts");
    let address = broker.addresses()[0];
    drop(broker);
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
}
