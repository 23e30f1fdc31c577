//! The subcommands: one file each, and their list.

mod acl;
mod admin;
mod backup;
mod bench;
mod broker;
mod calc;
mod call;
mod cert;
mod chain;
mod completions;
mod config;
mod conform;
mod context;
mod demo;
mod describe;
mod doctor;
mod files;
mod forget;
mod health;
mod imaging;
mod init;
mod insult;
mod library;
mod ls;
mod man;
mod passwd;
mod publish;
mod restore;
mod serve;
mod sub;
mod task;
mod up;
mod upcall;
mod upgrade_check;
mod watch;

use clap::Subcommand;

use crate::exit::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::Init),
    Up(up::Up),
    Broker(broker::Broker),
    Serve(Box<serve::Serve>),
    Config(config::Configurations),
    Acl(acl::Acl),
    Admin(admin::Admin),
    Passwd(passwd::Passwd),
    Cert(cert::Cert),
    Context(context::ContextCommand),
    Ls(ls::Ls),
    Describe(describe::Describe),
    Doctor(doctor::Doctor),
    Conform(conform::Conform),
    Forget(forget::Forget),
    Health(health::Health),
    Backup(backup::BackupCommand),
    Restore(restore::Restore),
    UpgradeCheck(upgrade_check::UpgradeCheck),
    Call(call::Call),
    Calc(calc::Calc),
    Chain(chain::Chain),
    Files(files::List),
    Get(files::Get),
    Put(files::Put),
    Task(task::Tasks),
    Library(library::Library),
    Watch(watch::Watch),
    Bench(bench::Bench),
    Sub(sub::Sub),
    Pub(publish::Pub),
    Upcall(upcall::Upcall),
    Insult(insult::Insult),
    Imaging(imaging::Imaging),
    Demo(demo::Demo),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init(command) => command.run(),
            Self::Up(command) => command.run(),
            Self::Broker(command) => command.run(),
            Self::Serve(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::Acl(command) => command.run(),
            Self::Admin(command) => command.run(),
            Self::Passwd(command) => command.run(),
            Self::Cert(command) => command.run(),
            Self::Context(command) => command.run(),
            Self::Ls(command) => command.run(),
            Self::Describe(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Conform(command) => command.run(),
            Self::Forget(command) => command.run(),
            Self::Health(command) => command.run(),
            Self::Backup(command) => command.run(),
            Self::Restore(command) => command.run(),
            Self::UpgradeCheck(command) => command.run(),
            Self::Call(command) => command.run(),
            Self::Calc(command) => command.run(),
            Self::Chain(command) => command.run(),
            Self::Files(command) => command.run(),
            Self::Get(command) => command.run(),
            Self::Put(command) => command.run(),
            Self::Task(command) => command.run(),
            Self::Library(command) => command.run(),
            Self::Watch(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Sub(command) => command.run(),
            Self::Pub(command) => command.run(),
            Self::Upcall(command) => command.run(),
            Self::Insult(command) => command.run(),
            Self::Imaging(command) => command.run(),
            Self::Demo(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}
