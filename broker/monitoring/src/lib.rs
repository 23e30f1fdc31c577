//! Metrics and health of a broker by HTTP, for Prometheus, containers and load balancers.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use rantai_broker::{Broker, Config, HttpSettings};
//! use rantai_monitoring::MonitoringServer;
//!
//! let broker = Broker::start(Config::on_free_port()).await?;
//! let settings = HttpSettings { listen: "127.0.0.1:0".parse()?, ..HttpSettings::default() };
//! let server = MonitoringServer::start(settings, broker.monitor().expect("this engine has one"))?;
//! println!("metrics on http://{}/metrics", server.address());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! | Path | Answer |
//! |---|---|
//! | `/metrics` | every value of `$SYS`, in `OpenMetrics` or the older text format, whichever `Accept` asks for |
//! | `/healthz` | 200 if the broker's thread answers within two seconds, otherwise 503 |
//! | `/readyz` | 200 if a new client would be served, otherwise 503 with the reasons, one a line |
//!
//! Everything here is GET and changes nothing, and what is read has neither names nor topics nor payloads of clients.
//! Therefore no `Host` is refused: a page in a browser that reaches this address under a name of its own (DNS
//! rebinding) reads figures, and nothing else.

mod metrics;
mod server;

pub use server::MonitoringServer;
