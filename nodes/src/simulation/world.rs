//! State of one seed: nodes that contest a name, their disturbances, and the promises to check.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::Environment;
use rantai_client::registry::View;
use rantai_client::session::Status;
use rantai_client::wire::entry::{Entry, Mode, NodeState, State};
use rantai_client::wire::name::{ClientId, Root};
use rantai_client::wire::topic::RegistryTopic;
use rantai_testing::Record;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::broker::{BrokerState, FakeBroker};
use super::odds::{Disturbance, Odds};
use super::{announcer, name};
use crate::announcer::{Announcer, draw_epoch, keep_announced};
use crate::dispatch::Served;
use crate::keeper::Keeper;
use crate::serving::{ServeError, ServeOptions};

const IDS: [&str; 4] = ["one", "two", "three", "four"];
/// Maximum time for which a node does not reach the broker, in milliseconds.
const MAX_PARTITION_MS: u64 = 60_000;
/// Maximum of the first delay before a node connects again, in milliseconds.
const FIRST_BACKOFF_MS: u64 = 125;
/// Minimum duration of a connection that resets the delay.
const STEADY: Duration = Duration::from_secs(1);
/// Time limit after the last disturbance for nodes with one id to push each other out, and for a name to find its
/// holder.
const CALM: Duration = Duration::from_mins(2);
/// Maximum time to replace a holder.
const REPLACEMENT: Duration = Duration::from_secs(10);
/// Maximum number of states with another epoch that another client writes: a node that sees many takes them for a node
/// with its id.
const MAX_FORGED: u32 = 2;

/// One start of a node.
struct Process {
    name: String,
    id: &'static str,
    announcer: Arc<Announcer>,
    served: Arc<Served>,
    /// Its claim, unless it was refused.
    keeper: Option<Keeper>,
    /// Result of its first claim.
    first: Option<oneshot::Receiver<Result<(), ServeError>>>,
    /// Withdrawal of its claim.
    stopping: Option<JoinHandle<()>>,
    /// Whether it was killed or drained, or has ended because another node has its id.
    is_over: bool,
}

pub(super) struct World {
    broker: Arc<FakeBroker>,
    chance: Environment,
    odds: Odds,
    record: Record,
    processes: Vec<Process>,
    forged: u32,
}

impl World {
    pub(super) fn new(chance: Environment, record: Record) -> Self {
        let odds = Odds::draw(&chance);
        let broker = FakeBroker::new(chance.clone(), odds.links, record.clone());
        let mut world = Self { broker, chance, odds, record, processes: Vec::new(), forged: 0 };
        for id in &IDS[..world.odds.ids] {
            world.start(id);
        }
        world
    }

    fn below(&self, end: u64) -> u64 {
        self.chance.random_below(end)
    }

    /// Chooses any matching process that is not over.
    fn any(&self, wanted: impl Fn(&Process) -> bool) -> Option<usize> {
        let live =
            self.processes.iter().enumerate().filter(|(_, process)| !process.is_over && wanted(process));
        let live: Vec<usize> = live.map(|(index, _)| index).collect();
        (!live.is_empty()).then(|| live[self.below(live.len() as u64) as usize])
    }

