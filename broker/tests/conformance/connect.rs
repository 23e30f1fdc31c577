//! CONNECT and CONNACK.

use crate::support::{Version, target};

/// MQTT 5: [MQTT-3.1.4-5]
#[tokio::test]
async fn accepted() {
    let target = target().await;
    for version in Version::BOTH {
        target.client(version).await.disconnect().await;
    }
}
