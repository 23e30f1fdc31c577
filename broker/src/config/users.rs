//! Users of a configuration: those of `[[users]]`, and those of a password file.

use std::path::{Path, PathBuf};

use rantai_access::check_user_name;
use rantai_credentials::{PasswordFile, Record, RecordError};
use toml::Spanned;

use super::User;
use super::complaint::Complaint;

/// Checks one of `[[users]]`, which may have no password.
pub(super) fn read_user(
    name: &Spanned<String>,
    password: Option<&Spanned<String>>,
) -> Result<User, Complaint> {
    if let Err(error) = check_user_name(name.as_ref()) {
        return Err(Complaint::at(name, format!("{error}; write another name")));
    }
    let password = password.map(read_record).transpose()?;
    Ok(User::new(name.as_ref(), password))
}

fn read_record(written: &Spanned<String>) -> Result<Record, Complaint> {
    written.as_ref().parse().map_err(|error| {
        let message = match error {
            RecordError::PlainText => {
                "a password in plain text; write the record that `rantai passwd --hash` prints for it"
                    .to_owned()
            }
            error => format!("{error}; write one that `rantai passwd --hash` prints"),
        };
        Complaint::at(written, message)
    })
}

/// Adds the users of a password file. Users who are already in `users` get their passwords from it. Relative paths
/// start in the folder of `configuration`.
pub(super) fn join_password_file(
    users: &mut Vec<User>,
    written: &Spanned<PathBuf>,
    configuration: &Path,
) -> Result<(), Complaint> {
    let path = configuration.parent().unwrap_or(Path::new("")).join(written.as_ref());
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let message = format!("cannot read {shown}: {error}; `rantai passwd {shown} USER` creates the file");
        Complaint::at(written, message)
    })?;
    let wrong = |reason: String| Complaint::at(written, format!("{shown}: {reason}"));
    let records = PasswordFile::new(&text)
        .records()
        .map_err(|error| wrong(format!("line {}: {}", error.line, with_cause(&error.reason))))?;
    if records.is_empty() {
        return Err(wrong(format!("no user in it; `rantai passwd {shown} USER` adds one")));
    }
    let mut records: Vec<_> = records.into_iter().collect();
    records.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let in_configuration = users.len();
    for (name, record) in records {
        match users[..in_configuration].iter_mut().find(|user| user.name == name) {
            None => users.push(User::new(name, Some(record))),
            Some(user) if user.password.is_none() => user.password = Some(record),
            Some(_) => {
                return Err(wrong(format!(
                    "user `{name}` has a password in [[users]] too; remove one of the two"
                )));
            }
        }
    }
    Ok(())
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
