//! Access rules of an MQTT broker: which clients may publish and subscribe to which topics, and which rule decides.
//!
//! Pure: no I/O, no clock, no runtime. A [`Table`] is built once from user records, roles and an ACL file of mosquitto,
//! and is immutable from then on; a reload builds a new table with a higher [`generation`](Table::generation).
//!
//! ```
//! use rantai_access::{Action, AclFile, Table, Who};
//!
//! let file = AclFile::parse("acl.conf", "user ada\ntopic read sensors/#\n")?;
//! let table = Table::builder().file(file).build()?;
//! let ada = Who { user: Some("ada"), client_id: "ada--1" };
//! assert!(table.decide(&ada, Action::Subscribe("sensors/+/temp")).is_allowed());
//! assert!(!table.decide(&ada, Action::Publish("sensors/attic/temp")).is_allowed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | Module | Contents |
//! |---|---|
//! | `filter`, `level` | Filters of rules: wildcards, `%u` and `%c`, prefixes, `$share/GROUP/` |
//! | `rule` | A rule, and the place where it is defined |
//! | `user`, `user_name`, `client_ids` | User records, valid user names, and owners of client ids |
//! | `mosquitto` | Parser of mosquitto's ACL file |
//! | `index`, `rule_set` | Rules in tries, so that a decision costs the same with ten rules and ten thousand |
//! | `table`, `builder`, `decide`, `subscribe` | The table, its builder, and its decisions |
//! | `explain` | A decision as a sentence |
//! | `export` | A table as a configuration file for another broker |

mod builder;
mod client_ids;
mod decide;
mod explain;
mod export;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod index;
mod level;
mod mosquitto;
mod rule;
mod rule_set;
mod subscribe;
mod table;
mod user;
mod user_name;
mod who;

pub use builder::{TableBuilder, TableError};
pub use client_ids::{ClientIdError, IdConflict, IdPattern, IdPatternError};
pub use decide::{Action, Decision, Outcome, Refusal};
pub use export::{Export, ExportFor};
pub use filter::{FilterError, RuleFilter, Syntax};
pub use index::Index;
pub use mosquitto::{AclError, AclFile, AclProblem, Subject};
pub use rule::{Effect, Rule, RuleAccess, RuleError, Source};
pub use table::Table;
pub use user::UserRecord;
pub use user_name::{MAX_USER_CHARS, UserNameError, check_user_name};
pub use who::Who;
