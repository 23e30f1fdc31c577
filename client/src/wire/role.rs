//! Roles of users: which objects a user may call, serve and watch, converted to access rules for a broker.

use rantai_access::{Effect, Rule, RuleAccess, RuleFilter, Source, Syntax};
use serde::Deserialize;

use super::name::{MethodName, ObjectName, Root};

/// Built-in methods that are allowed with each method of a role, because proxies, `describe`, cancelling and streams use them.
const WITH_METHODS: [&str; 6] =
    ["rpc.ping", "rpc.info", "rpc.stats", "rpc.discover", "rpc.cancel", "rpc.more"];

/// What an adopted device publishes, below `{root}/device/{object}`.
const FROM_DEVICE: [&str; 3] = ["reply", "state", "event/+"];

/// Role in the form of `[[roles]]`.
///
/// Objects are written as names or prefixes (`calculator`, `example.*`, `*`), or as names with `%u` for the user's name
/// (`student.%u`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusRole {
    /// Name.
    pub name: String,
    /// Methods that may be called: `calculator.*`, `tasks.submit`, `*`. Single methods only in the plain form, because JSON-RPC
    /// hides the method from the broker.
    pub call: Vec<String>,
    /// Objects that may be served.
    pub serve: Vec<String>,
    /// Objects of adopted devices whose side the user is: it reads their calls, and writes their replies, states and events.
    pub device: Vec<String>,
    /// Objects whose events may be watched, apart from events to single clients.
    pub watch: Vec<String>,
    /// Whether all objects and `$SYS` may be watched.
    pub observe: bool,
    /// Whether everything is allowed.
    pub admin: bool,
    /// Whether its objects may publish replies on the public reply topic, for requests without a Response Topic.
    pub public_replies: bool,
}

/// Error of an entry of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role {role}: {key} = {entry:?} names no {expected}; write {example}")]
pub struct RoleError {
    role: String,
    key: &'static str,
    entry: String,
    expected: &'static str,
    example: &'static str,
}

impl RoleError {
    /// Entry as written.
    pub fn entry(&self) -> &str {
        &self.entry
    }
}

/// Collects the rules of a role below a root.
struct Compiler<'a> {
    role: &'a BusRole,
    root: &'a Root,
    entry: String,
    rules: Vec<Rule>,
}

impl BusRole {
    /// Returns the built-in roles: `caller`, `node`, `observer` and `admin`.
    pub fn ready_made() -> [Self; 4] {
        let all = || vec!["*".to_owned()];
        let role = |name: &str| Self { name: name.to_owned(), ..Self::default() };
        [
            Self { call: all(), ..role("caller") },
            Self { call: all(), serve: all(), ..role("node") },
            Self { observe: true, ..role("observer") },
            Self { admin: true, ..role("admin") },
        ]
    }

    /// Returns the rules of this role below a root.
    ///
    /// # Errors
    ///
    /// An entry is not an object or method.
    pub fn rules(&self, root: &Root) -> Result<Vec<Rule>, RoleError> {
        let mut rules = Compiler { role: self, root, entry: String::new(), rules: Vec::new() };
        rules.everybody();
        for entry in &self.call {
            let (object, method) = called(entry).ok_or_else(|| self.no_method(entry))?;
            rules.entry = format!("call = {entry:?}");
            rules.calls(object, method);
        }
        for entry in &self.serve {
            self.check_object("serve", entry)?;
            rules.entry = format!("serve = {entry:?}");
            rules.serves(entry);
        }
        for entry in &self.device {
            self.check_object("device", entry)?;
            rules.entry = format!("device = {entry:?}");
            rules.is_device(entry);
        }
        for entry in &self.watch {
            self.check_object("watch", entry)?;
            rules.entry = format!("watch = {entry:?}");
            rules.allow(RuleAccess::Read, &format!("{root}/event/{entry}/+"));
        }
        if self.observe {
            "observe = true".clone_into(&mut rules.entry);
            rules.allow(RuleAccess::Read, &format!("{root}/event/+/+"));
            rules.allow(RuleAccess::Read, "$SYS/#");
        }
        if self.admin {
            "admin = true".clone_into(&mut rules.entry);
            rules.allow(RuleAccess::ReadWrite, "#");
            rules.allow(RuleAccess::Read, "$share/+/#");
            rules.allow(RuleAccess::Read, "$SYS/#");
            rules.allow(RuleAccess::ReadWrite, "$CONTROL/#");
        }
        Ok(rules.rules)
    }

    fn check_object(&self, key: &'static str, entry: &str) -> Result<(), RoleError> {
        if is_object(entry) {
            return Ok(());
        }
        let (expected, example) =
            ("object", "a name such as calculator or student.%u, its beginning such as example.*, or *");
        Err(RoleError { role: self.name.clone(), key, entry: entry.to_owned(), expected, example })
    }

    fn no_method(&self, entry: &str) -> RoleError {
        let (expected, example) =
            ("method of an object", "calculator.add, calculator.* for all its methods, or *");
        RoleError { role: self.name.clone(), key: "call", entry: entry.to_owned(), expected, example }
    }
}

