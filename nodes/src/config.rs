//! `nodes.toml`: which objects are served, and with which texts.

mod error;
mod list;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rantai_client::error_chain;
use rantai_client::files::interface::{LARGEST_BLOCK, SharedFilesObject};
use rantai_client::object::Unasked;
use rantai_client::wire::name::{ClientId, Root};
use serde::Deserialize;

pub use error::ConfigError;
use error::in_toml_words;
pub use list::{Configured, Open};

use list::{List, options};

use crate::calls::Calls;
use crate::chain::{self, Chain};
use crate::imaging::{self, ImagingObject};
use crate::services::Output;
use crate::services::calculator::{CalculatorObject, Exact};
use crate::services::clock::{ClockObject, Door};
use crate::services::echo::{EchoObject, Plain};
use crate::services::files::{Share, Sharing};
use crate::services::insult::{filter, notifier, service, store};
use crate::services::lending::{self, LendingObject};
use crate::services::pages::{self, PagesObject};
use crate::services::sensor::{self, Probe, Telemetry};
use crate::services::upcall::{self, Desk, UpcallObject};
use crate::services::welcome::{Shop, WelcomeObject};
use crate::tasks::Limits;

/// What stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name on the bus; a random one if there is none.
    pub node: Option<String>,
    /// The root of all topics, instead of `rantai`.
    pub root: Option<String>,
    /// Links of chains.
    #[serde(default)]
    pub chain: Vec<ChainLink>,
    /// Objects that answer with what they are given.
    #[serde(default)]
    pub echo: Vec<Simple>,
    /// Arithmetic.
    #[serde(default)]
    pub calculator: Vec<Simple>,
    /// Shops.
    #[serde(default)]
    pub welcome: Vec<Welcome>,
    /// Counters of pages.
    #[serde(default)]
    pub pages: Vec<Simple>,
    /// Checkouts.
    #[serde(default)]
    pub clock: Vec<Checkout>,
    /// Counters that lend books.
    #[serde(default)]
    pub lending: Vec<Library>,
    /// Shared folders.
    #[serde(default)]
    pub files: Vec<SharedFolder>,
    /// Sensors.
    #[serde(default)]
    pub sensor: Vec<sensor::Settings>,
    /// Servers that call their clients back.
    #[serde(default)]
    pub upcall: Vec<upcall::Settings>,
    /// What insult services know.
    #[serde(default)]
    pub insult_store: Vec<store::Settings>,
    /// Services that register insults.
    #[serde(default)]
    pub insult_service: Vec<service::Settings>,
    /// Services that take insults out of texts.
    #[serde(default)]
    pub insult_filter: Vec<filter::Settings>,
    /// Objects that call back with insults.
    #[serde(default)]
    pub insult_notifier: Vec<notifier::Settings>,
    /// Servers that give machines their disks.
    #[serde(default)]
    pub imaging: Vec<imaging::Settings>,
    /// By which its objects call others: whoever serves them says where the broker is.
    #[serde(skip)]
    pub calls: Calls,
    /// The ledger of tasks, if there is one.
    pub tasks: Option<TaskLedger>,
    /// REST, if it is wanted.
    #[cfg(feature = "gateway")]
    pub rest: Option<crate::gateway::settings::Rest>,
    /// SOAP, if it is wanted.
    #[cfg(feature = "gateway")]
    pub soap: Option<crate::gateway::settings::Soap>,
}

/// An object that needs no more than a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simple {
    /// The name it is served by.
    pub name: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// Calls that may wait at the same time.
    pub concurrent: Option<usize>,
}

/// A shop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The name it is served by.
    pub name: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// What it says; `{name}` is the title.
    pub text: String,
}

/// A checkout.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkout {
    /// The name it is served by.
    pub name: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// What the buyer is told; `{time}` stands for the time.
    pub text: String,
    /// What it prints; `{caller}` stands for who it was.
    pub sold: String,
}

