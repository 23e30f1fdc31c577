//! Start of a broker that listens with the transport under test.

use rantai_broker::{Broker, Config, Endpoint, Engine, Listener, StartError, TlsSettings, WebSettings};
use rantai_testing::{Place, Transport, note_kept, server_files, socket_path};

/// Starts a broker that uses the transport of `RANTAI_TEST_TRANSPORT` for all TCP addresses of the configuration.
/// Listeners of a test's own stay unchanged, and so do the addresses beside them.
pub(crate) async fn start(config: Config) -> Result<(Broker, Place), StartError> {
    start_at(config, None).await
}

/// Same as [`start`], at the place of an earlier broker.
pub(crate) async fn start_again(config: Config, place: &Place) -> Result<(Broker, Place), StartError> {
    start_at(config, Some(place)).await
}

async fn start_at(mut config: Config, place: Option<&Place>) -> Result<(Broker, Place), StartError> {
    let transport = place.map_or_else(|| chosen_for(&config), Place::transport);
    let socket = (transport == Transport::Unix)
        .then(|| place.and_then(Place::path).map_or_else(socket_path, ToOwned::to_owned));
    if let Some(place) = place
        && socket.is_none()
    {
        config.listen = vec![place.address()];
    }
    if transport != Transport::Tcp {
        let listeners = config.listen.drain(..).map(|address| Listener {
            endpoint: match &socket {
                Some(path) => Endpoint::Unix { path: path.clone(), mode: None },
                None => Endpoint::Tcp(address),
            },
            tls: transport.uses_tls().then(tls),
            web: transport.uses_web().then(WebSettings::default),
            ..Listener::tcp(address)
        });
        config.listeners = listeners.collect();
    }
    let broker = Broker::start(config).await?;
    let place = match socket {
        Some(path) => Place::socket(path),
        None => Place::new(transport, broker.addresses()[0]),
    };
    Ok((broker, place))
}

fn chosen_for(config: &Config) -> Transport {
    if !config.listeners.is_empty() {
        note_kept("it has listeners of its own");
        return Transport::Tcp;
    }
    if config.engine != Engine::Rantai {
        note_kept("another engine than our own listens on TCP alone");
        return Transport::Tcp;
    }
    Transport::chosen()
}

fn tls() -> TlsSettings {
    let files = server_files();
    TlsSettings {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        additional_certificates: Vec::new(),
        client_ca: None,
        client_certificates: rantai_broker::ClientCertificates::None,
        user_from: rantai_broker::UserFrom::Cn,
        revocations: None,
    }
}
