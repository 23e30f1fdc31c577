//! The other engine runs the same configuration, as far as it goes.
#![cfg(feature = "rumqttd")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rantai_broker::{Broker, Config, Engine, StartError};

fn config() -> Config {
    Config { engine: Engine::Rumqttd, ..Config::on_free_port() }
}

#[tokio::test]
async fn it_lets_a_client_of_version_5_in() {
    let broker = Broker::start(config()).await.expect("it starts");
    let mut stream = TcpStream::connect(broker.addresses()[0]).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    // Clean start, a keep-alive of a minute (it refuses 0), client id `a`.
    stream.write_all(b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01a").expect("sent");
    let mut ack = [0; 4];
    stream.read_exact(&mut ack).expect("CONNACK");
    assert_eq!((ack[0], ack[3]), (0x20, 0));
}

#[tokio::test]
async fn what_it_cannot_do_is_an_error_and_not_left_out() {
    let with_store = Config { data_dir: Some("somewhere".into()), ..config() };
    let with_callers = Config { caller_topics: vec!["a/#".into()], ..config() };
    for config in [with_store, with_callers] {
        let error = Broker::start(config).await.expect_err("refused");
        assert!(matches!(error, StartError::OtherEngine(_)), "{error}");
    }
}
