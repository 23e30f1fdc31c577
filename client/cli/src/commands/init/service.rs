//! Configures rantai.service to run a new site.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// Group of the service, which needs to read the site.
const GROUP: &str = "rantai";
const GROUPS: &str = "/etc/group";
/// Data directory of the service, writable by its unit.
pub(super) const DATA: &str = "/var/lib/rantai";
/// Path of the program that the package installs.
const INSTALLED: &str = "/usr/bin/rantai";
/// Drop-in that overrides the command of the unit that the package installs.
const DROP_IN: &str = "/etc/systemd/system/rantai.service.d/site.conf";
/// Files that the service reads. The authority's key and the passwords of other users are not among them.
const READ: [&str; 9] = [
    "broker.toml",
    "nodes.toml",
    "passwords",
    "node.password",
    "ca.pem",
    "crl.pem",
    "issued",
    "server.pem",
    "server.key",
];

/// Service that the site is created for.
pub(super) struct Service {
    group: u32,
    program: PathBuf,
}

impl Service {
    /// Finds the group; fails unless the process may change owners and the configuration of systemd.
    pub(super) fn find() -> Result<Self, Failure> {
        if !rustix::process::geteuid().is_root() {
            let text = "--service gives files to the group of the service and writes below /etc/systemd: run it as root";
            return Err(Failure::new(Exit::Usage, text.to_owned()));
        }
        let groups = fs::read_to_string(GROUPS).map_err(|error| failed("read", Path::new(GROUPS), &error))?;
        let Some(group) = id_of(&groups, GROUP) else {
            let text = format!(
                "there is no group {GROUP}, which the service runs as; install the package, or add the user with `useradd --system \
                 --user-group {GROUP}`"
            );
            return Err(Failure::new(Exit::Usage, text));
        };
        // Without /proc, as in a chroot, the path of this program is not known.
        let program = std::env::current_exe().unwrap_or_else(|_| INSTALLED.into());
        Ok(Self { group, program })
    }

    /// Makes a site readable for the service, and for nobody else.
    pub(super) fn give(&self, folder: &Path) -> Result<(), Failure> {
        for name in READ {
            let path = folder.join(name);
            match self.share(&path, 0o640) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("share", &path, &error));
                }
                _ => {}
            }
        }
        self.share(folder, 0o750).map_err(|error| failed("share", folder, &error))
    }

    fn share(&self, path: &Path, mode: u32) -> io::Result<()> {
        chown(path, None, Some(self.group))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Writes the drop-in that overrides the command of the unit.
    pub(super) fn override_unit(&self, folder: &Path) -> Result<(), Failure> {
        let text = drop_in(&self.program, folder)?;
        let path = Path::new(DROP_IN);
        let parent = path.parent().expect("it is in a folder");
        fs::create_dir_all(parent).map_err(|error| failed("make", parent, &error))?;
        fs::write(path, text).map_err(|error| failed("write", path, &error))
    }
}

/// Returns the numeric id of a group.
fn id_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn drop_in(program: &Path, folder: &Path) -> Result<String, Failure> {
    let text = |path: &Path| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
        path.to_str()
            .filter(|text| text.starts_with('/') && text.chars().all(plain))
            .map(ToOwned::to_owned)
            .ok_or_else(|| {
                let text =
                    format!("{} cannot stand in a unit of systemd; name another folder", path.display());
                Failure::new(Exit::Usage, text)
            })
    };
    let (program, broker, nodes) =
        (text(program)?, text(&folder.join("broker.toml"))?, text(&folder.join("nodes.toml"))?);
    Ok(format!(
        "# Written by `rantai init site --service`.\n[Service]\nExecStart=\nExecStart={program} up --broker-config {broker} --config \
         {nodes} --data-dir {DATA}\n"
    ))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_found_by_its_exact_name() {
        let groups = "root:x:0:\nrantai-other:x:7:\nbroken\nrantai:x:998:ada\n";
        assert_eq!(
            (id_of(groups, "rantai"), id_of(groups, "broken"), id_of(groups, "ran")),
            (Some(998), None, None)
        );
    }

    #[test]
    fn unit_runs_the_site() {
        let text = drop_in(Path::new("/usr/bin/rantai"), Path::new("/etc/rantai/site")).map_err(|f| f.tell());
        let command = "\nExecStart=\nExecStart=/usr/bin/rantai up --broker-config /etc/rantai/site/broker.toml --config \
                       /etc/rantai/site/nodes.toml --data-dir /var/lib/rantai\n";
        assert!(text.as_ref().is_ok_and(|text| text.ends_with(command)), "{text:?}");
        for folder in ["/etc/my site", "/etc/a%h", "site"] {
            assert!(drop_in(Path::new("/usr/bin/rantai"), Path::new(folder)).is_err(), "{folder}");
        }
    }
}
