//! Examination of nodes and of links of a chain.

use rantai_client::client::draw_id_of;
use rantai_client::environment::Environment;
use rantai_client::session::{Address, Filter};
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::topic::ReplyTopic;

use crate::cases::{Case, Level, Role, cases};
use crate::error::ExamineError;
use crate::placeholders::Placeholders;
use crate::registry::{Presented, Served, served};
use crate::steps::Run;
use crate::verdict::Verdict;
use crate::wire::Wire;

/// Target and options of an examination.
#[derive(Clone, Debug)]
pub struct Examination {
    pub(crate) address: Address,
    pub(crate) root: Root,
    pub(crate) object: ObjectName,
    level: Level,
    node: Option<ClientId>,
    only: Option<String>,
    prefix: String,
}

impl Examination {
    /// Creates an examination of an object at level `node`, with all cases.
    pub fn new(address: Address, root: Root, object: ObjectName) -> Self {
        Self { address, root, object, level: Level::Node, node: None, only: None, prefix: String::new() }
    }

    /// Sets the level; the cases of all lower levels are included.
    #[must_use]
    pub fn level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Selects one of several nodes that serve the object.
    #[must_use]
    pub fn at(self, node: ClientId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Selects the cases whose names contain this text.
    #[must_use]
    pub fn only(self, text: &str) -> Self {
        Self { only: Some(text.to_owned()), ..self }
    }

    /// Sets the prefix of a chain's objects: the rest of a name is that of the link, in messages and trails.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }

    /// Examines the node that serves the object, which must implement the interface of docs/protocol/cases. Calls
    /// `told` after each case, and returns all verdicts.
    ///
    /// # Errors
    ///
    /// The broker cannot be used, or the object is not served.
    pub async fn node(&self, told: impl FnMut(&Verdict)) -> Result<Vec<Verdict>, ExamineError> {
        let served = self.served().await?;
        if served.json_rpc && self.level != Level::Device {
            return Err(ExamineError::OnlyDevice { object: self.object.to_string() });
        }
        let is_wanted = |case: &Case| {
            case.level <= self.level
                && match case.form.as_deref() {
                    Some("plain") => !served.json_rpc,
                    Some(_) => served.json_rpc || self.level != Level::Device,
                    None => true,
                }
        };
        let cases = self.cases(Role::Node)?.into_iter().filter(is_wanted).collect();
        self.examine(cases, &served, None, told).await
    }

    /// Examines the link of a chain whose next link is `next`, which the examiner plays. Calls `told` after each case,
    /// and returns all verdicts.
    ///
    /// # Errors
    ///
    /// The broker cannot be used, or the object is not served.
    pub async fn chain(
        &self,
        next: &ObjectName,
        told: impl FnMut(&Verdict),
    ) -> Result<Vec<Verdict>, ExamineError> {
        let served = self.served().await?;
        self.examine(self.cases(Role::Chain)?, &served, Some(next), told).await
    }

    pub(crate) fn cases(&self, role: Role) -> Result<Vec<Case>, ExamineError> {
        let only = self.only.as_deref().unwrap_or_default();
        let found: Vec<Case> = cases(role).into_iter().filter(|case| case.name.contains(only)).collect();
        if found.is_empty() { Err(ExamineError::NoCase(only.to_owned())) } else { Ok(found) }
    }

    async fn served(&self) -> Result<Served, ExamineError> {
        let mut wire = Wire::connect(&self.address).await?;
        let served = served(&mut wire, &self.root, &self.object, self.node.as_ref()).await;
        wire.close().await;
        served
    }

    /// Returns the name of a link.
    fn link<'a>(&self, object: &'a str) -> &'a str {
        object.strip_prefix(&self.prefix).unwrap_or(object)
    }

    /// Runs each case on a connection of its own, so that late messages of one do not reach another.
    async fn examine(
        &self,
        cases: Vec<Case>,
        served: &Served,
        next: Option<&ObjectName>,
        mut told: impl FnMut(&Verdict),
    ) -> Result<Vec<Verdict>, ExamineError> {
        let mut verdicts = Vec::new();
        for case in cases {
            let (mut wire, presented) = match next {
                None => (Wire::connect(&self.address).await?, None),
                Some(next) => {
                    let (wire, presented) = self.present(next, None).await?;
                    (wire, Some(presented))
                }
            };
            let mut names = Placeholders::new(self.root.as_str(), self.object.as_str(), wire.id.as_str());
            names.set("node", served.node.as_str());
            let next_name = next.map_or("", |next| next.as_str());
            names.set("next", next_name);
            names.set("link", self.link(self.object.as_str()));
            names.set("next_link", self.link(next_name));
            names.set("epoch", &served.epoch);
            let (root, object) = (&self.root, &self.object);
            let events = match next {
                None => format!("{root}/event/{object}/+/{}", wire.id),
                Some(_) => format!("{root}/event/{object}/hop"),
            };
            let filters = [ReplyTopic::filter(root, &wire.id), events];
            wire.subscribe(filters.into_iter().map(|filter| Filter::new(filter).live()).collect()).await?;
            let mut run = Run {
                wire: &mut wire,
                names,
                json_rpc: served.json_rpc,
                refused: Vec::new(),
                next: presented.as_ref(),
            };
            let problem = run.steps(&case.steps).await;
            if let Some(presented) = presented {
                presented.disappear().await?;
            }
            wire.close().await;
            verdicts.push(Verdict::new(&case, problem));
            told(&verdicts[verdicts.len() - 1]);
        }
        Ok(verdicts)
    }

    /// Connects as a node and serves an object there.
    pub(crate) async fn present(
        &self,
        object: &ObjectName,
        form: Option<String>,
    ) -> Result<(Wire, Presented), ExamineError> {
        let (node, epoch) =
            (draw_id_of(self.address.user(), "conform", &Environment::default()), Presented::epoch());
        let will = Presented::will(&self.root, &node, &epoch);
        let wire = Wire::connect_as_node(&self.address, node, will).await?;
        let presented = Presented::new(&self.root, object, &wire, epoch, form);
        presented.appear().await?;
        Ok((wire, presented))
    }
}
