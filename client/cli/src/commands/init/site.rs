//! Files of a new site.

use std::path::{Path, PathBuf};

use rantai_credentials::{Cost, PasswordFile, Record};

use crate::certificates::{Authority, Folder, Host, Subject, WithKey, write_secret};
use crate::configurations::NODES;
use crate::exit::{Exit, Failure};
use crate::random::random_password;

use super::service::{DATA, Service};

/// Users of a new site, each with a role of the same name.
const USERS: [&str; 3] = ["admin", "node", "caller"];
/// Validity of the server's certificate in days, as for `rantai cert`.
const DAYS: i64 = 397;

const BROKER: &str = include_str!("broker.toml");

/// Site that is to be written.
pub(super) struct Site<'a> {
    pub(super) folder: &'a Path,
    /// Hosts that the server's certificate is valid for.
    pub(super) hosts: &'a [Host],
    /// Host in the address that is printed for other machines.
    pub(super) told: Host,
    pub(super) port: u16,
    pub(super) local_port: u16,
    pub(super) service: Option<&'a Service>,
}

impl Site<'_> {
    /// Writes all files, the broker's configuration last: without it an incomplete folder is not a site.
    pub(super) fn write(&self, force: bool) -> Result<(), Failure> {
        let folder = Folder::make(self.folder)?;
        let ours = [
            self.path("broker.toml"),
            self.path("nodes.toml"),
            self.path("passwords"),
            folder.authority().key,
        ];
        let there = ours.iter().find(|path| path.symlink_metadata().is_ok());
        if let Some(path) = there.filter(|_| !force) {
            let text = format!(
                "{} is there already, and nothing is changed; name another folder, or write everything anew with --force",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        let authority = Authority::create(&folder, &format!("Rantai of {}", self.hosts[0]), &[])?;
        let subject = Subject::Server(self.hosts.to_vec());
        authority.issue(&folder, &folder.server("server"), &subject, WithKey::New, DAYS)?;
        let mut passwords = PasswordFile::default();
        for user in USERS {
            let failed = |error: &dyn std::fmt::Display| {
                Failure::new(Exit::Failed, format!("cannot make a password for {user}: {error}"))
            };
            let password = random_password().map_err(|error| failed(&error))?;
            let record = Record::new(password.as_bytes(), Cost::default()).map_err(|error| failed(&error))?;
            passwords.set(user, &record).map_err(|error| failed(&error))?;
            write_secret(&self.path(&format!("{user}.password")), &format!("{password}\n"))?;
        }
        write_secret(&self.path("passwords"), &passwords.to_string())?;
        write_secret(&self.path("nodes.toml"), &nodes(&self.url()))?;
        write_secret(&self.path("broker.toml"), &self.broker()?)?;
        let Some(service) = self.service else { return Ok(()) };
        service.give(self.folder)?;
        service.override_unit(self.folder)
    }

    /// Returns the next steps for the user, line by line.
    pub(super) fn next(&self) -> Vec<String> {
        let shown = |name: &str| quoted(&self.path(name));
        let (broker, nodes, data) = (shown("broker.toml"), shown("nodes.toml"), shown("data"));
        let start = match self.service {
            Some(_) => "  systemctl daemon-reload && systemctl restart rantai".to_owned(),
            None => format!("  rantai up --broker-config {broker} --config {nodes} --data-dir {data}"),
        };
        vec![
            "The broker and its objects, on this machine:".to_owned(),
            start,
            format!(
                "A user, on any machine that has got {} and {}:",
                shown("ca.pem"),
                shown("caller.password")
            ),
            format!(
                "  rantai context add site --broker {} --ca ca.pem --user caller --password-file caller.password",
                self.url()
            ),
            "A call of that user:".to_owned(),
            "  rantai call calculator.add 2 3 --context site".to_owned(),
        ]
    }

    /// Returns the address at which other machines reach the broker.
    fn url(&self) -> String {
        let host = match &self.told {
            Host::Address(address) if address.is_ipv6() => format!("[{address}]"),
            host => host.to_string(),
        };
        format!("mqtts://{host}:{}", self.port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn broker(&self) -> Result<String, Failure> {
        let data = if self.service.is_some() { DATA.into() } else { self.path("data") };
        let data = std::path::absolute(data).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot find {}: {error}", self.folder.display()))
        })?;
        let Some(data) = data.to_str().filter(|data| !data.contains(char::is_control)) else {
            let text =
                format!("{} cannot stand in a configuration file; name another folder", data.display());
            return Err(Failure::new(Exit::Usage, text));
        };
        // Without control characters a JSON string is a TOML string.
        Ok(BROKER
            .replace("{data_dir}", &serde_json::Value::from(data).to_string())
            .replace("{address}", &format!("0.0.0.0:{}", self.port))
            .replace("{local_port}", &self.local_port.to_string()))
    }
}

/// Returns the configuration of the built-in objects, served as user `node` at the broker of this address.
fn nodes(url: &str) -> String {
    let broker = format!("broker = \"{url}\"");
    let lines = NODES.lines().map(|line| match line {
        r#"#broker = ["mqtts://pi.local", "mqtts://spare.local"]"# => &broker,
        r#"#ca = "ca.pem""# => r#"ca = "ca.pem""#,
        r#"#user = "pi-east""# => r#"user = "node""#,
        r#"#password_file = "pi-east.password""# => r#"password_file = "node.password""#,
        r#"#admins = ["root"]"# => r#"admins = ["admin"]"#,
        line => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_served_by_the_user_node_and_administered_by_admin() {
        let text = nodes("mqtts://[fd00::1]:8884");
        let config =
            rantai_site::config::Config::from_toml(&text, "site/nodes.toml").expect("a configuration");
        assert_eq!(config.broker.map(|broker| broker.to_string()).as_deref(), Some("mqtts://[fd00::1]:8884"));
        assert_eq!(config.tls.ca.as_deref(), Some(Path::new("site/ca.pem")));
        assert_eq!(config.user.as_deref(), Some("node"));
        assert_eq!(config.password_file.as_deref(), Some(Path::new("site/node.password")));
        assert_eq!(config.admins, ["admin"]);
    }

    #[test]
    fn the_configuration_has_tls_for_other_machines_and_users_with_roles() {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = ["localhost".parse().expect("a host")];
        let path = folder.path().join("it's \"mine\"");
        let site = Site {
            folder: &path,
            hosts: &hosts,
            told: hosts[0].clone(),
            port: 8884,
            local_port: 1884,
            service: None,
        };
        site.write(false).map_err(|failure| failure.tell()).expect("written");
        let config = crate::configurations::broker_settings(&path.join("broker.toml"));
        let config = config.map_err(|failure| failure.tell()).expect("a configuration");
        assert_eq!(config.listen, ["127.0.0.1:1884".parse().expect("an address")]);
        let [listener] = &*config.listeners else { panic!("{:?}", config.listeners) };
        assert_eq!(listener.address(), Some("0.0.0.0:8884".parse().expect("an address")));
        let tls = listener.tls.as_ref().expect("TLS");
        rantai_tls::read_identity(&tls.certificate, &tls.key).expect("a certificate with its key");
        assert_eq!(config.data_dir.as_deref(), Some(&*path.join("data")));
        assert!(!config.anonymous && !config.open);
        let mut users: Vec<&str> = config.users.iter().map(|user| &*user.name).collect();
        users.sort_unstable();
        assert_eq!(users, ["admin", "caller", "node"]);
        assert!(config.users.iter().all(|user| user.password.is_some()));
    }

    #[test]
    fn every_commented_out_key_is_valid() {
        let text = BROKER.replace("{data_dir}", "\"data\"").replace("{local_port}", "1883");
        let text = text.replace("{address}", "0.0.0.0:8883").replace("password_file = \"passwords\"\n", "");
        let is_key = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
        };
        let lines = text.lines().map(|line| if is_key(line) { &line[1..] } else { line });
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        assert!(text.contains("\nhardened = true") && text.contains("\nserve = [\"student.%u\"]"), "{text}");
        let config =
            rantai_broker::Config::from_toml_with::<crate::roles::Role>(&text, Path::new("site/broker.toml"));
        assert_eq!(config.map(|config| config.listeners.len()).map_err(|error| error.to_string()), Ok(2));
    }

    #[test]
    fn printed_commands_quote_paths_for_the_shell() {
        assert_eq!(quoted(Path::new("/etc/rantai/broker.toml")), "/etc/rantai/broker.toml");
        assert_eq!(quoted(Path::new("my site/it's")), r"'my site/it'\''s'");
    }
}
