//! The brokers of a measurement, each a process of its own.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rantai_broker::{Cost, Record};
use rantai_load::failure::Failure;
use tempfile::TempDir;

use crate::options::Options;
use crate::target::{self, Server};
use crate::{attacks, child, honest};

/// How long a broker may take until it answers.
const STARTING: Duration = Duration::from_secs(10);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rantai,
    Mosquitto,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rantai => "rantai",
            Self::Mosquitto => "mosquitto",
        })
    }
}

impl Kind {
    /// Those that the options ask for.
    pub(crate) fn chosen(options: &Options) -> Vec<Self> {
        let mut kinds = vec![Self::Rantai];
        if options.mosquitto {
            match target::mosquitto() {
                Some(_) => kinds.push(Self::Mosquitto),
                None => eprintln!("mosquitto is not installed: nothing is compared with it"),
            }
        }
        kinds
    }

    /// Starts one with everything in memory, its limits as they come, and the users of both sides.
    pub(crate) fn start(self, options: &Options) -> Result<Server, Failure> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("configuration");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(child::MARK);
        match (self, &options.binary) {
            (Self::Rantai, None) => {
                fs::write(&path, rantai_configuration(0))?;
                command.arg(child::CONFIGURED).arg(&path);
            }
            (Self::Rantai, Some(binary)) => {
                let address = free_address()?;
                fs::write(&path, rantai_configuration(address.port()))?;
                guard(&mut command, address, binary).arg("broker").arg("--config").arg(&path);
            }
            (Self::Mosquitto, _) => {
                let program =
                    target::mosquitto().ok_or_else(|| Failure::new("mosquitto is not installed"))?;
                let address = free_address()?;
                fs::write(&path, mosquitto_configuration(address.port()))?;
                guard(&mut command, address, &program).arg("-c").arg(&path);
            }
        }
        Self::launch(command, directory).map_err(|failure| failure.during(&format!("{self} did not start")))
    }

    fn launch(command: Command, directory: TempDir) -> Result<Server, Failure> {
        Server::launch_broker(command, Some(directory), Instant::now() + STARTING)
    }
}

fn guard<'a>(command: &'a mut Command, address: SocketAddr, program: &Path) -> &'a mut Command {
    command.arg(child::GUARD).arg(address.to_string()).arg(program)
}

/// Free at this moment, for programs that cannot say which port they took.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn rantai_configuration(port: u16) -> String {
    let user = |name: &str, password: &str| {
        let record = Record::new(password.as_bytes(), Cost::default()).expect("hashed");
        format!("[[users]]\nname = \"{name}\"\npassword = \"{record}\"\nroles = [\"admin\"]\n")
    };
    format!(
        "listen = [\"127.0.0.1:{port}\"]\nanonymous = true\n{}{}",
        user(honest::USER, honest::PASSWORD),
        user(attacks::USER, attacks::PASSWORD)
    )
}

/// As many messages in flight as the honest clients have; and without delays and logging, which we do not have either.
fn mosquitto_configuration(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_inflight_messages 1024\n\
         set_tcp_nodelay true\nlog_type none\npersistence false\n"
    )
}