/// A counter that lends books.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The name it is served by.
    pub name: String,
    /// The object that hands the books over.
    pub files: String,
    /// The words of a request; `{title}` stands for the title.
    pub request: String,
    /// What a borrower is told at the end.
    pub finished: String,
    /// The name that is suggested to borrowers.
    pub received: String,
    /// Where loans are written down.
    pub log: Option<PathBuf>,
    /// Title to file.
    pub books: BTreeMap<String, String>,
}

/// A ledger of tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLedger {
    /// Where tasks are stored; a relative path begins where the file of this configuration is.
    pub file: Option<PathBuf>,
    /// Tasks carried out at the same time; 64 without it.
    pub at_once: Option<NonZeroUsize>,
    /// Of one object; 32 without it.
    pub per_object: Option<NonZeroUsize>,
    /// Of these objects, instead of that.
    #[serde(default)]
    pub objects: BTreeMap<String, NonZeroUsize>,
    /// How long ended tasks are kept; 86,400 without it.
    pub kept_s: Option<u64>,
    /// Tasks that are kept, ended ones included; 1,000,000 without it.
    pub tasks: Option<u64>,
}

impl TaskLedger {
    /// How much it keeps, and does at the same time.
    pub fn limits(&self) -> Limits {
        let known = Limits::default();
        Limits {
            at_once: self.at_once.map_or(known.at_once, NonZeroUsize::get),
            per_object: self.per_object.map_or(known.per_object, NonZeroUsize::get),
            objects: self.objects.iter().map(|(name, most)| (name.clone(), most.get())).collect(),
            kept: self.kept_s.map_or(known.kept, Duration::from_secs),
            tasks: self.tasks.unwrap_or(known.tasks),
            ..known
        }
    }
}

/// A shared folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedFolder {
    /// The name it is served by.
    pub name: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// Which folder; a relative path begins where the file of this configuration is.
    pub folder: PathBuf,
    /// The most bytes all its files may have. Without it nothing may be written.
    pub quota_bytes: Option<u64>,
    /// In how many bytes at a time it is best read and written; 65,536 without it.
    pub block_bytes: Option<u32>,
}

/// A link of a chain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainLink {
    /// What stands before both names to make the objects' names.
    #[serde(default)]
    pub prefix: String,
    /// Its own name.
    pub name: String,
    /// The next link's name.
    pub next: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// Methods it answers to.
    #[serde(default = "process")]
    pub methods: Vec<String>,
    /// Links that a trip may pass before it is ended.
    pub trail: Option<usize>,
    /// What is printed when it is served.
    #[serde(default)]
    pub started: Option<String>,
    /// Its item in the result of a trip that goes on.
    pub passing: String,
    /// Its item in the result of a trip that ends.
    pub closing: String,
    /// What it prints when a trip goes on.
    #[serde(default)]
    pub passing_lines: Vec<String>,
    /// What it prints when a trip ends.
    #[serde(default)]
    pub closing_lines: Vec<String>,
}

