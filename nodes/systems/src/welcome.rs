//! `server`: welcomes the buyers of books.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;
use serde::Deserialize;

use rantai_nodes::kind::{Building, Configured, Kind};

/// Shop that sells books.
#[interface(version = "1.0.0", tags("library"))]
pub trait Welcome {
    /// Confirms the purchase of the book with this title.
    #[method(read_only, name = "welcomeMessage")]
    async fn welcome_message(&self, name: String) -> Result<String, Fault>;
}

/// Implementation of [`Welcome`].
#[derive(Clone, Debug)]
pub struct Shop {
    /// Text of the welcome; `{name}` is the title.
    pub text: String,
}

impl Welcome for Shop {
    async fn welcome_message(&self, name: String) -> Result<String, Fault> {
        Ok(self.text.replace("{name}", &name))
    }
}

/// Settings of a shop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WelcomeSettings {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Text of the welcome; `{name}` is the title.
    pub text: String,
}

impl Kind for WelcomeSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let shop = Shop { text: self.text.clone() };
        Ok(building.object(WelcomeObject(shop)).replica(self.replica))
    }
}
