//! Brokers under test, each in its own process.

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

/// Maximum time until a broker answers after its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Broker under test.
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
    /// Returns the brokers selected by the options.
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

    /// Starts a broker without persistence, with default limits, and with the users of honest clients and attackers.
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
        Server::launch_broker(command, Some(directory), Instant::now() + START_TIMEOUT)
    }
}

fn guard<'a>(command: &'a mut Command, address: SocketAddr, program: &Path) -> &'a mut Command {
    command.arg(child::GUARD).arg(address.to_string()).arg(program)
}

/// Returns an address that is free at this moment, for programs that cannot report their port.
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

/// Allows as many messages in flight as the honest clients use; without delays and logging, which Rantai does not have
/// here either.
fn mosquitto_configuration(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_inflight_messages 1024\n\
         set_tcp_nodelay true\nlog_type none\npersistence false\n"
    )
}
