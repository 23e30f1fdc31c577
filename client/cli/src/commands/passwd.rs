//! `rantai passwd`: password files of a broker, and password records for its configuration.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rantai_access::check_user_name;
use rantai_credentials::{Cost, HashError, KeyRecord, PasswordFile, Record, random_key};

use crate::connection::{note, print};
use crate::exit::{Exit, Failure};
use crate::private_file::{lock, rewrite};
use crate::prompt::{ask_hidden, read_line};
use crate::random::random_password;

const EXAMPLES: &str = "\
Examples:
  rantai passwd passwords ada              ask for ada's password, twice, and keep its record
  rantai passwd passwords ada --stdin      take the first line of stdin instead
  rantai passwd passwords ada --generate   draw one, and print it
  rantai passwd -D passwords ada           remove her
  rantai passwd --verify passwords ada     whether a password is hers: exit code 0 or 1
  rantai passwd --hash                     print a record for [[users]] of broker.toml
  rantai passwd --key                      print a new key of a program, and its record for nodes.toml

The file is that of `password_file` in broker.toml. It is made where it is missing, readable for its owner alone; one that is \
there keeps its owner and group, and the group may go on reading it (0640), but nobody else may. A symbolic link is refused. \
mosquitto_passwd and mosquitto read it too: before version 2.1 with --mosquitto alone.

Exit codes: 0 done, 1 wrong password or no such user, 2 wrong command line or file, 130 cancelled.";

/// Add users to a password file, change and remove them
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Passwd {
    /// The password file
    #[arg(value_name = "FILE", required_unless_present_any = ["hash", "key"])]
    file: Option<PathBuf>,
    /// The user
    #[arg(value_name = "USER", required_unless_present_any = ["hash", "key"])]
    user: Option<String>,
    /// Remove the user
    #[arg(short = 'D', long, conflicts_with_all = ["verify", "hash", "stdin", "mosquitto"])]
    delete: bool,
    /// Ask for a password, and end with exit code 1 if it is not the user's
    #[arg(long, conflicts_with_all = ["hash", "mosquitto"])]
    verify: bool,
    /// Print the record of a password and write no file
    #[arg(long, conflicts_with_all = ["file", "user"])]
    hash: bool,
    /// Print a random key of a program that calls by REST or SOAP, and its record; write no file
    #[arg(long, conflicts_with_all = ["file", "user", "delete", "verify", "hash", "stdin", "mosquitto"])]
    key: bool,
    /// Read the password from the first line of stdin instead of asking for it
    #[arg(long)]
    stdin: bool,
    /// Draw a password at random, and print it: it is kept nowhere else
    #[arg(long, conflicts_with_all = ["delete", "verify", "hash", "stdin"])]
    generate: bool,
    /// Make a record that mosquitto before 2.1 knows: PBKDF2 ($7$) instead of argon2id
    #[arg(long)]
    mosquitto: bool,
}

