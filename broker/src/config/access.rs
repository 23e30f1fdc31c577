//! Users and access rules of a configuration file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rantai_access::{AclFile, IdPattern, Table, TableBuilder, TableError, UserRecord};
use serde::Deserialize;
use toml::Spanned;

use super::User;
use super::complaint::Complaint;
use super::roles::RoleSyntax;
use super::users::read_user;

/// A table of `[[users]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenUser {
    name: Spanned<String>,
    password: Option<Spanned<String>>,
    roles: Option<Vec<Spanned<String>>>,
    client_ids: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    acts_for: Vec<Spanned<String>>,
}

/// Keys that define the access rules.
pub(super) struct WrittenRules<R> {
    pub(super) anonymous_roles: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) acl_file: Option<Spanned<String>>,
    pub(super) hardened: bool,
    pub(super) roles: Vec<Spanned<R>>,
    pub(super) users: Vec<WrittenUser>,
}

/// Checks the users who may log in, without those of a password file.
pub(super) fn users(written: &[WrittenUser]) -> Result<Vec<User>, Complaint> {
    let mut seen = HashSet::new();
    let users = written.iter().map(|WrittenUser { name, password, .. }| {
        if !seen.insert(name.as_ref()) {
            let message = format!("user `{}` is given twice; remove one", name.as_ref());
            return Err(Complaint::at(name, message));
        }
        read_user(name, password.as_ref())
    });
    users.collect()
}

pub(super) fn anonymous(written: Option<Spanned<bool>>, users: &[User]) -> Result<bool, Complaint> {
    match written {
        None => Ok(users.is_empty()),
        Some(written) if users.is_empty() && !written.as_ref() => {
            let message = "nobody could connect; add [[users]] or a password_file, or leave the key out";
            Err(Complaint::at(&written, message))
        }
        Some(written) => Ok(written.into_inner()),
    }
}

/// Compiles the access rules; `None` if there are neither `users` nor an ACL file, and everything is allowed. Users of
/// a password file have the default roles. Relative paths start in the folder of the configuration `file`, whose
/// `text` is searched for the position of an error.
pub(super) fn rules<R: RoleSyntax>(
    written: WrittenRules<R>,
    users: &[User],
    roots: &[String],
    (text, file): (&str, &Path),
) -> Result<Option<Arc<Table>>, Complaint> {
    let WrittenRules { anonymous_roles, acl_file, hardened, roles, users: written_users } = written;
    if users.is_empty() && acl_file.is_none() {
        let needs = |key: &str| {
            format!(
                "`{key}` needs users or rules; add [[users]], password_file or acl_file, or leave the key out"
            )
        };
        let is_default = |written: &Vec<Spanned<String>>| written.iter().map(Spanned::as_ref).eq(R::DEFAULT);
        if let Some(written) = anonymous_roles.filter(|written| !is_default(written.as_ref())) {
            return Err(Complaint::at(&written, needs("anonymous_roles")));
        }
        if let Some(role) = roles.first() {
            return Err(Complaint::at(role, needs("roles")));
        }
        return Ok(None);
    }
    let mut table = Table::builder().hardened(hardened);
    let mut known = Vec::new();
    for role in R::ready_made() {
        // A role of the file with the same name replaces it.
        if !roles.iter().any(|written| written.as_ref().name() == role.name()) {
            table = compile(table, &role, roots).map_err(|(_, message)| Complaint { span: 0..0, message })?;
            known.push(role.name().to_owned());
        }
    }
    for written in &roles {
        let (span, role) = (written.span(), written.as_ref());
        if role.name().is_empty() {
            return Err(Complaint { span, message: "a role needs a name; write one".to_owned() });
        }
        if known.iter().any(|name| name == role.name()) {
            let message = format!("role `{}` is given twice; rename one", role.name());
            return Err(Complaint { span, message });
        }
        table = compile(table, role, roots).map_err(|(entry, message)| {
            // The span of a table may cover only its header.
            let behind = text.get(span.start..).unwrap_or_default();
            let quoted = ['"', '\''].iter().find_map(|quote| behind.find(&format!("{quote}{entry}{quote}")));
            let start = quoted.filter(|_| !entry.is_empty()).map(|at| span.start + at + 1);
            let span = start.map_or(span, |start| start..start + entry.len());
            Complaint { span, message }
        })?;
        known.push(role.name().to_owned());
    }
    let known_roles = |written: Option<&Vec<Spanned<String>>>| -> Result<Vec<String>, Complaint> {
        let Some(written) = written else {
            return Ok(R::DEFAULT.iter().map(ToString::to_string).collect());
        };
        let role = |role: &Spanned<String>| {
            if known.contains(role.as_ref()) {
                return Ok(role.as_ref().clone());
            }
            let message = format!("there is no role `{}`; roles are {}", role.as_ref(), known.join(", "));
            Err(Complaint::at(role, message))
        };
        written.iter().map(role).collect()
    };
    table = table.nobody_roles(known_roles(anonymous_roles.as_ref().map(Spanned::as_ref))?);
    for user in &written_users {
        let record = UserRecord::new(user.name.as_ref());
        let record = record.map_err(|error| Complaint::at(&user.name, error.to_string()))?;
        let record = record
            .roles(known_roles(user.roles.as_ref())?)
            .acts_for(user.acts_for.iter().map(|name| name.as_ref().clone()));
        table = table.user(match &user.client_ids {
            None => record,
            Some(written) => record.client_ids(client_ids(written)?),
        });
    }
    let is_written = |user: &User| written_users.iter().any(|written| *written.name.as_ref() == user.name);
    for user in users.iter().filter(|user| !is_written(user)) {
        let record = UserRecord::new(&user.name);
        let record = record.map_err(|error| Complaint { span: 0..0, message: error.to_string() })?;
        table = table.user(record.roles(known_roles(None)?));
    }
    if let Some(acl_file) = &acl_file {
        table = table.file(read_acl(acl_file, file)?);
    }
    let table = table.build().map_err(|error| {
        let of = match &error {
            TableError::ClientIds(conflict) => {
                written_users.iter().find(|user| user.name.as_ref() == conflict.user())
            }
            _ => None,
        };
        let span = of.or(written_users.first()).map_or(0..0, |user| user.name.span());
        Complaint { span, message: error.to_string() }
    })?;
    Ok(Some(Arc::new(table)))
}

/// Adds a role. The error contains the invalid entry and the reason.
fn compile<R: RoleSyntax>(
    table: TableBuilder,
    role: &R,
    roots: &[String],
) -> Result<TableBuilder, (String, String)> {
    let mut rules = Vec::new();
    for root in roots {
        let below = role.rules(root).map_err(|mistake| (mistake.entry, mistake.message))?;
        for rule in below {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    Ok(table.role(role.name(), rules))
}

fn client_ids(written: &[Spanned<String>]) -> Result<Vec<IdPattern>, Complaint> {
    let pattern = |text: &Spanned<String>| {
        let pattern = text.as_ref().parse::<IdPattern>();
        pattern.map_err(|error| Complaint::at(text, error.to_string()))
    };
    written.iter().map(pattern).collect()
}

fn read_acl(written: &Spanned<String>, file: &Path) -> Result<AclFile, Complaint> {
    let path = file.parent().unwrap_or(Path::new("")).join(written.as_ref());
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let message = format!("cannot read {}: {error}; name a file of mosquitto's ACL form", path.display());
        Complaint::at(written, message)
    })?;
    AclFile::parse(written.as_ref(), &text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Complaint::at(written, format!("{error}{cause}"))
    })
}
