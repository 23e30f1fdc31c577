//! The rumqttd engine runs the same configuration, as far as it supports it.
#![cfg(feature = "rumqttd")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rantai_broker::{Broker, Config, Engine, StartError};
use rantai_testing::{Connect, Version};

fn config() -> Config {
    Config { engine: Engine::Rumqttd, ..Config::on_free_port() }
}

#[tokio::test]
async fn a_client_of_version_5_is_accepted() {
    let broker = Broker::start(config()).await.expect("it starts");
    let mut stream = TcpStream::connect(broker.addresses()[0]).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    // rumqttd refuses a keep-alive of 0.
    let connect = Connect::new(Version::V5).id("a").keep_alive(60);
    stream.write_all(&connect.encode()).expect("sent");
    let mut ack = [0; 4];
    stream.read_exact(&mut ack).expect("CONNACK");
    assert_eq!((ack[0], ack[3]), (0x20, 0));
}

#[tokio::test]
async fn unsupported_settings_are_errors() {
    let with_store = Config { data_dir: Some("somewhere".into()), ..config() };
    let for_users_alone = Config { anonymous: false, ..config() };
    for config in [with_store, for_users_alone] {
        let error = Broker::start(config).await.expect_err("refused");
        assert!(matches!(error, StartError::OtherEngine(_)), "{error}");
    }
}