fn process() -> Vec<String> {
    vec!["process".to_owned()]
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or says what it may not.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::from_toml(&text, &name),
            Err(source) => Err(ConfigError::Read { file: name, source }),
        }
    }

    /// Reads a text; `file` is for messages.
    ///
    /// # Errors
    ///
    /// What is no configuration, with line, column and a caret.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid { file: file.to_owned(), message };
        let config: Self =
            toml::from_str(text).map_err(|error| invalid(in_toml_words(&error).trim_end().to_owned()))?;
        config.node().map_err(|error| invalid(format!("node: {error}")))?;
        config.root().map_err(|error| invalid(format!("root: {error}")))?;
        config.objects(file, &(Arc::new(|_: &str| {}) as Output))?;
        #[cfg(feature = "gateway")]
        {
            let checked = config.rest.as_ref().map_or(Ok(()), crate::gateway::settings::Rest::check);
            checked.map_err(|error| invalid(format!("rest: {error}")))?;
            let checked = config.soap.as_ref().map_or(Ok(()), crate::gateway::settings::Soap::check);
            checked.map_err(|error| invalid(format!("soap: {error}")))?;
        }
        Ok(config)
    }

    /// The node's name.
    ///
    /// # Errors
    ///
    /// One that is none.
    pub fn node(&self) -> Result<Option<ClientId>, rantai_client::wire::name::NameError> {
        self.node.as_deref().map(ClientId::new).transpose()
    }

    /// The root of all topics.
    ///
    /// # Errors
    ///
    /// One that is none.
    pub fn root(&self) -> Result<Root, rantai_client::wire::name::NameError> {
        self.root.as_deref().map_or_else(|| Ok(Root::default()), Root::new)
    }

    /// The objects, which print to `output`.
    ///
    /// # Errors
    ///
    /// Names that are none, and names that stand there twice.
    pub fn objects(&self, file: &str, output: &Output) -> Result<Vec<Configured>, ConfigError> {
        let mut list = List::new(file);
        for link in &self.chain {
            let object = format!("{}{}", link.prefix, link.name);
            let next = format!("{}{}", link.prefix, link.next);
            let settings = chain::Settings {
                name: link.name.clone(),
                next: link.next.clone(),
                next_object: list.name(&next)?,
                methods: link.methods.clone(),
                passing: link.passing.clone(),
                closing: link.closing.clone(),
                passing_lines: link.passing_lines.clone(),
                closing_lines: link.closing_lines.clone(),
            };
            let mut options = options(link.replica, None);
            options.limits.trail = link.trail.unwrap_or(options.limits.trail);
            let started = link.started.as_ref().map(|t| t.replace("{name}", &link.name));
            list.add(&object, Arc::new(Chain::new(settings, output.clone())), options, started)?;
        }
        for Simple { name, replica, concurrent } in &self.echo {
            list.add(name, Arc::new(EchoObject(Plain)), options(*replica, *concurrent), None)?;
        }
        for Simple { name, replica, concurrent } in &self.calculator {
            list.add(name, Arc::new(CalculatorObject(Exact)), options(*replica, *concurrent), None)?;
        }
        for Welcome { name, replica, text } in &self.welcome {
            let object = WelcomeObject(Shop { text: text.clone() });
            list.add(name, Arc::new(object), options(*replica, None), None)?;
        }
        for Simple { name, replica, concurrent } in &self.pages {
            list.add(name, Arc::new(PagesObject(pages::Counter)), options(*replica, *concurrent), None)?;
        }
        for Checkout { name, replica, text, sold } in &self.clock {
            let door = Door { text: text.clone(), sold: sold.clone(), output: output.clone() };
            list.add(name, Arc::new(ClockObject(door)), options(*replica, None), None)?;
        }
        for Library { name, files, request, finished, received, log, books } in &self.lending {
            list.name(files)?;
            let counter = lending::Counter {
                request: request.clone(),
                finished: finished.clone(),
                files: files.clone(),
                received: received.clone(),
                books: books.clone(),
                log: log.as_ref().map(|log| beside(file, log)),
                writing: Arc::default(),
            };
            list.add(name, Arc::new(LendingObject(counter)), options(false, None), None)?;
        }
        for SharedFolder { name, replica, folder, quota_bytes, block_bytes } in &self.files {
            let known = Sharing::default();
            let sharing = Sharing { block: block_bytes.unwrap_or(known.block), quota: *quota_bytes };
            if !(1..=LARGEST_BLOCK).contains(&sharing.block) {
                return Err(list.wrong(name, &format!("block_bytes is 1 to {LARGEST_BLOCK}")));
            }
            let folder = beside(file, folder);
            let share = Share::new(&folder, sharing)
                .map_err(|error| list.wrong(name, &format!("folder {}: {error}", folder.display())))?;
            list.add(name, Arc::new(SharedFilesObject(share)), options(*replica, None), None)?;
        }
        for sensor::Settings { name, period_ms, seed, readings } in &self.sensor {
            let probe = Probe::new(readings.clone(), *period_ms, *seed, output.clone())
                .map_err(|wrong| list.wrong(name, &wrong))?;
            list.add_alone(name, Arc::new(Telemetry::from(probe)))?;
        }
        for upcall::Settings { name, replica, received, upcall, words } in &self.upcall {
            let (received, upcall) = (received.clone(), upcall.clone());
            let desk = Desk { received, upcall, words: words.clone(), output: output.clone() };
            list.add(name, Arc::new(UpcallObject(desk)), options(*replica, None), None)?;
        }
        for store::Settings { name, file: kept, room } in &self.insult_store {
            let lists = store::Lists::new(kept.as_ref().map(|kept| beside(file, kept)), *room);
            list.add_alone(name, Arc::new(store::InsultStoreObject(lists.clone())))?;
            let what = kept.as_ref().map(|kept| kept.display().to_string()).unwrap_or_default();
            list.open_first(move || {
                let said = |error| format!("cannot open {what}: {error}");
                lists.open().map_err(said)
            });
        }
        for settings in &self.imaging {
            settings.check().map_err(|wrong| list.wrong(&settings.name, &wrong))?;
            let settings = imaging::Settings { folder: beside(file, &settings.folder), ..settings.clone() };
            let server = imaging::Server::new(settings.clone());
            list.add_alone(&settings.name, Arc::new(ImagingObject(server.clone())))?;
            list.open_first(move || server.open().map_err(|error| error_chain(&error)));
        }
        for settings in &self.insult_service {
            list.name(&settings.store)?;
            let worker = service::Worker { settings: settings.clone(), calls: self.calls.clone() };
            let object = Arc::new(service::InsultServiceObject(worker));
            list.add(&settings.name, object, options(settings.replica, None), None)?;
        }
        for settings in &self.insult_filter {
            list.name(&settings.store)?;
            if settings.mask.len() > filter::LONGEST_MASK {
                let wrong = format!("mask has more than {} bytes", filter::LONGEST_MASK);
                return Err(list.wrong(&settings.name, &wrong));
            }
            let worker = filter::Worker::new(settings.clone(), self.calls.clone());
            let object = Arc::new(filter::InsultFilterServiceObject(worker));
            list.add(&settings.name, object, options(settings.replica, None), None)?;
        }
        for settings in &self.insult_notifier {
            list.name(&settings.store)?;
            let caller = notifier::Caller::new(settings.clone(), self.calls.clone())
                .map_err(|wrong| list.wrong(&settings.name, &wrong))?;
            let object = notifier::NotifierObject(caller.clone());
            let object = Unasked::new(object, move |emitter| caller.clone().go_on(emitter));
            list.add_alone(&settings.name, Arc::new(object))?;
        }
        Ok(list.objects)
    }
}

