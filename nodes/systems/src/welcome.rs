//! `server`: the shop's welcome to whoever buys a book.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;
use serde::Deserialize;

use rantai_nodes::kind::{Building, Configured, Kind};

/// The shop where books are bought.
#[interface(version = "1.0.0", tags("library"))]
pub trait Welcome {
    /// Confirms that the book of this title is bought.
    #[method(read_only, name = "welcomeMessage")]
    async fn welcome_message(&self, name: String) -> Result<String, Fault>;
}

/// The shop that is served.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Text; `{name}` is the title.
    pub text: String,
}

impl Welcome for Shop {
    async fn welcome_message(&self, name: String) -> Result<String, Fault> {
        Ok(self.text.replace("{name}", &name))
    }
}

/// A shop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WelcomeSettings {
    /// The name it is served by.
    pub name: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// Text; `{name}` is the title.
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
