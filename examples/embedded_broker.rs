//! The broker as a part of a program: its settings, its data on disk, its counters, and plain MQTT beside the objects.
//!
//! `cargo run -p rantai --example embedded_broker`

use std::path::Path;

use rantai::broker::{Config, ReadingValue};
use rantai::{Broker, Client, Filter, Publish};

/// A broker whose sessions and retained messages are in this folder.
fn config(folder: &Path) -> Config {
    // On a free port of this machine. To listen beyond it, a broker needs users (see users_and_tls.rs).
    let mut config = Config { data_dir: Some(folder.join("data")), ..Config::on_free_port() };
    config.limits.packet_bytes = 64 << 10;
    config
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(config(folder.path())).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    println!("listening on {}", broker.addresses()[0]);

    // Any client of MQTT 3.1.1 or 5 may use it, on any topics. Here it is our own.
    let client = Client::connect(&address).await?;
    let mut readings = client.subscribe(vec![Filter::new("garden/+/temperature")]).await?;
    // Acknowledged once it is on disk: it is to be retained.
    client.publish(Publish::new("garden/north/temperature", "21.5").retain()).await?;
    let message = readings.next().await.expect("the client is connected");
    assert_eq!((&*message.topic, &*message.payload), ("garden/north/temperature", &b"21.5"[..]));
    println!("{}: {} °C", message.topic, String::from_utf8_lossy(&message.payload));

    // A limit is told to clients when they connect, so that they do not send in vain.
    let error = client.publish(Publish::new("garden/photo", vec![0; 100_000])).await.expect_err("too large");
    println!("{error}");

    // What the broker counts, as it publishes it below `$SYS/broker/` too.
    let readings = broker.monitor().expect("the broker's own engine").readings().await?;
    let retained = readings.all.iter().find(|reading| reading.name == "retained_messages");
    let retained = retained.expect("a reading of this name").value;
    assert_eq!(retained, ReadingValue::Gauge(1));
    println!("{retained} retained message, {} readings in all", readings.all.len());

    // Ends with everything on disk; the next start goes on from there.
    client.close().await;
    broker.shutdown().await;
    let broker = Broker::start(config(folder.path())).await?;
    let client = Client::connect(&format!("mqtt://{}", broker.addresses()[0])).await?;
    let mut readings = client.subscribe(vec![Filter::new("garden/#")]).await?;
    let message = readings.next().await.expect("the client is connected");
    assert!(message.retain && message.payload == "21.5");
    println!("after a restart: {} °C", String::from_utf8_lossy(&message.payload));
    Ok(())
}
