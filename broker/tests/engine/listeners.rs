//! `[[listeners]]`: users and limits of each listener.

use std::sync::Arc;

use rantai_access::{Table, UserRecord};
use rantai_broker::{Broker, Config, Endpoint, Listener, StartError, User, WebSettings};

use crate::Own;
use crate::support::{Client, Connack, Connect, Version, Will, keep_to_tcp, user};
use Version::{V3, V5};

fn on_free_port() -> Listener {
    Listener::tcp("127.0.0.1:0".parse().expect("an address"))
}

/// Starts a broker with these users and listeners, after one without settings of its own.
async fn with_listeners(users: Vec<User>, listeners: Vec<Listener>) -> Own {
    Own::start(|config: &mut Config| {
        config.anonymous = users.is_empty();
        config.users = users;
        config.listeners = listeners;
    })
    .await
}

/// Connects at listener `number`, and returns the client and its CONNACK.
async fn connect_at(own: &Own, number: usize, connect: Connect) -> (Client, Connack) {
    let mut client = Client::open(own.broker.addresses()[number], connect.version).await;
    let connack = client.present(connect).await;
    (client, connack)
}

#[tokio::test]
async fn a_listener_admits_only_its_users() {
    let only_ada = Listener { users: Some(vec!["ada".to_owned()]), ..on_free_port() };
    let own = with_listeners(vec![user("ada", "a"), user("bob", "b")], vec![only_ada]).await;
    let bob = || Connect::new(V5).user("bob").password("b");
    assert_eq!(connect_at(&own, 0, bob()).await.1.code, 0);
    assert_eq!(connect_at(&own, 1, Connect::new(V5).user("ada").password("a")).await.1.code, 0);
    let hashed = own.broker.counts().hashed_passwords;
    for password in ["b", "wrong"] {
        let refused = connect_at(&own, 1, bob().password(password)).await.1;
        assert_eq!(refused.code, 0x87);
        assert!(format!("{:?}", refused.properties).contains("connect by another one"), "{refused:?}");
    }
    assert_eq!(connect_at(&own, 1, Connect::new(V3).user("bob").password("b")).await.1.code, 5);
    assert_eq!(own.broker.counts().hashed_passwords, hashed, "passwords for nothing are not checked");
    // The broker's own process is admitted at every listener.
    let local = own.broker.local_credentials().expect("ours");
    let connect = Connect::new(V5).user(&local.user).password(&local.password);
    assert_eq!(connect_at(&own, 1, connect).await.1.code, 0);
}

#[tokio::test]
async fn clients_without_a_user_are_admitted_by_the_listeners_setting() {
    let open = Listener { anonymous: Some(true), ..on_free_port() };
    let own = with_listeners(vec![user("ada", "a")], vec![open]).await;
    assert_eq!(connect_at(&own, 0, Connect::new(V5)).await.1.code, 0x87);
    let will = Will::new("a/will", "gone");
    assert_eq!(connect_at(&own, 1, Connect::new(V5).will(will)).await.1.code, 0, "with a will, too");

    let closed = Listener { anonymous: Some(false), ..on_free_port() };
    let own = Own::start(|config| {
        config.users = vec![user("ada", "a")];
        config.listeners = vec![closed];
    })
    .await;
    assert_eq!(connect_at(&own, 0, Connect::new(V5)).await.1.code, 0);
    assert_eq!(connect_at(&own, 1, Connect::new(V5)).await.1.code, 0x87);
}

#[tokio::test]
async fn clients_are_limited_per_listener() {
    let small = Listener { connections: Some(2), ..on_free_port() };
    let own = with_listeners(Vec::new(), vec![small]).await;
    // A connection without a login does not count.
    let _silent =
        [(); 5].map(|()| std::net::TcpStream::connect(own.broker.addresses()[1]).expect("accepted"));
    let (first, connack) = connect_at(&own, 1, Connect::new(V5)).await;
    assert_eq!(connack.code, 0);
    let (_second, connack) = connect_at(&own, 1, Connect::new(V5)).await;
    assert_eq!(connack.code, 0);
    let refused = connect_at(&own, 1, Connect::new(V5)).await.1;
    assert_eq!(refused.code, 0x89);
    assert!(format!("{:?}", refused.properties).contains("too many clients at this listener"), "{refused:?}");
    assert_eq!(connect_at(&own, 1, Connect::new(V3)).await.1.code, 3);
    assert_eq!(own.broker.counts().refused_listener, 2);
    assert_eq!(connect_at(&own, 0, Connect::new(V5)).await.1.code, 0);
    first.disconnect().await;
    while connect_at(&own, 1, Connect::new(V5)).await.1.code != 0 {
        tokio::task::yield_now().await;
    }
}

