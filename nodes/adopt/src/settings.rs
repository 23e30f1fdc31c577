//! `[[adopt]]` of nodes.toml.

use std::path::PathBuf;

use rantai_client::object::Description;
use rantai_nodes::kind::{Building, Configured, Kind};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::description::check;
use crate::discover;
use crate::inline::{InlineEvent, InlineMethod};
use crate::object::{AdoptLimits, Adopted};

/// Settings of an adopted device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptSettings {
    /// Name that the object is served under, which the device's topics contain.
    pub name: String,
    /// File with the description, as `rpc.discover` returns it; in the place of the five fields below.
    pub discover: Option<PathBuf>,
    /// Description in one line.
    #[serde(default)]
    pub summary: String,
    /// Version of the object.
    #[serde(default)]
    pub version: String,
    /// Search tags.
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    methods: Vec<InlineMethod>,
    #[serde(default)]
    events: Vec<InlineEvent>,
    /// Maximum number of calls that the device has at one time.
    #[serde(default)]
    in_flight: Bounded<4, 1, 256>,
    /// Maximum number of calls that wait or are with the device.
    #[serde(default)]
    waiting: Bounded<64, 1, 65_536>,
    /// Maximum size of all requests that wait or are with the device, in bytes.
    #[serde(default)]
    waiting_bytes: Bounded<262_144, 1_024, 268_435_456>,
    /// Maximum size of one request to the device, in bytes.
    #[serde(default)]
    request_bytes: Bounded<16_384, 256, 1_048_576>,
    /// Maximum size of an answer or an event of the device, in bytes.
    #[serde(default)]
    answer_bytes: Bounded<65_536, 64, 1_048_576>,
    /// Maximum number of events that are passed on per second.
    #[serde(default)]
    events_per_s: Bounded<20, 1, 10_000>,
}

/// Integer from `MIN` to `MAX`; `DEFAULT` where it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounded<const DEFAULT: u64, const MIN: u64, const MAX: u64>(u64);

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> Default for Bounded<DEFAULT, MIN, MAX> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<'de, const DEFAULT: u64, const MIN: u64, const MAX: u64> Deserialize<'de>
    for Bounded<DEFAULT, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(bounded) if (MIN..=MAX).contains(&bounded) => Ok(Self(bounded)),
            _ => Err(D::Error::custom(format!(
                "{number} is out of range, expected an integer from {MIN} to {MAX}"
            ))),
        }
    }
}

impl AdoptSettings {
    fn description(&self, building: &Building<'_>) -> Result<Description, String> {
        let inline = Description {
            summary: self.summary.clone(),
            version: self.version.clone(),
            tags: self.tags.clone(),
            methods: self.methods.iter().map(InlineMethod::described).collect(),
            events: self.events.iter().map(InlineEvent::described).collect(),
            ..Description::default()
        };
        let Some(file) = &self.discover else {
            if inline.methods.is_empty() && inline.events.is_empty() {
                let text = "nothing says which methods it has; add `discover = \"FILE\"`, or a table [[adopt.methods]] for each";
                return Err(text.to_owned());
            }
            check(&inline)?;
            return Ok(inline);
        };
        if inline != Description::default() {
            let text = "it is described in `discover` and beside it; remove summary, version, tags, methods and events, or \
                        `discover`";
            return Err(text.to_owned());
        }
        let file = building.path(file);
        let described = discover::load(&file)?;
        check(&described).map_err(|wrong| format!("{}: {wrong}", file.display()))?;
        Ok(described)
    }
}

impl Kind for AdoptSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let description = self.description(building)?;
        let limits = AdoptLimits {
            in_flight: self.in_flight.0 as usize,
            waiting_bytes: self.waiting_bytes.0,
            request_bytes: self.request_bytes.0 as usize,
            answer_bytes: self.answer_bytes.0 as usize,
            events_per_s: self.events_per_s.0,
        };
        let adopted = Adopted::new(building.name.clone(), description, limits, building.calls.clone());
        let mut configured = building.object(adopted).concurrent(Some(self.waiting.0 as usize)).alone();
        configured.options.limits.result = limits.answer_bytes;
        Ok(configured)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use rantai_client::object::Calls;
    use rantai_client::wire::name::ObjectName;
    use rantai_nodes::kind::Output;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        adopt: Vec<AdoptSettings>,
    }

    fn built(text: &str, file: &Path) -> Result<Configured, String> {
        let File { adopt } = toml::from_str(text).map_err(|error| error.to_string())?;
        let output: Output = Arc::new(|_| {});
        let (name, calls) = (ObjectName::new(&adopt[0].name()).expect("a name"), Calls::default());
        adopt[0].build(&Building::new(name, &output, &calls, &file.display().to_string()))
    }

    fn refused(text: &str) -> String {
        built(text, Path::new("nodes.toml")).expect_err(text)
    }

    const LAMP: &str = r#"[[adopt]]
