//! Events: an object tells whoever listens what happens, and what its state is.
//!
//! `cargo run -p rantai --example events`

use std::sync::Mutex;

use rantai::broker::Config;
use rantai::{Broker, Client, Context, Fault, Node, interface};

// `event` is for those who listen at that moment. `state` is an event whose last value the broker keeps, so that whoever
// comes later gets it at once.
/// A tank with a float switch.
#[interface(event(alarm: String), state(level: u32))]
pub trait Tank {
    /// Adds water, in litres, and returns the new level.
    async fn fill(&self, litres: u32, context: Context) -> Result<u32, Fault>;
}

/// Volume of the tank, in litres.
const VOLUME: u32 = 100;

#[derive(Default)]
struct Cistern {
    level: Mutex<u32>,
}

impl Tank for Cistern {
    async fn fill(&self, litres: u32, context: Context) -> Result<u32, Fault> {
        // Generated with the interface: each of its events by name and type.
        let events = TankEmitter::from(&context);
        let level = {
            let mut level = self.level.lock().expect("no method panics");
            *level = level.saturating_add(litres);
            *level
        };
        events.level().set(&level.min(VOLUME))?;
        if level > VOLUME {
            events.alarm().emit(&format!("{} litres too much", level - VOLUME))?;
        }
        Ok(level.min(VOLUME))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let node = Node::connect(&address).await?;
    node.serve("tank", TankObject(Cistern::default())).await?;

    let client = Client::connect(&address).await?;
    let tank = TankProxy::new(&client, "tank");
    let mut alarms = tank.alarm_events().await?;
    let mut levels = tank.level_events().await?;

    assert_eq!(tank.fill(60).await?, 60);
    let level = levels.next().await.expect("the client is connected")?;
    assert_eq!(level.value, 60);
    println!("level: {} litres", level.value);

    assert_eq!(tank.fill(70).await?, 100);
    let level = levels.next().await.expect("the client is connected")?;
    let alarm = alarms.next().await.expect("the client is connected")?;
    assert_eq!((level.value, alarm.value.as_str()), (100, "30 litres too much"));
    println!("level: {} litres, alarm: {}", level.value, alarm.value);

    // Whoever subscribes now gets the last level, and none of the alarms before.
    let late = Client::connect(&address).await?;
    let late = TankProxy::new(&late, "tank");
    let mut levels = late.level_events().await?;
    let level = levels.next().await.expect("the client is connected")?;
    assert!(level.retained && level.value == 100);
    println!("who comes later knows too: {} litres", level.value);
    Ok(())
}
