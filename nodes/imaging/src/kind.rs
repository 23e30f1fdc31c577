//! Imaging server as an object kind of nodes.toml.

use rantai_client::error_chain;
use rantai_nodes::kind::{Building, Configured, Kind};

use super::service::{ImagingObject, Server};
use super::settings::ImagingSettings;

impl Kind for ImagingSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        self.check()?;
        let server = Server::new(Self { folder: building.path(&self.folder), ..self.clone() });
        let object = ImagingObject(server.clone());
        let open = move || server.open().map_err(|error| error_chain(&error));
        Ok(building.object(object).alone().open_first(open))
    }
}
