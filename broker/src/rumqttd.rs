//! Feature `rumqttd`: runs the same configuration on rumqttd 0.20, as far as possible, for comparison.
//!
//! The engine serves one protocol version per port: MQTT 5 on the first address, 3.1.1 on every other. It stores
//! nothing, sets no `caller`, has one limit on messages in flight and one on payloads, and cannot be stopped: it runs
//! for as long as the process.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rumqttd::{ConnectionSettings, RouterConfig, ServerSettings};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::{Broker, Config, RunningEngine, StartError};

/// Maximum time until the engine accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn start(config: &Config) -> Result<Broker, StartError> {
    let checks_clients = config.access.is_some() || !config.users.is_empty() || !config.anonymous;
    if config.data_dir.is_some() || checks_clients {
        let text = "it keeps nothing, lets everybody in, and knows neither records of passwords nor rules: remove \
                    data_dir, users, password_file, acl_file and anonymous";
        return Err(StartError::OtherEngine(text.to_owned()));
    }
    if let Some(listener) = config.listeners.first() {
        let text = format!("it takes `listen` alone: remove the listener on {}", listener.endpoint);
        return Err(StartError::OtherEngine(text));
    }
    let addresses = config.listen.iter().map(|&a| free_port(a)).collect::<Result<Vec<_>, _>>()?;
    let mut servers = addresses.iter().enumerate().map(|(index, &listen)| settings(config, index, listen));
    let settings = rumqttd::Config {
        router: RouterConfig {
            max_connections: config.limits.connections,
            max_outgoing_packet_count: 200,
            max_segment_size: 100 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v5: servers.next().map(|s| HashMap::from([(s.name.clone(), s)])),
        v4: Some(servers.map(|s| (s.name.clone(), s)).collect::<HashMap<_, _>>()).filter(|s| !s.is_empty()),
        ..rumqttd::Config::default()
    };
    let mut broker = rumqttd::Broker::new(settings);
    // Its `start` blocks forever, and reports addresses that it cannot bind only in its log.
    std::thread::Builder::new()
        .name("rumqttd".into())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!("rumqttd ended: {error}");
            }
        })
        .map_err(|error| StartError::OtherEngine(error.to_string()))?;
    for &address in &addresses {
        wait_until_it_accepts(address).await?;
    }
    Ok(Broker {
        addresses,
        damaged: None,
        monitor: None,
        administration: None,
        running: RunningEngine::Rumqttd,
    })
}

fn settings(config: &Config, index: usize, listen: SocketAddr) -> ServerSettings {
    let limits = &config.limits;
    ServerSettings {
        name: format!("{}-{index}", if index == 0 { "v5" } else { "v3" }),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: limits.connect_timeout.as_millis().try_into().unwrap_or(u16::MAX),
            max_payload_size: limits.packet_bytes as usize,
            max_inflight_count: usize::from(limits.in_flight),
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    }
}

/// Replaces port 0 with a free port, as the engine cannot report its port.
fn free_port(address: SocketAddr) -> Result<SocketAddr, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|source| StartError::Bind { address, source })
}

async fn wait_until_it_accepts(address: SocketAddr) -> Result<(), StartError> {
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > deadline {
            return Err(StartError::OtherEngine(format!("nothing answers on {address}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