impl Passwd {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.key {
            let key = random_key().map_err(failed)?;
            print(&format!("key     {key}\nrecord  {}", KeyRecord::new(key.as_bytes())));
            return Ok(());
        }
        let (Some(file), Some(user)) = (&self.file, &self.user) else {
            print(&self.record_of(&self.password()?)?.to_string());
            return Ok(());
        };
        if self.delete {
            return delete(file, user);
        }
        if self.verify {
            return self.verify(file, user);
        }
        check_user_name(user).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        // Read before asking for the password, so that a file that cannot be read is reported at once.
        read(file)?;
        let password = self.password()?;
        let record = self.record_of(&password)?;
        let changed = change(file, |passwords| {
            passwords.set(user, &record).map_err(|error| Failure::from_error(Exit::Usage, &error))
        })?;
        let what = if changed { "changed the password of" } else { "added" };
        note(&format!("{what} {user} in {}", file.display()));
        if self.generate {
            print(&password);
        }
        Ok(())
    }

    fn verify(&self, file: &Path, user: &str) -> Result<(), Failure> {
        let passwords = read(file)?.ok_or_else(|| missing(file))?;
        let record = passwords.record(user).map_err(|error| {
            Failure::new(Exit::Usage, format!("{}: line {}: {}", file.display(), error.line, error.reason))
        })?;
        let record = record.ok_or_else(|| unknown(file, user))?;
        let password = if self.stdin { read_line()? } else { ask_hidden(&format!("Password of {user}: "))? };
        let right = record.verify(password.as_bytes()).map_err(failed)?;
        if right { Ok(()) } else { Err(Failure::new(Exit::Failed, "wrong password")) }
    }

    /// Returns the password: typed, read from stdin, or generated.
    fn password(&self) -> Result<String, Failure> {
        match (self.generate, self.stdin) {
            (true, _) => random_password()
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot draw a password: {error}"))),
            (false, true) => read_line(),
            (false, false) => ask_twice(),
        }
    }

    fn record_of(&self, password: &str) -> Result<Record, Failure> {
        let record = if self.mosquitto {
            Record::for_mosquitto(password.as_bytes())
        } else {
            Record::new(password.as_bytes(), Cost::default())
        };
        record.map_err(failed)
    }
}

fn ask_twice() -> Result<String, Failure> {
    let password = ask_hidden("Password: ")?;
    if ask_hidden("The same again: ")? == password {
        Ok(password)
    } else {
        Err(Failure::new(Exit::Usage, "the two passwords are not the same; nothing is changed"))
    }
}

fn delete(file: &Path, user: &str) -> Result<(), Failure> {
    read(file)?.ok_or_else(|| missing(file))?;
    change(file, |passwords| if passwords.remove(user) { Ok(()) } else { Err(unknown(file, user)) })?;
    note(&format!("removed {user} from {}", file.display()));
    Ok(())
}

fn read(file: &Path) -> Result<Option<PasswordFile>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(PasswordFile::new(&text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display()))),
    }
}

/// Reads the file, changes it and writes it, under a lock.
fn change<T>(
    file: &Path,
    change: impl FnOnce(&mut PasswordFile) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display()));
    let _lock = lock(file).map_err(failed)?;
    let mut passwords = read(file)?.unwrap_or_default();
    let changed = change(&mut passwords)?;
    let were_let_in = file.metadata().is_ok_and(|about| about.mode() & 0o004 != 0);
    rewrite(file, &passwords.to_string()).map_err(failed)?;
    if were_let_in {
        tell_shut_out(file);
    }
    Ok(changed)
}

/// Warns that a broker of another user can no longer read the file, if it could only read it because everybody could.
fn tell_shut_out(file: &Path) {
    let shown = file.display();
    note(&format!(
        "every user of this machine could read {shown} and guess at its passwords, which they no longer can; where the broker \
         runs as another user, let in its group: `chgrp GROUP {shown} && chmod 640 {shown}`"
    ));
}

fn failed(error: HashError) -> Failure {
    Failure::from_error(Exit::Usage, &error)
}

fn missing(file: &Path) -> Failure {
    Failure::new(Exit::Usage, format!("no password file {}", file.display()))
}

fn unknown(file: &Path, user: &str) -> Failure {
    Failure::new(Exit::Failed, format!("no user {user:?} in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_changes_of_a_password_file_are_all_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwords");
        let record = Record::new(b"rahasia", Cost::LOWEST).expect("hashed");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (file, record) = (&file, &record);
                scope.spawn(move || {
                    for user in 0..10 {
                        let set = |passwords: &mut PasswordFile| {
                            Ok(passwords.set(&format!("user-{thread}-{user}"), record).expect("a user name"))
                        };
                        assert!(!change(file, set).expect("changed"));
                    }
                });
            }
        });
        let passwords = read(&file).expect("read").expect("there");
        assert_eq!(passwords.records().expect("records").len(), 40);
        assert_eq!(file.metadata().expect("there").mode() & 0o777, 0o600);
    }
}
