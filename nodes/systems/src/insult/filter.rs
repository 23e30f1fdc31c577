//! `InsultFilterService`: replaces insults in texts.

use std::sync::Arc;

use parking_lot::RwLock;
use rantai_client::interface;
use rantai_client::object::{Context, passed_on};
use rantai_client::wire::fault::{Code, Fault};
use serde::Deserialize;

use super::censor::Censor;
use super::store::{InsultStoreProxy, Kept, Page};
use super::{MAX_ALL_BYTES, Texts, check};
use rantai_nodes::kind::{Building, Configured, Kind};

/// Placeholder of the text in configured texts.
const TEXT: &str = "{text}";
/// Maximum length of the replacement of an insult, in bytes.
pub const MAX_MASK_BYTES: usize = 64;

/// Settings of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSettings {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Name of the object that keeps the lists.
    pub store: String,
    /// Replacement of an insult.
    pub mask: String,
    /// Reply to a new text; `{text}` is the text.
    pub registered: String,
    /// Reply to a known text.
    pub known: String,
}

/// Removes insults from texts.
#[interface(version = "1.0.0", tags("insult"))]
pub trait InsultFilterService {
    /// Removes the insults from a text or a list of texts, and stores each new text; returns the reply for each.
    async fn add_text(&self, text: Texts, context: Context) -> Result<Vec<String>, Fault>;

    /// Returns the stored texts, in the order of their registration, as many as fit into one reply: those after the id
    /// `after`.
    #[method(read_only)]
    async fn get_texts(&self, after: Option<u64>, context: Context) -> Result<Vec<Kept>, Fault>;
}

/// Implementation of [`InsultFilterService`]: one of any number of replicas.
#[derive(Clone, Debug)]
pub struct Worker {
    settings: FilterSettings,
    known: Arc<RwLock<KnownInsults>>,
}

/// Insults from the beginning of the store's list, as far as they are known here.
#[derive(Debug, Default)]
struct KnownInsults {
    epoch: String,
    count: u64,
    censor: Censor,
}

impl KnownInsults {
    /// Adds the insults of a page that begins after the first `after`, unless another page has added them already.
    fn extend(&mut self, after: u64, page: &Page) {
        if self.epoch != page.epoch {
            // A new list replaces the known one.
            *self = Self { epoch: page.epoch.clone(), ..Self::default() };
        }
        if self.count == after {
            page.insults.iter().for_each(|insult| self.censor.add(insult));
            self.count += page.insults.len() as u64;
        }
    }
}

impl Worker {
    /// Creates a filter that knows no insults yet.
    pub fn new(settings: FilterSettings) -> Self {
        Self { settings, known: Arc::default() }
    }

    async fn store(&self, context: &Context) -> Result<InsultStoreProxy, Fault> {
        Ok(InsultStoreProxy::from(context.object(&self.settings.store).await?))
    }

    /// Returns the texts without the known insults, and the epoch and length of the list that they were compared with.
    fn censored(&self, given: &[String]) -> Result<(String, u64, Vec<String>), Fault> {
        let known = self.known.read();
        let mask = &self.settings.mask;
        let texts: Vec<String> = given.iter().map(|text| known.censor.censor(text, mask)).collect();
        if texts.iter().map(String::len).sum::<usize>() > MAX_ALL_BYTES {
            let text = format!("without insults the texts have more than {MAX_ALL_BYTES} bytes");
            return Err(Fault::new(Code::TOO_LARGE, text).with("limit", MAX_ALL_BYTES));
        }
        Ok((known.epoch.clone(), known.count, texts))
    }

    /// Fetches insults that are not known here, as many as fit into one reply.
    async fn catch_up(&self, store: &InsultStoreProxy) -> Result<(), Fault> {
        let after = self.known.read().count;
        let page = store.insults(after).await.map_err(|error| passed_on(&self.settings.store, error))?;
        self.known.write().extend(after, &page);
        Ok(())
    }
}

impl InsultFilterService for Worker {
    async fn add_text(&self, text: Texts, context: Context) -> Result<Vec<String>, Fault> {
        let given: Vec<String> = text.into();
        check(&given)?;
        while !context.time_left().is_zero() {
            let (epoch, count, texts) = self.censored(&given)?;
            let store = self.store(&context).await?;
            let new = store.add_texts(epoch, count, texts.clone()).await;
            let Some(new) = new.map_err(|error| passed_on(&self.settings.store, error))? else {
                // The store has insults that were not looked for.
                self.catch_up(&store).await?;
                continue;
            };
            let FilterSettings { registered, known, .. } = &self.settings;
            let answer = |new: &bool| if *new { registered } else { known };
            return Ok(texts.iter().zip(&new).map(|(text, new)| answer(new).replace(TEXT, text)).collect());
        }
        Err(Fault::new(Code::TIMED_OUT, "insults came faster than texts were looked through"))
    }

    async fn get_texts(&self, after: Option<u64>, context: Context) -> Result<Vec<Kept>, Fault> {
        let texts = self.store(&context).await?.texts(after.unwrap_or(0)).await;
        texts.map_err(|error| passed_on(&self.settings.store, error))
    }
}

impl Kind for FilterSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        building.other(&self.store)?;
        if self.mask.len() > MAX_MASK_BYTES {
            return Err(format!("mask has more than {MAX_MASK_BYTES} bytes"));
        }
        let worker = Worker::new(self.clone());
        Ok(building.object(InsultFilterServiceObject(worker)).replica(self.replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(epoch: &str, insults: &[&str]) -> Page {
        let insults: Vec<String> = insults.iter().map(|insult| (*insult).to_owned()).collect();
        Page { epoch: epoch.to_owned(), total: insults.len() as u64, insults }
    }

    #[test]
    fn pages_of_insults_are_added_once_and_from_one_list_only() {
        let mut known = KnownInsults::default();
        let (first, second) = (page("one", &["a", "b"]), page("one", &["c"]));
        known.extend(0, &first);
        known.extend(0, &first);
        known.extend(2, &second);
        known.extend(2, &second);
        assert_eq!(
            (&*known.epoch, known.count, &*known.censor.censor("a b c d", "-")),
            ("one", 3, "- - - d")
        );
        // Page of another list, whose first insults were not fetched.
        known.extend(3, &page("two", &["z"]));
        assert_eq!((&*known.epoch, known.count, &*known.censor.censor("a z", "-")), ("two", 0, "a z"));
        known.extend(0, &page("two", &["x"]));
        assert_eq!((known.count, &*known.censor.censor("a x", "-")), (1, "a -"));
    }
}