    /// Returns the starts of a node that are not over.
    fn live(&self, id: &str) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| process.id == id && !process.is_over)
    }

    /// Performs a disturbance drawn from the seed, after a pause.
    pub(super) async fn disturb(&mut self) {
        sleep(Duration::from_millis(1 + self.below(self.odds.longest_pause_ms))).await;
        self.look();
        self.record.event();
        let disturbance = self.odds.disturbance(&self.chance);
        match disturbance {
            Disturbance::Claim | Disturbance::Replace => {
                let is_idle = |process: &Process| {
                    process.keeper.is_none() && process.stopping.as_ref().is_none_or(JoinHandle::is_finished)
                };
                if let Some(index) = self.any(is_idle) {
                    self.claim(index, disturbance == Disturbance::Replace);
                }
            }
            Disturbance::Withdraw => {
                let Some(index) = self.any(|process| process.keeper.is_some()) else { return };
                self.record.reached("a claim is taken back");
                let process = &mut self.processes[index];
                process.first = None;
                let keeper = process.keeper.take().expect("it has one");
                process.stopping = Some(tokio::spawn(keeper.stop(Duration::from_secs(1))));
            }
            Disturbance::Start => {
                let gone: Vec<_> =
                    IDS[..self.odds.ids].iter().filter(|id| self.live(id).next().is_none()).collect();
                if !gone.is_empty() {
                    self.record.reached("a node is started again");
                    self.start(gone[self.below(gone.len() as u64) as usize]);
                }
            }
            Disturbance::Double => {
                let is_alone = |process: &Process| self.live(process.id).count() == 1;
                if let Some(index) = self.any(is_alone) {
                    self.record.reached("a node is started with the id of another one");
                    self.start(self.processes[index].id);
                }
            }
            Disturbance::Broker => {
                self.record.reached("the broker is killed");
                self.broker.restart();
            }
            Disturbance::Overwrite => self.overwrite(),
            Disturbance::Cut | Disturbance::Partition => {
                if let Some(index) = self.any(|_| true) {
                    self.lose(index, disturbance);
                }
            }
            Disturbance::Drain | Disturbance::Kill | Disturbance::Vanish => {
                // Of two nodes with one id, the other one may be about to end.
                let is_alone = |process: &Process| self.live(process.id).count() == 1;
                if let Some(index) = self.any(is_alone) {
                    self.lose(index, disturbance);
                }
            }
        }
    }

    /// Starts a node.
    fn start(&mut self, id: &'static str) -> usize {
        let name = format!("{id}.{}", self.processes.len());
        // Devices draw shorter epochs.
        let epoch = match self.below(3) {
            0 => format!("{:08x}", self.below(1 << 32)),
            _ => draw_epoch(&self.chance),
        };
        let (announcer, served) = announcer(&self.broker, &name, id, epoch);
        tokio::spawn(keep_announced(announcer.clone(), announcer.bus.status()));
        tokio::spawn(keep_connected(
            self.broker.clone(),
            name.clone(),
            self.chance.clone(),
            self.odds.longest_backoff_ms,
        ));
        self.processes.push(Process {
            name,
            id,
            announcer,
            served,
            keeper: None,
            first: None,
            stopping: None,
            is_over: false,
        });
        self.processes.len() - 1
    }

    fn claim(&mut self, index: usize, replace: bool) {
        let is_replica = self.odds.are_replicas;
        let mode = if is_replica { Mode::Replica } else { Mode::Exclusive };
        let process = &mut self.processes[index];
        self.broker.note(&format!("{} claims, {mode:?}, replace: {replace}", process.name));
        self.broker.state.lock().clients.get_mut(&process.name).expect("a client").is_replica = is_replica;
        let options = ServeOptions { mode, replace, ..ServeOptions::default() };
        let (announcer, served) = (process.announcer.clone(), process.served.clone());
        let (keeper, first) = Keeper::start(announcer.clone(), announcer.bus.status(), served, options);
        (process.keeper, process.first) = (Some(keeper), Some(first));
    }

    /// Ends a node or its link.
    fn lose(&mut self, index: usize, how: Disturbance) {
        let is_holder = self.broker.holders().contains(&self.processes[index].name);
        let silence = Duration::from_millis(self.below(MAX_PARTITION_MS));
        let process = &mut self.processes[index];
        match how {
            Disturbance::Cut => self.broker.cut(&process.name),
            Disturbance::Partition => {
                self.record.reached("a node does not reach the broker for a while");
                self.broker.cut_until(&process.name, Instant::now() + silence);
            }
            Disturbance::Vanish => {
                self.record.reached(if is_holder {
                    "a holder is killed without a will"
                } else {
                    "a node is killed without a will"
                });
                self.broker.vanish(&process.name);
                process.is_over = true;
            }
            Disturbance::Drain => {
                self.record.reached(if is_holder { "a holder is drained" } else { "a node is drained" });
                process.is_over = true;
                let (announcer, keeper) = (process.announcer.clone(), process.keeper.take());
                let (broker, name) = (self.broker.clone(), process.name.clone());
                tokio::spawn(drain(broker, name, announcer, keeper));
            }
            _ => {
                self.record.reached(if is_holder { "a holder is killed" } else { "a node is killed" });
                self.broker.kill(&process.name);
                process.is_over = true;
            }
        }
    }

    /// Writes on a topic of a node, as another client.
    fn overwrite(&mut self) {
        let id = IDS[self.below(self.odds.ids as u64) as usize];
        let id = ClientId::new(id).expect("an id");
        let node = self.broker.connected_as(id.as_str());
        let epoch = self.processes.iter().find(|process| Some(&process.name) == node.as_ref());
        let epoch = epoch.map_or_else(|| "0".to_owned(), |process| process.announcer.epoch.clone());
        let payload = match self.below(4) {
            0 => Vec::new(),
            1 => b"nonsense".to_vec(),
            2 if self.forged < MAX_FORGED => {
                self.forged += 1;
                NodeState::new(State::Ready, "00000000").write()
            }
            _ => NodeState::new(State::Lost, &epoch).write(),
        };
        let topic = match self.below(2) {
            0 => RegistryTopic::Node(id),
            _ => RegistryTopic::Name(name(), id),
        };
        self.record.reached("somebody else writes what a node has to say");
        self.broker.forge(&topic.format(&Root::default()), payload);
    }

    /// Checks the results of first claims, whether nodes have ended, and whether calls have reached several of them.
    fn look(&mut self) {
        let violations = self.broker.state.lock().violations.clone();
        assert!(violations.is_empty(), "calls reach several holders: {violations:?}");
        for process in self.processes.iter_mut().filter(|process| !process.is_over) {
            if let Some(Ok(first)) = process.first.as_mut().map(oneshot::Receiver::try_recv) {
                process.first = None;
                match first {
                    Ok(()) => self.record.reached("a name is claimed"),
                    Err(ServeError::Taken { .. }) => {
                        self.record.reached("a claim is refused, as another node holds the name");
                        process.keeper = None;
                    }
                    // The keeper has ended.
                    Err(_) => process.keeper = None,
                }
            }
            if matches!(self.broker.status(&process.name), Status::Ended(_)) {
                self.record.reached("a node ends, as another one has its id");
                process.is_over = true;
            }
        }
    }

    /// Checks what must be true once nothing has been disturbed for a while.
    pub(super) async fn check_end(&mut self) {
        self.broker.note("nothing is disturbed any more");
        self.broker.reach_all();
        for id in &IDS[..self.odds.ids] {
            if self.live(id).next().is_none() {
                self.start(id);
            }
        }
        sleep(CALM).await;
        self.look();
        for id in &IDS[..self.odds.ids] {
            let live: Vec<_> = self.live(id).map(|process| &process.name).collect();
            // One node may be told that the other one has its id, and that one have lost three connections for other
            // reasons.
            let may_be_none = self.odds.links.says_taken_over > 0;
            assert!(live.len() == 1 || (may_be_none && live.is_empty()), "with one id there are {live:?}");
        }
        let live: Vec<usize> =
            (0..self.processes.len()).filter(|index| !self.processes[*index].is_over).collect();
        for index in live {
            assert!(self.processes[index].first.is_none(), "nobody was told what a claim has come to");
            if self.processes[index].keeper.is_some() {
                continue;
            }
            self.claim(index, true);
            sleep(REPLACEMENT).await;
            self.look();
            let holders = self.check_holders();
            if !self.odds.are_replicas {
                assert_eq!(
                    holders,
                    [self.processes[index].name.clone()],
                    "it has asked to replace the holder"
                );
                self.record.reached("a holder is replaced");
            }
        }
        self.check_succession().await;
    }

    /// Ends a holder, and checks that another node takes the name.
    async fn check_succession(&mut self) {
        let before = self.check_holders();
        let waits = |process: &Process| process.keeper.is_some() && process.name != before[0];
        if self.any(waits).is_none() {
            return;
        }
        let how = [Disturbance::Kill, Disturbance::Vanish, Disturbance::Drain][self.below(3) as usize];
        let holder = self.processes.iter().position(|process| process.name == before[0]).expect("a process");
        self.lose(holder, how);
        sleep(CALM).await;
        self.look();
        let after = self.check_holders();
        assert!(!after.contains(&before[0]), "{after:?}");
        self.record.reached("a name is taken over");
    }

    fn is_connected(state: &BrokerState, id: &str) -> bool {
        state.clients.values().any(|client| client.id == id && client.carries)
    }

    /// Returns the holders of the name: a single one, or replicas. Checks that the registry agrees, and that all nodes
    /// are ready.
    fn check_holders(&self) -> Vec<String> {
        let holders = self.broker.holders();
        let state = self.broker.state.lock();
        let mut view = View::new(Root::default());
        for (topic, payload) in &state.retained {
            view.apply(topic, payload).expect("an entry or a state");
        }
        let mut served: Vec<&str> = view.served(&name()).map(|entry: &Entry| &*entry.node).collect();
        let mut held: Vec<&str> = holders.iter().map(|holder| &*state.clients[holder].id).collect();
        served.sort_unstable();
        held.sort_unstable();
        // Nobody waits for a name that replicas share, but they supervise one that is gone without a will.
        let is_gone =
            |id: &str| !held.contains(&id) && self.odds.are_replicas && !Self::is_connected(&state, id);
        served.retain(|id| !is_gone(id));
        assert_eq!(served, held, "the registry says that these serve the name");
        assert!(!holders.is_empty(), "nobody holds the name");
        let are_replicas = holders.iter().all(|holder| state.clients[holder].is_replica);
        assert!(holders.len() == 1 || are_replicas, "several hold the name: {holders:?}");
        for process in self.processes.iter().filter(|process| !process.is_over) {
            let id = ClientId::new(process.id).expect("an id");
            let topic = RegistryTopic::Node(id).format(&Root::default());
            let ready = NodeState::new(State::Ready, &process.announcer.epoch).write();
            assert_eq!(
                state.retained.get(&topic).map(|payload| &**payload),
                Some(&*ready),
                "{}",
                process.name
            );
        }
        holders
    }
}

