//! `rantai init`: writes the files of a new site.

mod service;
mod site;

use std::path::PathBuf;

use crate::certificates::{Host, of_this_machine};
use crate::connection::{note, print};
use crate::exit::{Exit, Failure};
use service::Service;

const EXAMPLES: &str = "\
Examples:
  rantai init site                                      in the folder site, by the names of this machine
  rantai init site /etc/rantai --host bus.lab.example   by this name
  rantai init site --host pi.local --host 192.168.1.5   by several; the first is in what is printed
  rantai init site /etc/rantai/site --service           for rantai.service of the package

Writes broker.toml (TLS for other machines, TCP for this one), nodes.toml, the users admin, node and caller with a file for each \
password, and an authority with the server's certificate (`rantai cert`). Only its owner may look into the folder. docs/site.md \
goes on from there.

Exit codes: 0 done, 1 failed, 2 wrong command line, or something is there already.";

/// Write what a new site begins with
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Init {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Site(InitSite),
}

/// Write the configuration of a broker and its objects: users, passwords, certificates
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct InitSite {
    /// The folder
    #[arg(value_name = "DIR", default_value = "site")]
    folder: PathBuf,
    /// A name or address that other machines reach this one by; without any those that it knows of itself
    #[arg(long, value_name = "NAME|IP")]
    host: Vec<Host>,
    /// The port for TLS
    #[arg(long, value_name = "N", default_value_t = 8883, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The port for this machine, without encryption
    #[arg(long, value_name = "N", default_value_t = 1883, value_parser = clap::value_parser!(u16).range(1..))]
    local_port: u16,
    /// Write everything anew, with new passwords and a new authority; whoever uses the old ones loses them
    #[arg(long)]
    force: bool,
    /// For rantai.service: its group may read the files, its data is in /var/lib/rantai, and the unit runs the site; as root
    #[arg(long)]
    service: bool,
}

impl Init {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Site(site) => site.run(),
        }
    }
}

impl InitSite {
    fn run(self) -> Result<(), Failure> {
        let Self { folder, host, port, local_port, force, service } = self;
        if port == local_port {
            let text = format!(
                "--port and --local-port are both {port}: one is for TLS and the other for this machine without it; give them \
                 two ports"
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        let service = service.then(Service::find).transpose()?;
        let (reached, told) = if host.is_empty() {
            let hosts = of_this_machine();
            let told = surest(&hosts);
            (hosts, told)
        } else {
            let told = host[0].clone();
            (with_this_machine(host), told)
        };
        let folder = match &service {
            // The unit needs whole paths.
            Some(_) => std::path::absolute(&folder).unwrap_or(folder),
            None => folder,
        };
        let site = site::Site {
            folder: &folder,
            hosts: &reached,
            told,
            port,
            local_port,
            service: service.as_ref(),
        };
        site.write(force)?;
        let names: Vec<String> = reached.iter().map(ToString::to_string).collect();
        note(&format!(
            "wrote {}: users admin, node and caller, certificate for {}",
            folder.display(),
            names.join(", ")
        ));
        for line in site.next() {
            print(&line);
        }
        Ok(())
    }
}

/// Returns the host by which other machines reach this one without name resolution: its IPv4 address, if it has one.
fn surest(hosts: &[Host]) -> Host {
    let is_address =
        |host: &&Host| matches!(host, Host::Address(address) if address.is_ipv4() && !address.is_loopback());
    hosts.iter().find(is_address).unwrap_or(&hosts[0]).clone()
}

/// Adds this machine's local names to the hosts, unless they are among them.
fn with_this_machine(mut hosts: Vec<Host>) -> Vec<Host> {
    for here in ["localhost", "127.0.0.1", "::1"].map(str::parse::<Host>).into_iter().flatten() {
        if !hosts.contains(&here) {
            hosts.push(here);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_host_is_an_ipv4_address_if_there_is_one() {
        let hosts = |texts: &[&str]| -> Vec<Host> {
            texts.iter().map(|text| text.parse().expect("a host")).collect()
        };
        for (known, told) in [
            (&["pi", "pi.local", "192.168.1.5", "fd00::2", "localhost", "127.0.0.1"][..], "192.168.1.5"),
            (&["pi", "pi.local", "localhost", "127.0.0.1", "::1"], "pi"),
            (&["localhost", "127.0.0.1", "::1"], "localhost"),
        ] {
            assert_eq!(surest(&hosts(known)).to_string(), told);
        }
    }
}