/// Retries until there is room: the places of disconnected clients are released shortly afterwards.
async fn connect_when_there_is_room(own: &Own, number: usize, connect: &Connect) -> Client {
    loop {
        let (client, connack) = connect_at(own, number, connect.clone()).await;
        if connack.code == 0 {
            return client;
        }
    }
}

/// A client whose connection broke reconnects before the broker has noticed the break.
#[tokio::test]
async fn a_takeover_is_possible_at_the_limit_of_clients() {
    let _tcp = keep_to_tcp("it connects to listeners of its own");
    let small = Listener { connections: Some(1), ..on_free_port() };
    let of_listener = with_listeners(Vec::new(), vec![small]).await;
    let of_all = Own::start(|config| config.limits.connections = 1).await;
    for (own, number) in [(&of_listener, 1), (&of_all, 0)] {
        for version in [V3, V5] {
            let full = if version == V5 { 0x89 } else { 3 };
            let sensor = Connect::new(version).id("sensor");
            let mut earlier = connect_when_there_is_room(own, number, &sensor.clone().persistent()).await;
            for _ in 0..3 {
                let (client, connack) = connect_at(own, number, sensor.clone().persistent()).await;
                assert_eq!((connack.code, connack.session_present), (0, true));
                earlier.assert_refused(&[0x8E]).await;
                earlier = client;
                assert_eq!(connect_at(own, number, Connect::new(version).id("other")).await.1.code, full);
            }
            earlier.disconnect().await;
            connect_when_there_is_room(own, number, &Connect::new(version).id("other"))
                .await
                .disconnect()
                .await;
        }
    }
}

/// A client that may not take over a client id is not admitted by using it.
#[tokio::test]
async fn a_client_id_of_another_user_does_not_bypass_the_limit() {
    let small = Listener { connections: Some(1), ..on_free_port() };
    let mut table = Table::builder();
    for name in ["ada", "bob"] {
        table = table.user(UserRecord::new(name).expect("a name"));
    }
    let table = Arc::new(table.build().expect("a table"));
    let own = Own::start(|config: &mut Config| {
        config.users = vec![user("ada", "a"), user("bob", "b")];
        config.access = Some(table);
        config.limits.connections = 1;
        config.listeners = vec![small];
    })
    .await;
    let of = |user: &str, password: &str| Connect::new(V5).user(user).password(password).id("shared");
    let (mut ada, connack) = connect_at(&own, 1, of("ada", "a")).await;
    assert_eq!(connack.code, 0);
    assert_eq!(connect_at(&own, 1, of("bob", "b")).await.1.code, 0x85);
    ada.assert_silent().await;
    assert_eq!(connect_at(&own, 1, of("ada", "a")).await.1.code, 0);
}

/// Conflicts that the configuration file does not show: a flag has changed `listen`, or a folder has two names.
#[tokio::test]
async fn conflicting_listeners_are_both_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("same")).expect("a link");
    let sockets = ["mqtt.sock", "same/mqtt.sock"].map(|name| Listener {
        endpoint: Endpoint::Unix { path: folder.path().join(name), mode: None },
        ..on_free_port()
    });
    let listeners = sockets.to_vec();
    let started = Broker::start(Config { listeners, ..Config::on_free_port() }).await;
    let Err(StartError::Twice { first, second }) = started else { panic!("{started:?}") };
    assert!(first.starts_with("the unix listener on ") && first.ends_with("/mqtt.sock"), "{first}");
    assert!(second.ends_with("/same/mqtt.sock"), "{second}");

    for _ in 0..10 {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a free port");
        let web = Listener { web: Some(WebSettings::default()), ..Listener::tcp(address) };
        let config = Config { listen: vec![address], listeners: vec![web], ..Config::default() };
        match Broker::start(config).await {
            Err(StartError::Twice { first, second }) => {
                assert_eq!(first, format!("the tcp listener on {address}"));
                assert_eq!(second, format!("the ws listener on {address}"));
                return;
            }
            // Another program has taken the port in the meantime.
            Err(StartError::Bind { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("no free port stays free");
}
