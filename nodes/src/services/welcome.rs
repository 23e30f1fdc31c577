//! `server`: the shop's welcome to whoever buys a book.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;

/// The shop where books are bought.
#[interface(version = "1.0.0", tags("library"))]
pub trait Welcome {
    /// Confirms that the book of this title is bought.
    #[method(idempotent, name = "welcomeMessage")]
    async fn welcome_message(&self, name: String) -> Result<String, Fault>;
}

/// The shop that is served.
#[derive(Clone, Debug)]
pub struct Shop {
    /// What it says; `{name}` stands for the title.
    pub text: String,
}

impl Welcome for Shop {
    async fn welcome_message(&self, name: String) -> Result<String, Fault> {
        Ok(self.text.replace("{name}", &name))
    }
}
