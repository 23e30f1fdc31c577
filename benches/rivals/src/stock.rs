//! MQTT clients with default settings, which do not disable Nagle's algorithm: paho and mqtt.js.

use std::path::Path;
use std::process::Command;

use rantai_load::failure::Failure;

use crate::load::{Outcome, Plan};
use crate::script::Script;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stock/");
/// Folder in which `.ci/packages` installs mqtt.js.
const NODE_MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/node/node_modules");

/// Client that calls `echo.echo`, one call after another.
pub(crate) struct Stock(Script);

impl Stock {
    pub(crate) fn paho(python: &Path) -> Result<Self, Failure> {
        Ok(Self(Script::start(Command::new(python).arg(format!("{SCRIPTS}paho_caller.py")))?))
    }

    pub(crate) fn mqttjs() -> Result<Self, Failure> {
        let mut command = Command::new("node");
        command.arg(format!("{SCRIPTS}mqttjs_caller.js")).env("NODE_PATH", NODE_MODULES);
        Ok(Self(Script::start(&mut command)?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub(crate) fn calls(&mut self, port: u16, qos: u8, plan: Plan) -> Result<Outcome, Failure> {
        self.0.calls(&format!("{port} {qos}"), plan)
    }
}
