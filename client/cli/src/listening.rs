//! Errors of listening on an address, with advice; the texts are the same for broker and gateways.

use std::io::{self, ErrorKind};

use crate::exit::{Exit, Failure};

/// Names of the settings that change the address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Setting of the port, such as `--port`.
    pub(crate) port: &'static str,
    /// Setting that listens on all addresses of the machine, such as `--host 0.0.0.0`.
    pub(crate) everywhere: &'static str,
}

/// Options of `broker` and `up`.
pub(crate) const OPTIONS: Setting = Setting { port: "--port", everywhere: "--host 0.0.0.0" };
/// Listener in broker.toml.
pub(crate) const LISTENER: Setting =
    Setting { port: "`address` of that entry of [[listeners]]", everywhere: "0.0.0.0" };

/// HTTP listener of the broker.
pub(crate) const HTTP: Setting = Setting { port: "`listen` in [http] or --http", everywhere: "0.0.0.0" };

/// Returns the setting of a gateway in the configuration of nodes.
pub(crate) fn gateway(section: &str) -> Setting {
    let port = match section {
        "soap" => "`listen` in [soap]",
        "pyro" => "`listen` in [pyro]",
        _ => "`listen` in [rest]",
    };
    Setting { port, everywhere: "0.0.0.0" }
}

/// Creates the error of a server that cannot listen on a TCP address.
pub(crate) fn cannot_listen(at: &dyn std::fmt::Display, error: &io::Error, setting: Setting) -> Failure {
    let Setting { port, everywhere } = setting;
    let cause = match error.kind() {
        ErrorKind::AddrInUse => format!(
            "address already in use; stop the other program, or choose another port with {port} (0 takes a free one)"
        ),
        ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; use one of its own, or {everywhere} for all of them")
        }
        ErrorKind::PermissionDenied => {
            format!("permission denied; ports below 1024 need privileges, choose another with {port}")
        }
        _ => error.to_string(),
    };
    Failure::new(Exit::Failed, format!("cannot listen on {at}: {cause}"))
}

/// Creates the error of a broker that cannot listen on a unix socket.
pub(crate) fn cannot_listen_on_socket(at: &dyn std::fmt::Display, error: &io::Error) -> Failure {
    let cause = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program listens there, or the file is no socket; stop that program, or choose another `socket`"
                .to_owned()
        }
        ErrorKind::NotFound => "its folder does not exist; make it, or choose another `socket`".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied; choose a `socket` in a folder that this user may write to".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::new(Exit::Failed, format!("cannot listen on {at}: {cause}"))
}
