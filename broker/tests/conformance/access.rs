//! Users and passwords. All these tests need a broker with settings of their own.

use rantai_broker::Config;

use crate::support::{Connect, Publish, Target, Version, subscribe, target_with, unique_topic};
use Version::{V3, V5};

fn with_a_user(config: &mut Config) {
    config.anonymous = false;
    config.users = vec![crate::support::user("ana", "right")];
}

async fn assert_code(target: &Target, connect: Connect, code: u8) {
    let (mut client, connack) = target.try_connect(connect).await;
    assert_eq!(connack.code, code);
    if code == 0 {
        client.assert_silent().await;
    } else {
        client.assert_ended().await;
    }
}

/// MQTT 5: [MQTT-3.1.4-2] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-4.13.2-1]
/// MQTT 3.1.1: [MQTT-3.2.2-4] [MQTT-3.2.2-5] [MQTT-3.2.2-6]
#[tokio::test]
async fn only_the_right_password_of_a_known_user_is_accepted() {
    let Some(target) = target_with(with_a_user).await else {
        return;
    };
    for (version, wrong) in [(V3, 4), (V5, 0x86)] {
        let login = |user: &str, password: &str| Connect::new(version).user(user).password(password);
        assert_code(&target, login("ana", "right"), 0).await;
        assert_code(&target, login("ana", "wrong"), wrong).await;
        assert_code(&target, login("ana", ""), wrong).await;
        assert_code(&target, login("bob", "right"), wrong).await;
        assert_code(&target, Connect::new(version).user("ana"), wrong).await;
    }
}

/// MQTT 5: [MQTT-3.1.4-2] [MQTT-3.2.2-6] [MQTT-3.2.2-7]
/// MQTT 3.1.1: [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[tokio::test]
async fn clients_without_a_name_are_refused_unless_anonymous_is_set() {
    let Some(target) = target_with(with_a_user).await else {
        return;
    };
    assert_code(&target, Connect::new(V3), 5).await;
    assert_code(&target, Connect::new(V5), 0x87).await;
    let open = |config: &mut Config| {
        with_a_user(config);
        config.anonymous = true;
    };
    let Some(target) = target_with(open).await else {
        return;
    };
    for version in Version::BOTH {
        assert_code(&target, Connect::new(version), 0).await;
    }
}

/// MQTT 5: [MQTT-3.1.4-6]
/// MQTT 3.1.1: [MQTT-3.1.4-5]
#[tokio::test]
async fn packets_after_a_refused_connect_are_not_handled() {
    let Some(target) = target_with(with_a_user).await else {
        return;
    };
    for version in Version::BOTH {
        let topic = unique_topic("secret");
        let login = Connect::new(version).user("ana");
        let mut client = target.open(version).await;
        let packets = [
            login.clone().password("wrong").encode(),
            Publish::new(&topic, "smuggled").retain().encode(version),
            subscribe(version, 1, &[(&topic, 0)]),
        ];
        client.send(&packets.concat()).await;
        client.next().await;
        client.assert_ended().await;
        let mut witness = target.connect(login.password("right")).await;
        witness.subscribe(&topic, 0).await;
        witness.assert_silent().await;
    }
}