/// A relative path begins where the configuration is.
pub fn beside(file: &str, path: &Path) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::from_toml(text, "nodes.toml").expect_err(text).to_string()
    }

    #[test]
    fn the_files_that_come_with_it_are_in_order() {
        for (text, expected) in [
            (include_str!("../../config/nodes.toml"), 7),
            (include_str!("../../config/circular.toml"), 3),
            (include_str!("../../config/library.toml"), 9),
            #[cfg(feature = "gateway")]
            (include_str!("../../config/gateway.toml"), 1),
            (include_str!("../../config/telemetry.toml"), 1),
            (include_str!("../../config/upcall.toml"), 1),
            (include_str!("../../config/insult.toml"), 4),
            (include_str!("../../config/imaging.toml"), 1),
        ] {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/it.toml");
            let config = Config::from_toml(text, file).expect("in order");
            let objects = config.objects(file, &(Arc::new(|_: &str| {}) as Output)).expect("in order");
            assert_eq!(objects.len(), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_place() {
        let error = refused("[[echo]]\nname = \"echo\"\nreplicas = true\n");
        assert!(
            error.contains("line 3") && error.contains('^') && error.contains("unknown field"),
            "{error}"
        );
        let error = refused("[[echo]]\nname = \"a b\"\n");
        assert!(error.contains("\"a b\" is no object name"), "{error}");
        let error = refused("[[echo]]\nname = \"x\"\n[[calculator]]\nname = \"x\"\n");
        assert!(error.contains("twice"), "{error}");
        assert!(refused("node = \"a/b\"").contains("client id"));
        let sensor = "[[sensor]]\nname = \"s\"\nperiod_ms = 1000\nreadings = []\n";
        assert!(refused(sensor).contains("object \"s\": it has 1 to 64 readings"));
    }
}
