//! `[[listeners]]`: each lets in whom it says, and as many as it says.

use rantai_broker::{Config, Listener, User};

use crate::Own;
use crate::support::{Client, Connack, Connect, Version, Will, user};
use Version::{V3, V5};

fn on_free_port() -> Listener {
    Listener::tcp("127.0.0.1:0".parse().expect("an address"))
}

/// A broker with these users and listeners, the first of which is without settings of its own.
async fn with_listeners(users: Vec<User>, listeners: Vec<Listener>) -> Own {
    Own::start(|config: &mut Config| {
        config.anonymous = users.is_empty();
        config.users = users;
        config.listeners = listeners;
    })
    .await
}

/// What listener `number` says to a CONNECT.
async fn try_at(own: &Own, number: usize, connect: Connect) -> (Client, Connack) {
    let mut client = Client::open(own.broker.addresses()[number], connect.version).await;
    let connack = client.present(connect).await;
    (client, connack)
}

#[tokio::test]
async fn a_listener_is_for_its_users_alone() {
    let only_ada = Listener { users: Some(vec!["ada".to_owned()]), ..on_free_port() };
    let own = with_listeners(vec![user("ada", "a"), user("bob", "b")], vec![only_ada]).await;
    let bob = || Connect::new(V5).user("bob").password("b");
    assert_eq!(try_at(&own, 0, bob()).await.1.code, 0);
    assert_eq!(try_at(&own, 1, Connect::new(V5).user("ada").password("a")).await.1.code, 0);
    let hashed = own.broker.counts().hashed_passwords;
    for password in ["b", "wrong"] {
        let refused = try_at(&own, 1, bob().password(password)).await.1;
        assert_eq!(refused.code, 0x87);
        assert!(format!("{:?}", refused.properties).contains("connect by another one"), "{refused:?}");
    }
    assert_eq!(try_at(&own, 1, Connect::new(V3).user("bob").password("b")).await.1.code, 5);
    assert_eq!(own.broker.counts().hashed_passwords, hashed, "passwords for nothing are not checked");
    // The broker's own process is let in everywhere.
    let local = own.broker.local_credentials().expect("ours");
    let connect = Connect::new(V5).user(&local.user).password(&local.password);
    assert_eq!(try_at(&own, 1, connect).await.1.code, 0);
}

#[tokio::test]
async fn clients_without_a_user_are_let_in_where_the_listener_says_so() {
    let open = Listener { anonymous: Some(true), ..on_free_port() };
    let own = with_listeners(vec![user("ada", "a")], vec![open]).await;
    assert_eq!(try_at(&own, 0, Connect::new(V5)).await.1.code, 0x87);
    let will = Will::new("a/will", "gone");
    assert_eq!(try_at(&own, 1, Connect::new(V5).will(will)).await.1.code, 0, "with a will, too");

    let closed = Listener { anonymous: Some(false), ..on_free_port() };
    let own = Own::start(|config| {
        config.users = vec![user("ada", "a")];
        config.listeners = vec![closed];
    })
    .await;
    assert_eq!(try_at(&own, 0, Connect::new(V5)).await.1.code, 0);
    assert_eq!(try_at(&own, 1, Connect::new(V5)).await.1.code, 0x87);
}

#[tokio::test]
async fn a_listener_has_so_many_clients_and_others_have_theirs() {
    let small = Listener { connections: Some(2), ..on_free_port() };
    let own = with_listeners(Vec::new(), vec![small]).await;
    // Who has not logged in takes no place.
    let _silent =
        [(); 5].map(|()| std::net::TcpStream::connect(own.broker.addresses()[1]).expect("accepted"));
    let (first, connack) = try_at(&own, 1, Connect::new(V5)).await;
    assert_eq!(connack.code, 0);
    let (_second, connack) = try_at(&own, 1, Connect::new(V5)).await;
    assert_eq!(connack.code, 0);
    let refused = try_at(&own, 1, Connect::new(V5)).await.1;
    assert_eq!(refused.code, 0x89);
    assert!(format!("{:?}", refused.properties).contains("too many clients at this listener"), "{refused:?}");
    assert_eq!(try_at(&own, 1, Connect::new(V3)).await.1.code, 3);
    assert_eq!(own.broker.counts().refused_listener, 2);
    assert_eq!(try_at(&own, 0, Connect::new(V5)).await.1.code, 0);
    first.disconnect().await;
    while try_at(&own, 1, Connect::new(V5)).await.1.code != 0 {
        tokio::task::yield_now().await;
    }
}
