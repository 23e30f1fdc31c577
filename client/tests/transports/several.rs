//! Several addresses, tried in order.

use rantai_client::session::{ConnectError, Filter, Publish, Status};
use rantai_client::{Client, error_chain};
use rantai_testing::{Authority, Layers};
use tokio::net::TcpListener;

use super::{HOSTS, address, broker, tunnel};

#[tokio::test]
async fn first_reachable_address_is_used_and_the_next_after_a_loss() {
    let authority = Authority::new("lab");
    let ((one, first), (_two, second)) = (broker().await, broker().await);
    let server = authority.issue(&HOSTS).server(None);
    let (plain, tls) = (tunnel(Layers::Tcp, first), tunnel(Layers::Tls(server), second));
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = nobody.local_addr().expect("bound");
    let list = format!("mqtt://{silent},mqtt://127.0.0.1:{},mqtts://localhost:{}", plain.port(), tls.port());
    let client = Client::builder(address(&list, &authority)).connect().await.expect("the second is there");
    let mut status = client.status();
    let mut messages = client.subscribe(vec![Filter::new("test/#")]).await.expect("subscribed");
    let at = |broker: std::net::SocketAddr| format!("mqtt://{broker}");
    let publish_at = async |url: String| {
        let other = Client::connect(&url).await.expect("a broker");
        other.publish(Publish::new("test/where", url)).await.expect("acknowledged");
    };
    publish_at(at(first)).await;
    assert_eq!(messages.next().await.expect("it comes").payload, at(first));

    // No server listens there any more, so that this takes no time.
    drop(nobody);
    drop(plain);
    drop(one);
    status.wait_for(|status| *status == Status::Online(2)).await.expect("it goes on");
    client.subscribe(vec![Filter::new("other")]).await.expect("the subscriptions are made again");
    publish_at(at(second)).await;
    assert_eq!(messages.next().await.expect("it comes").payload, at(second));
}

#[tokio::test]
async fn the_order_is_a_preference_at_every_reconnect() {
    let authority = Authority::new("lab");
    let (_broker, broker) = broker().await;
    let server = authority.issue(&HOSTS).server(None);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("mqtt.sock");
    let second = tunnel(Layers::Tls(server), broker);
    let list = format!("unix:{},mqtts://localhost:{}", socket.display(), second.port());
    let client = Client::builder(address(&list, &authority)).connect().await.expect("the second is there");
    let mut status = client.status();
    let first = tunnel(Layers::Unix(socket), broker);
    // Without the second broker the client must have tried the first, which is available now.
    drop(second);
    status.wait_for(|status| *status == Status::Online(2)).await.expect("it goes on");
    drop(first);
    status.wait_for(|status| *status == Status::Offline).await.expect("it was the first");
}

#[tokio::test]
async fn the_error_names_every_address_and_why() {
    let authority = Authority::new("lab");
    let (_broker, broker) = broker().await;
    let elsewhere = tunnel(Layers::Tls(authority.issue(&["pi.local"]).server(None)), broker);
    let port = elsewhere.port();
    let list = format!("unix:/no/socket,mqtts://localhost:{port},mqtt://127.0.0.1:{port}");
    let error = Client::builder(address(&list, &authority)).connect().await.expect_err("none can be used");
    let text = error_chain(&error);
    for told in [
        "none of 3 brokers can be used: cannot reach the broker at unix:/no/socket: No such file",
        &*format!("; no TLS connection to mqtts://localhost:{port}: its certificate is for pi.local"),
        &*format!("; mqtt://127.0.0.1:{port} answers by TLS; try mqtts://127.0.0.1:{port}"),
    ] {
        assert!(text.contains(told), "{text}");
    }
    assert!(matches!(&error, ConnectError::All { errors } if errors.len() == 3) && error.may_pass());
}
