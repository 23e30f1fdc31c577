//! Callers use the registry if the broker does not tell them that nobody serves an object.

use std::time::Duration;

use rantai_client::object::Answer;
use rantai_client::session::QoS;
use rantai_client::wire::fault::Code;

use super::support::{PATIENCE, Run, bus};

#[tokio::test]
async fn call_at_qos_0_of_an_object_that_is_not_there_ends_before_its_deadline() {
    let bus = bus().await;
    let client = bus.client().await;
    let nobody = client.object("nobody").qos(QoS::AtMostOnce).deadline(PATIENCE * 3);
    let error =
        tokio::time::timeout(PATIENCE, nobody.call::<u8>("run", ())).await.expect("before its deadline");
    assert_eq!(error.expect_err("nobody is there").code(), Some(Code::UNKNOWN_OBJECT));
}

#[tokio::test]
async fn slow_call_at_qos_0_is_answered() {
    let bus = bus().await;
    let node = bus.node().await;
    let slow = Run(|_| async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Answer::value(&"done")
    });
    node.serve("slow", slow).await.expect("served");
    let client = bus.client().await;
    let slow = client.object("slow").qos(QoS::AtMostOnce);
    assert_eq!(slow.call::<String>("run", ()).await.expect("answered"), "done");
}