name = "lamp"
summary = "A lamp"
version = "1.0.0"
in_flight = 1
waiting = 8
answer_bytes = 1024

[[adopt.methods]]
name = "on"
params = [{ name = "level", required = true, schema = { type = "integer" } }, { name = "color" }]
result = { schema = { type = "null" } }
x-idempotent = true
x-time-limit-ms = 2000

[[adopt.events]]
name = "pressed"
schema = { type = "integer" }
state = true
"#;

    #[test]
    fn a_device_is_described_in_the_settings() {
        let configured = built(LAMP, Path::new("nodes.toml")).expect("in order");
        assert!(configured.alone);
        let limits = configured.options.limits;
        assert_eq!((limits.concurrent, limits.result), (8, 1_024));
        let description = configured.object.description();
        let method = &description.methods[0];
        assert!(method.idempotent && !method.read_only && method.time_limit_ms == Some(2_000));
        assert_eq!(method.params[0].schema, Some(serde_json::json!({"type": "integer"})));
        assert!(method.params[0].required && !method.params[1].required);
        assert!(description.events[0].state && description.summary == "A lamp");
    }

    #[test]
    fn a_device_is_described_in_a_file_beside_the_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let described = built(LAMP, Path::new("nodes.toml")).expect("in order").object.description();
        std::fs::write(folder.path().join("lamp.json"), described.open_rpc("lamp").to_string())
            .expect("written");
        let file = folder.path().join("nodes.toml");
        let text = "[[adopt]]\nname = 'lamp'\ndiscover = 'lamp.json'\n";
        assert_eq!(built(text, &file).expect("in order").object.description(), described);
        let both = format!("{text}version = '1'\n");
        assert!(built(&both, &file).expect_err("both").contains("remove summary, version"));
        std::fs::write(folder.path().join("lamp.json"), "{\"methods\": [\n  {\"name\" \"on\"}]}\n")
            .expect("written");
        let error = built(text, &file).expect_err("no JSON");
        assert!(
            error.contains("lamp.json:2:")
                && error.contains("2 |   {\"name\" \"on\"}]}\n")
                && error.contains('^'),
            "{error}"
        );
        std::fs::write(
            folder.path().join("lamp.json"),
            "{\"methods\": [{\"name\": \"on\", \"x-stream\": true}]}",
        )
        .expect("written");
        let error = built(text, &file).expect_err("a stream");
        assert!(error.contains("lamp.json: methods[0]") && error.contains("x-stream"), "{error}");
        std::fs::remove_file(folder.path().join("lamp.json")).expect("removed");
        assert!(built(text, &file).expect_err("no file").contains("cannot read"));
    }

    #[test]
    fn what_is_wrong_in_the_settings_is_shown_with_its_place() {
        for (was, is, line, told) in [
            ("in_flight = 1", "in_flight = 0", 5, "0 is out of range, expected an integer from 1 to 256"),
            ("waiting = 8", "wating = 8", 6, "unknown field `wating`"),
            ("name = \"on\"", "name = \"_on\"", 10, "\"_on\" cannot be called"),
            ("name = \"on\"", "name = \"rpc.on\"", 10, "\"rpc.on\" cannot be called"),
            ("name = \"on\"", "name = \"switch on\"", 10, "\"switch on\" is no method name"),
            ("{ type = \"integer\" } }, ", "7 }, ", 11, "expected a JSON Schema"),
            ("{ type = \"null\" }", "{ type = \"string\", format = \"binary\" }", 12, "base64"),
            ("x-idempotent = true", "x-stream = true", 13, "unknown field `x-stream`"),
            ("x-time-limit-ms = 2000", "x-time-limit-ms = 0", 14, "0 is out of range"),
            ("state = true", "state = 1", 19, "invalid type"),
        ] {
            let error = refused(&LAMP.replacen(was, is, 1));
            let place = format!("line {line}, column");
            assert!(error.contains(&place) && error.contains('^') && error.contains(told), "{is}: {error}");
        }
        assert!(refused("[[adopt]]\nname = 'lamp'\n").contains("add `discover = \"FILE\"`"));
        let twice = format!("{LAMP}\n[[adopt.methods]]\nname = 'on'\n");
        assert!(refused(&twice).contains("methods[1].name: \"on\" stands there twice"));
    }
}