/// Clients and broker refer to each other: without this, running many seeds would exhaust memory.
impl Drop for World {
    fn drop(&mut self) {
        let clients = std::mem::take(&mut self.broker.state.lock().clients);
        drop(clients);
    }
}

/// Connects a node whenever it is not connected, until it ends. Waits as sessions do: longer each time, until a connection
/// has lasted.
async fn keep_connected(broker: Arc<FakeBroker>, node: String, chance: Environment, longest_backoff_ms: u64) {
    let mut status = broker.follow(&node);
    let (mut limit_ms, mut connected) = (FIRST_BACKOFF_MS, Instant::now());
    loop {
        let now = status.borrow_and_update().clone();
        match now {
            Status::Ended(_) => return,
            Status::Offline => {
                if connected.elapsed() > STEADY {
                    limit_ms = FIRST_BACKOFF_MS;
                }
                sleep(Duration::from_millis(1 + chance.random_below(limit_ms))).await;
                limit_ms = (2 * limit_ms).min(longest_backoff_ms);
                connected = Instant::now();
                broker.connect(&node);
            }
            _ => {
                let _ = status.changed().await;
            }
        }
    }
}

/// Ends a node in order, as `Node::drain` does.
async fn drain(broker: Arc<FakeBroker>, node: String, announcer: Arc<Announcer>, keeper: Option<Keeper>) {
    announcer.announce_state(State::Draining);
    if let Some(keeper) = keeper {
        keeper.stop(Duration::from_secs(1)).await;
    }
    let mut status = announcer.bus.status();
    tokio::select! {
        biased;
        _ = timeout(Duration::from_secs(5), announcer.forget_state()) => {}
        _ = status.wait_for(|s| !matches!(s, Status::Online(_))) => {}
    }
    broker.end(&node, "drained");
}
