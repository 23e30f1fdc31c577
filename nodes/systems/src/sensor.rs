//! `sensor`: publishes readings as plain text on topics of its own, and the last of each as a retained state event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use fastrand::Rng;
use parking_lot::Mutex;
use rantai_client::interface;
use rantai_client::object::{Answering, Call, Description, Doing, Emitter, Event, Object, Schemas};
use rantai_client::session::{Publish, QoS};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::MethodName;
use rantai_client::wire::topic::is_topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use rantai_nodes::kind::Output;
use rantai_nodes::kind::{Building, Configured, Kind};

/// Placeholder of the value in texts.
const VALUE: &str = "{value}";
/// Maximum number of quantities of one sensor.
const MAX_READINGS: usize = 64;
/// Maximum length of a text and of a printed line, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 10;
/// Allowed periods, in milliseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 10..=24 * 60 * 60 * 1000;
/// Integers that are exact as a double.
const EXACT: std::ops::RangeInclusive<i64> = -((1 << 53) - 1)..=(1 << 53) - 1;

/// Settings of a sensor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorSettings {
    /// Name the object is served under.
    pub name: String,
    /// Interval of the readings in milliseconds.
    pub period_ms: u64,
    /// Seed of the random values: equal seeds give equal values. `None` for a random seed.
    pub seed: Option<u64>,
    /// Quantities, in the order in which they are published.
    pub readings: Vec<Reading>,
}

/// Measured quantity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Name of the quantity and of its event.
    pub name: String,
    /// Topic that the text is published on.
    pub topic: String,
    /// Payload; `{value}` stands for the value.
    pub text: String,
    /// Text printed with each reading.
    pub line: String,
    /// Lowest value.
    pub min: i64,
    /// Highest value.
    pub max: i64,
}

/// Measured value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// The value.
    pub value: i64,
    /// Text that was published.
    pub text: String,
    /// Time in RFC 3339.
    pub time: String,
}

/// Sensor with several quantities.
#[interface(version = "1.0.0", tags("telemetry"))]
pub trait Sensor {
    /// Returns the latest value of each quantity; quantities without a value are left out.
    #[method(read_only)]
    async fn read(&self) -> Result<BTreeMap<String, Measured>, Fault>;
}

/// Implementation of [`Sensor`]. Its values are random, each between its `min` and its `max`.
#[derive(Clone)]
pub struct Probe {
    readings: Arc<[Reading]>,
    period: Duration,
    output: Output,
    rng: Arc<Mutex<Rng>>,
    last: Arc<Mutex<BTreeMap<String, Measured>>>,
}

impl Probe {
    /// Creates a sensor. Equal seeds give equal values.
    ///
    /// # Errors
    ///
    /// The reading or period is invalid; the text says why.
    pub fn new(
        readings: Vec<Reading>,
        period_ms: u64,
        seed: Option<u64>,
        output: Output,
    ) -> Result<Self, String> {
        if !PERIODS.contains(&period_ms) {
            return Err(format!("period_ms is {} to {}", PERIODS.start(), PERIODS.end()));
        }
        if readings.is_empty() || readings.len() > MAX_READINGS {
            return Err(format!("it has 1 to {MAX_READINGS} readings, not {}", readings.len()));
        }
        for (index, reading) in readings.iter().enumerate() {
            check(reading).map_err(|wrong| format!("reading {:?}: {wrong}", reading.name))?;
            if readings[..index].iter().any(|other| other.name == reading.name) {
                return Err(format!("reading {:?} stands there twice", reading.name));
            }
        }
        Ok(Self {
            readings: readings.into(),
            period: Duration::from_millis(period_ms),
            output,
            rng: Arc::new(Mutex::new(seed.map_or_else(Rng::new, Rng::with_seed))),
            last: Arc::default(),
        })
    }

    fn measure(&self, reading: &Reading) -> Measured {
        let value = self.rng.lock().i64(reading.min..=reading.max);
        let text = reading.text.replace(VALUE, &value.to_string());
        Measured { value, text, time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true) }
    }

    /// Publishes all readings in every period, until it is dropped.
    async fn publish(self, emitter: Emitter) {
        let mut ticks = interval(self.period);
        // Missed readings are skipped.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for reading in &*self.readings {
                let measured = self.measure(reading);
                (self.output)(&reading.line.replace(VALUE, &measured.value.to_string()));
                let plain = Publish::new(reading.topic.clone(), measured.text.clone());
                emitter.message(plain.qos(QoS::AtMostOnce));
                if let Err(fault) = emitter.state(&reading.name, &measured) {
                    tracing::warn!("{}: {fault}", reading.name);
                }
                self.last.lock().insert(reading.name.clone(), measured);
            }
        }
    }
}

impl Kind for SensorSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let (readings, output) = (self.readings.clone(), building.output.clone());
        let probe = Probe::new(readings, self.period_ms, self.seed, output)?;
        Ok(building.object(Telemetry::from(probe)).alone())
    }
}

fn check(reading: &Reading) -> Result<(), String> {
    let Reading { name, topic, text, line, min, max } = reading;
    MethodName::new(name).map_err(|error| error.to_string())?;
    if !is_topic(topic) {
        return Err(format!("{topic:?} is no topic to publish to"));
    }
    for (what, text) in [("text", text), ("line", line)] {
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!("{what} has more than {MAX_TEXT_BYTES} bytes"));
        }
        if !text.contains(VALUE) {
            return Err(format!("{what} has no {VALUE} in it"));
        }
    }
    if min > max {
        return Err(format!("min {min} is above max {max}"));
    }
    if !EXACT.contains(min) || !EXACT.contains(max) {
        return Err(format!("min and max are {} to {}", EXACT.start(), EXACT.end()));
    }
    Ok(())
}

