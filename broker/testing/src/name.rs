//! Names of clients and topics.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns a name that no other test uses, nor an earlier run on the same broker: 1 to 23 letters and digits, which
/// every server must accept as a client id [MQTT-3.1.3-5].
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{:x}n{number}", started.as_micros() & 0xFF_FFFF_FFFF)
}
