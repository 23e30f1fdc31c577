//! `InsultService`: registers insults.

use rantai_client::interface;
use rantai_client::object::{Context, passed_on};
use rantai_client::wire::fault::Fault;
use serde::Deserialize;

use super::store::{InsultStoreProxy, Page};
use super::{Texts, censor, check};
use rantai_nodes::kind::{Building, Configured, Kind};

/// Maximum length of an insult, in bytes.
const MAX_INSULT_BYTES: usize = 128;
/// Placeholder of the insult in texts.
const INSULT: &str = "{insult}";

/// Settings of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Name of the object that keeps the lists.
    pub store: String,
    /// Reply to a new insult; `{insult}` is the insult.
    pub registered: String,
    /// Reply to a known insult.
    pub known: String,
}

/// Registers insults.
#[interface(version = "1.0.0", tags("insult"))]
pub trait InsultService {
    /// Registers an insult or a list of insults, in lower case and without duplicates; returns the reply for each.
    async fn add_insult(&self, insult: Texts, context: Context) -> Result<Vec<String>, Fault>;

    /// Returns the insults, in the order of their registration, as many as fit into one reply: those after the first
    /// `after`.
    #[method(read_only)]
    async fn get_insults(&self, after: Option<u64>, context: Context) -> Result<Vec<String>, Fault>;
}

/// Implementation of [`InsultService`]: one of any number of replicas.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Settings.
    pub settings: ServiceSettings,
}

impl Worker {
    async fn store(&self, context: &Context) -> Result<InsultStoreProxy, Fault> {
        Ok(InsultStoreProxy::from(context.object(&self.settings.store).await?))
    }
}

impl InsultService for Worker {
    async fn add_insult(&self, insult: Texts, context: Context) -> Result<Vec<String>, Fault> {
        let given: Vec<String> = insult.into();
        check(&given)?;
        let insults = given.iter().enumerate().map(|(index, text)| registered(index, text));
        let insults = insults.collect::<Result<Vec<String>, Fault>>()?;
        let store = self.store(&context).await?;
        let new = store.add_insults(insults.clone()).await;
        let new = new.map_err(|error| passed_on(&self.settings.store, error))?;
        let ServiceSettings { registered, known, .. } = &self.settings;
        let text = |new: &bool| if *new { registered } else { known };
        Ok(insults.iter().zip(&new).map(|(insult, new)| text(new).replace(INSULT, insult)).collect())
    }

    async fn get_insults(&self, after: Option<u64>, context: Context) -> Result<Vec<String>, Fault> {
        let page = self.store(&context).await?.insults(after.unwrap_or(0)).await;
        let Page { insults, .. } = page.map_err(|error| passed_on(&self.settings.store, error))?;
        Ok(insults)
    }
}

/// Normalizes an insult for registration; fails if it has no word or is too long.
fn registered(index: usize, text: &str) -> Result<String, Fault> {
    let path = format!("insult[{index}]");
    let insult =
        censor::insult(text).ok_or_else(|| Fault::wrong_parameter(&path, "a text with a word in it"))?;
    if insult.len() > MAX_INSULT_BYTES {
        return Err(Fault::wrong_parameter(&path, &format!("a text of {MAX_INSULT_BYTES} bytes or fewer")));
    }
    Ok(insult)
}

impl Kind for ServiceSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        building.other(&self.store)?;
        let worker = Worker { settings: self.clone() };
        Ok(building.object(InsultServiceObject(worker)).replica(self.replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_invalid_insult() {
        assert_eq!(registered(0, " TONTO ").as_deref(), Ok("tonto"));
        assert_eq!(registered(3, "?!").expect_err("no word").data["path"], "insult[3]");
        assert!(registered(0, &"x".repeat(MAX_INSULT_BYTES)).is_ok());
        assert!(registered(0, &"x".repeat(MAX_INSULT_BYTES + 1)).is_err());
    }
}