impl Sensor for Probe {
    async fn read(&self) -> Result<BTreeMap<String, Measured>, Fault> {
        Ok(self.last.lock().clone())
    }
}

/// Object that serves a [`Probe`], with an event for each of its readings.
#[derive(Clone)]
pub struct Telemetry {
    probe: Probe,
    object: Arc<SensorObject<Probe>>,
}

impl From<Probe> for Telemetry {
    fn from(probe: Probe) -> Self {
        Self { object: Arc::new(SensorObject(probe.clone())), probe }
    }
}

impl Object for Telemetry {
    fn description(&self) -> Description {
        let schema = Schemas::default().of::<Measured>();
        let event = |name: &String| Event { name: name.clone(), schema: schema.clone(), state: true };
        let events = self.probe.readings.iter().map(|reading| event(&reading.name)).collect();
        Description { events, ..self.object.description() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        self.object.clone().call(call)
    }

    fn run(self: Arc<Self>, emitter: Emitter) -> Doing {
        Box::pin(self.probe.clone().publish(emitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::wire::name::{ObjectName, Root};

    fn reading(name: &str, min: i64, max: i64) -> Reading {
        Reading {
            name: name.to_owned(),
            topic: format!("sister/{name}"),
            text: "{value}°C".to_owned(),
            line: "Mengirim suhu: {value}°C".to_owned(),
            min,
            max,
        }
    }

    fn silent() -> Output {
        Arc::new(|_: &str| {})
    }

    fn values(seed: Option<u64>, min: i64, max: i64) -> Vec<i64> {
        let probe = Probe::new(vec![reading("temp", min, max)], 1_000, seed, silent()).expect("in order");
        (0..500).map(|_| probe.measure(&probe.readings[0]).value).collect()
    }

    #[test]
    fn sensor_values_are_integers_in_range_and_determined_by_the_seed() {
        let seen = values(Some(7), 20, 35);
        assert_eq!(seen, values(Some(7), 20, 35));
        assert_ne!(seen, values(Some(8), 20, 35));
        assert_ne!(values(None, 0, 1 << 50), values(None, 0, 1 << 50));
        let seen: std::collections::BTreeSet<i64> = seen.into_iter().collect();
        assert_eq!(seen, (20..=35).collect());
        assert!(values(None, 5, 5).iter().all(|value| *value == 5));
    }

    #[tokio::test(start_paused = true)]
    async fn each_period_has_every_reading_once_in_its_order() {
        let (lines, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let printed = lines.clone();
        let output: Output = Arc::new(move |line: &str| printed.lock().push(line.to_owned()));
        let both = vec![reading("temp", 20, 20), reading("humidity", 30, 30)];
        let probe = Probe::new(both, 1_000, None, output).expect("in order");
        let published = sent.clone();
        let publish = Arc::new(move |publish: Publish| published.lock().push(publish));
        let emitter = Emitter::new(Root::default(), ObjectName::new("sister").expect("a name"), publish);
        let running = tokio::spawn(probe.clone().publish(emitter));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        running.abort();
        let expected = ["Mengirim suhu: 20°C", "Mengirim suhu: 30°C"].repeat(3);
        assert_eq!(*lines.lock(), expected);
        let sent = std::mem::take(&mut *sent.lock());
        let topics: Vec<(&str, bool, QoS)> = sent.iter().map(|p| (&*p.topic, p.retain, p.qos)).collect();
        let (plain, state) = (QoS::AtMostOnce, QoS::AtLeastOnce);
        let once = [
            ("sister/temp", false, plain),
            ("rantai/event/sister/temp", true, state),
            ("sister/humidity", false, plain),
            ("rantai/event/sister/humidity", true, state),
        ];
        assert_eq!(topics, once.repeat(3));
        assert_eq!(sent[0].payload, "20°C");
        let measured: Measured = serde_json::from_slice(&sent[1].payload).expect("a value");
        assert_eq!((measured.value, &*measured.text), (20, "20°C"));
        let last = probe.read().await.expect("the last ones");
        assert_eq!(last.keys().collect::<Vec<_>>(), ["humidity", "temp"]);
    }

    #[test]
    fn invalid_sensor_settings_have_clear_errors() {
        let good = || reading("temp", 20, 35);
        let wrong = |readings: Vec<Reading>, period| {
            Probe::new(readings, period, None, silent()).err().expect("something is wrong")
        };
        for (readings, period, expected) in [
            (vec![], 1_000, "1 to 64 readings"),
            (vec![good(), good()], 1_000, "twice"),
            (vec![good()], 9, "period_ms is 10 to"),
            (vec![Reading { min: 36, ..good() }], 1_000, "min 36 is above max 35"),
            (vec![Reading { max: i64::MAX, ..good() }], 1_000, "min and max are"),
            (vec![Reading { topic: "sister/#".to_owned(), ..good() }], 1_000, "no topic"),
            (vec![Reading { topic: String::new(), ..good() }], 1_000, "no topic"),
            (vec![Reading { text: "warm".to_owned(), ..good() }], 1_000, "text has no {value}"),
            (vec![Reading { line: "x".repeat(1_025), ..good() }], 1_000, "line has more than 1024"),
            (vec![Reading { name: "a b".to_owned(), ..good() }], 1_000, "a b"),
        ] {
            let said = wrong(readings, period);
            assert!(said.contains(expected), "{said}");
        }
    }
}