impl Compiler<'_> {
    /// Adds the rights of every role: to read replies and events to its own client id, and the registry.
    fn everybody(&mut self) {
        let root = self.root;
        "every role".clone_into(&mut self.entry);
        for below in ["reply/+/%c", "event/+/+/%c", "name/+/+", "node/+"] {
            self.allow(RuleAccess::Read, &format!("{root}/{below}"));
        }
    }

    fn calls(&mut self, object: &str, method: Option<&str>) {
        let root = self.root;
        let methods = match method {
            None => vec!["#"],
            Some(method) => std::iter::once(method).chain(WITH_METHODS).collect(),
        };
        for method in methods {
            for target in ["call", "at/+", "all"] {
                self.allow(RuleAccess::Write, &format!("{root}/{target}/{object}/{method}"));
            }
        }
        if self.role.public_replies {
            self.allow(RuleAccess::Read, &format!("{root}/reply/{object}"));
        }
    }

    fn serves(&mut self, object: &str) {
        let root = self.root;
        self.allow(RuleAccess::Read, &format!("$share/{object}/{root}/call/{object}/#"));
        self.allow(RuleAccess::Read, &format!("{root}/at/%c/#"));
        self.allow(RuleAccess::Read, &format!("{root}/all/{object}/#"));
        self.allow(RuleAccess::Write, &format!("{root}/name/{object}/%c"));
        self.allow(RuleAccess::Write, &format!("{root}/node/%c"));
        self.allow(RuleAccess::Write, &format!("{root}/event/{object}/#"));
        // A node that replaces the holder of a name asks it to yield.
        self.allow(RuleAccess::Write, &format!("{root}/at/+/{object}/rpc.yield"));
        // A node that adopts the device of the object.
        for below in FROM_DEVICE {
            self.allow(RuleAccess::Read, &format!("{root}/device/{object}/{below}"));
        }
        self.allow(RuleAccess::Write, &format!("{root}/device/{object}/call"));
        // The last link of a chain replies for the first, whose name is in the reply topic.
        self.allow(RuleAccess::Reply, &format!("{root}/reply/#"));
        if self.role.public_replies {
            self.allow(RuleAccess::Write, &format!("{root}/reply/{object}"));
        }
    }

    fn is_device(&mut self, object: &str) {
        let root = self.root;
        self.allow(RuleAccess::Read, &format!("{root}/device/{object}/call"));
        for below in FROM_DEVICE {
            self.allow(RuleAccess::Write, &format!("{root}/device/{object}/{below}"));
        }
    }

    fn allow(&mut self, access: RuleAccess, filter: &str) {
        let filter = RuleFilter::parse(filter, Syntax::Extended).expect("names have been checked");
        let source = Source::Role { role: self.role.name.as_str().into(), entry: self.entry.as_str().into() };
        let rule = Rule::new(Effect::Allow, access, filter, source);
        self.rules.push(rule.expect("groups are only read"));
    }
}

/// Parses an entry under `call`; no method means all methods.
fn called(entry: &str) -> Option<(&str, Option<&str>)> {
    if entry == "*" {
        return Some(("*", None));
    }
    // Built-in methods have a dot of their own.
    let built_in = entry.rfind(".rpc.").filter(|at| !entry[at + ".rpc.".len()..].contains('.'));
    let (object, method) = match built_in {
        Some(at) => (&entry[..at], &entry[at + 1..]),
        None => entry.rsplit_once('.')?,
    };
    let method = (method != "*").then_some(method);
    (is_object(object) && method.is_none_or(|method| MethodName::new(method).is_ok()))
        .then_some((object, method))
}

/// Checks whether a text is `*`, an object name (with `%u` for the user), or a prefix of one followed by `*`.
fn is_object(text: &str) -> bool {
    if text.contains("%u") {
        // Checked with a user name of one letter, and without a wildcard.
        return ObjectName::any(&text.replace("%u", "x")).is_ok();
    }
    match text.strip_suffix('*') {
        Some("") => true,
        // Checked with one more character.
        Some(before) => ObjectName::any(&format!("{before}x")).is_ok(),
        None => ObjectName::any(text).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_objects_and_methods() {
        for (entry, expected) in [
            ("*", Some(("*", None))),
            ("calculator.*", Some(("calculator", None))),
            ("tasks.submit", Some(("tasks", Some("submit")))),
            ("example.chain.1.process", Some(("example.chain.1", Some("process")))),
            ("example.*.*", Some(("example.*", None))),
            ("*.describe", Some(("*", Some("describe")))),
            ("echo.rpc.ping", Some(("echo", Some("rpc.ping")))),
            ("calculator", None),
            ("a/b.c", None),
            ("a.1", None),
            ("+.add", None),
            ("a*b.c", None),
            ("%c.add", None),
            ("student.%u.greet", Some(("student.%u", Some("greet")))),
            ("student.%u.*", Some(("student.%u", None))),
            ("student.%u*.greet", None),
        ] {
            assert_eq!(called(entry), expected, "{entry}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        let role = |call: &str, serve: &str| BusRole {
            name: "lab".to_owned(),
            call: vec![call.to_owned()],
            serve: vec![serve.to_owned()],
            ..BusRole::default()
        };
        let error = |role: BusRole| role.rules(&Root::default()).expect_err("no rules").to_string();
        assert_eq!(
            error(role("calculator", "*")),
            "role lab: call = \"calculator\" names no method of an object; write calculator.add, calculator.* for all its \
             methods, or *"
        );
        assert!(
            error(role("*", "a/b"))
                .starts_with("role lab: serve = \"a/b\" names no object; write a name such as")
        );
    }
}
