//! `rantai health`: asks a broker's HTTP listener whether it is well, for containers and scripts.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rantai_broker::HttpSettings;

use crate::connection::duration;
use crate::exit::{Exit, Failure};
use crate::terminal::print_text;

/// Maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  rantai broker --http 127.0.0.1:9883   serves it
  rantai health                         whether the broker's thread answers
  rantai health --ready                 whether a new client would be served

Exit codes: 0 it is well, 1 it is not, 2 wrong command line, 3 nobody listens there.";

/// Ask a broker by HTTP whether it is well.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Health {
    /// Address of the broker's HTTP listener: `--http` of the broker, or `listen` in [http] [default: 127.0.0.1:9883]
    #[arg(long, value_name = "ADDR:PORT", env = "RANTAI_HTTP", hide_env_values = true)]
    http: Option<SocketAddr>,
    /// Ask whether a new client would be served, instead of whether the broker's thread answers
    #[arg(long)]
    ready: bool,
    /// Time limit: 5, 5s or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5")]
    timeout: Duration,
}

impl Health {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let address = reachable(self.http.unwrap_or(HttpSettings::default().listen));
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let (status, body) = get(address, path, self.timeout).map_err(|error| {
            let text =
                format!("cannot ask http://{address}{path}: {error}; start the broker with --http {address}");
            Failure::new(Exit::Unreachable, text)
        })?;
        match status {
            200 => {
                print_text(body.trim_end());
                Ok(())
            }
            503 => {
                let reasons: Vec<&str> = body.lines().collect();
                Err(Failure::new(Exit::Failed, format!("the broker is not well: {}", reasons.join("; "))))
            }
            status => {
                let text = format!("http://{address}{path} answers {status}: that is no broker of Rantai");
                Err(Failure::new(Exit::Failed, text))
            }
        }
    }
}

/// Returns the address at which a listener on all addresses is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Sends a GET; returns status and body. The server closes the connection after its response.
fn get(address: SocketAddr, path: &str, limit: Duration) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    Ok((status.ok_or_else(no_http)?, body.to_owned()))
}
