//! Configuration files: the documented one contains the defaults, and errors name the position and the correction.

mod hardened;
mod listeners;

use std::path::Path;
use std::time::Duration;

use rantai_access::{Action, Rule, Who};
use rantai_broker::{
    Config, Cost, Engine, HttpSettings, QueueDrops, QueueFull, QueueRule, Record, RoleMistake, RoleSyntax,
    User,
};
use serde::Deserialize;

const DOCUMENTED: &str = include_str!("../../../config/broker.toml");

/// Returns the error for an invalid configuration.
fn refused(text: &str) -> String {
    Config::from_toml(text, Path::new("broker.toml")).expect_err(text).to_string()
}

/// Returns the documented file with every commented default enabled: a `#` directly before a key or a table.
fn documented_defaults(with_users: bool) -> String {
    let lines = DOCUMENTED.lines().take_while(|line| with_users || !line.starts_with("#[["));
    // Keys that name files to read.
    let lines = lines.filter(|line| !line.starts_with("#password_file") && !line.starts_with("#acl_file"));
    let uncommented = lines.map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => key,
        _ => line,
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

fn parse(text: &str) -> Config {
    Config::from_toml_with::<AnyRole>(text, Path::new("broker.toml"))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Role with any keys and without rules: roles of a bus are defined outside the broker.
#[derive(Deserialize)]
struct AnyRole {
    name: String,
}

impl RoleSyntax for AnyRole {
    const DEFAULT: &'static [&'static str] = &["caller"];

    fn ready_made() -> Vec<Self> {
        ["caller", "admin"].map(|name| Self { name: name.to_owned() }).into()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self, _: &str) -> Result<Vec<Rule>, RoleMistake> {
        Ok(Vec::new())
    }
}

#[test]
fn the_documented_file_is_the_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/broker.toml");
    let read = Config::load(path).expect("it parses");
    assert!(read.source.is_some(), "to be read again");
    assert_eq!(Config { source: None, ..read }, Config::default());
    assert_eq!(parse(""), Config::default());
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let mut config = parse(&documented_defaults(false));
    // Keys without a default, or with one that depends on the disk.
    assert_eq!(config.data_dir.take().as_deref(), Some(Path::new("data")));
    assert_eq!(config.backup_dir.take().as_deref(), Some(Path::new("backups")));
    assert_eq!(config.limits.free_space_bytes.take(), Some(64 << 20));
    assert_eq!(config.http.take(), Some(HttpSettings::default()));
    assert_eq!(config, Config::default());
}

#[test]
fn every_key_is_documented() {
    let unknown =
        ["", "[limits]\n", "[http]\n"].map(|table| refused(&format!("{table}no_such_key = 1"))).concat();
    let names = unknown.lines().filter_map(|line| line.split_once("expected one of")).map(|(_, names)| names);
    let keys: Vec<_> = names.flat_map(|names| names.split('`').skip(1).step_by(2)).collect();
    assert_eq!(
        unknown.matches("expected one of").count() + unknown.matches("expected `listen` or").count(),
        3,
        "{unknown}"
    );
    for key in keys {
        let documented = DOCUMENTED
            .lines()
            .any(|line| line.trim_start_matches(['#', '[']).starts_with(key) && !line.starts_with("# "));
        assert!(documented, "config/broker.toml does not show `{key}`");
    }
}

#[test]
fn users_disable_anonymous_clients_by_default() {
    let config = parse(&documented_defaults(true).replace("anonymous = true", ""));
    assert!(!config.anonymous);
    let [User { name, password: Some(record), .. }] = &config.users[..] else { panic!("{:?}", config.users) };
    assert_eq!((&**name, record.verify(b"change me")), ("ada", Ok(true)));
    assert!(parse(&documented_defaults(true)).anonymous);
}

#[test]
fn every_key_is_parsed() {
    let config = parse(
        r#"
        listen = ["127.0.0.1:0", "[::1]:1884", "127.0.0.1:0"]
        data_dir = "/var/lib/rantai"
        engine = "rumqttd"
        bus_roots = ["rantai", "home/at/office"]
        sys_interval_s = 0
        http = { listen = "[::1]:0", connections = 2 }
        [limits]
        connections = 1
        connect_timeout_ms = 2
        packet_bytes = 256
        keep_alive_s = 3
        receive_maximum = 4
        in_flight = 5
        topic_aliases = 0
        session_expiry_s = 6
        outbox_bytes = 7
        queue_messages = 8
        queue_bytes = 9
        queue_qos0_bytes = 10
        queue_full = "drop"
        publish_wait_ms = 0
        queue_drops = "oldest"
        in_flight_bytes = 14
        total_in_flight_bytes = 46
        total_subscription_bytes = 47
        slow_reader_s = 15
        absent_messages = 16
        absent_bytes = 17
        subscriptions = 11
        retained = 12
        topic_levels = 13
        connections_per_address = 14
        handshakes_per_address = 15
        handshakes = 35
        packet_grace_ms = 16
        packet_bytes_per_s = 0
        answer_bytes = 17
        send_topic_aliases = 0
        topic_alias_bytes = 18
        guess_delay_ms = 0
        password_threads = 26
        password_queue = 27
        log_lines_per_s = 19
        user_properties = 0
        subscription_bytes = 18
        share_groups = 19
        share_groups_session = 20
        retained_bytes = 21
        retained_bytes_per_s = 48
        will_bytes = 22
        sessions = 23
        sessions_per_user = 24
        memory_bytes = 25
        grants = 26
        [[queues]]
        filter = "a/#"
        full = "refuse"
        [[queues]]
        filter = "b"
        full = "disconnect"
        "#,
    );
    assert_eq!(config.listen.len(), 3);
    assert_eq!(config.listen[1], "[::1]:1884".parse().expect("an address"));
    assert_eq!(config.data_dir.as_deref(), Some(Path::new("/var/lib/rantai")));
    assert_eq!(config.engine, Engine::Rumqttd);
    assert_eq!(config.bus_roots, ["rantai", "home/at/office"]);
    assert_eq!(config.sys_interval, Duration::ZERO);
    let listen = "[::1]:0".parse().expect("an address");
    assert_eq!(config.http, Some(HttpSettings { listen, connections: 2 }));
    assert_eq!(parse("[http]").http, Some(HttpSettings::default()));
    let rule = |filter: &str, full| QueueRule { filter: filter.into(), full };
    assert_eq!(config.queues, [rule("a/#", QueueFull::Refuse), rule("b", QueueFull::Disconnect)]);
    let limits = config.limits;
    assert_eq!(limits.queue_drops, QueueDrops::Oldest);
    assert_eq!(limits.in_flight_bytes, 14);
    assert_eq!(limits.retained_bytes_per_s, 48);
    assert_eq!((limits.total_in_flight_bytes, limits.total_subscription_bytes), (46, 47));
    assert_eq!(limits.slow_reader, Duration::from_secs(15));
    assert_eq!((limits.absent_messages, limits.absent_bytes), (16, 17));
    assert_eq!(limits.connections, 1);
    assert_eq!(limits.connect_timeout, Duration::from_millis(2));
    assert_eq!(limits.packet_bytes, 256);
    assert_eq!(limits.keep_alive, 3);
    assert_eq!(limits.receive_maximum, 4);
    assert_eq!(limits.in_flight, 5);
    assert_eq!(limits.topic_aliases, 0);
    assert_eq!(limits.session_expiry, Duration::from_secs(6));
    assert_eq!(limits.outbox_bytes, 7);
    assert_eq!(limits.queue_messages, 8);
    assert_eq!(limits.queue_bytes, 9);
    assert_eq!(limits.queue_qos0_bytes, 10);
    assert_eq!(limits.queue_full, QueueFull::Drop);
    assert_eq!(limits.publish_wait, Duration::ZERO);
    assert_eq!(limits.subscriptions, 11);
    assert_eq!(limits.retained, 12);
    assert_eq!(limits.topic_levels, 13);
    assert_eq!(limits.connections_per_address, 14);
    assert_eq!(limits.handshakes_per_address, 15);
    assert_eq!(limits.handshakes, 35);
    assert_eq!(limits.packet_grace, Duration::from_millis(16));
    assert_eq!(limits.packet_bytes_per_s, 0);
    assert_eq!(limits.answer_bytes, 17);
    assert_eq!(limits.send_topic_aliases, 0);
    assert_eq!(limits.topic_alias_bytes, 18);
    assert_eq!(limits.guess_delay, Duration::ZERO);
    assert_eq!((limits.password_threads, limits.password_queue), (26, 27));
    assert_eq!(limits.log_lines_per_s, 19);
    assert_eq!((limits.user_properties, limits.subscription_bytes), (0, 18));
    assert_eq!((limits.share_groups, limits.share_groups_session), (19, 20));
    assert_eq!((limits.retained_bytes, limits.will_bytes), (21, 22));
    assert_eq!((limits.sessions, limits.sessions_per_user, limits.memory_bytes), (23, 24, 25));
    assert_eq!(limits.grants, 26);
}

#[test]
fn an_error_shows_file_line_column_and_the_place() {
    let expected = "\
broker.toml:3:9: unknown field `conections`, expected one of";
    let told = refused("# a comment\nlimits.packet_bytes = 4096\nlimits. conections = 5\n");
    assert!(told.starts_with(expected), "{told}");
    let excerpt = "
   |
 3 | limits. conections = 5
   |         ^^^^^^^^^^";
    assert!(told.ends_with(excerpt), "{told}");
}

#[test]
fn the_caret_counts_characters_and_keeps_tabs() {
    let told = refused("listen = [ # é\n\t\"127.0.0.1:1\",\t\"é\", ]");
    assert_eq!(
        told,
        "broker.toml:2:17: no port; write \"host:port\", as in \"é:1883\"\n   |\n \
         2 | \t\"127.0.0.1:1\",\t\"é\", ]\n   | \t              \t^^^"
    );
}

/// All of a file that was no configuration was once printed, spaces up to the caret included.
#[test]
fn of_a_long_line_the_part_with_the_caret_is_shown() {
    for (text, marked) in [
        (format!("open = {}5{}", " ".repeat(10_000), " ".repeat(10_000)), "5"),
        (format!("open = '{}'", "x".repeat(10_000)), "'"),
        ("x".repeat(10_000), "x"),
    ] {
        let told = refused(&text);
        let [.., source, caret] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
        assert!(source.len() < 200 && caret.len() < 200, "{told}");
        let at = caret.find('^').expect("a caret");
        assert!(source[at..].starts_with(marked) || at == source.len(), "{told}");
    }
}

#[test]
fn each_error_names_the_correction() {
    // The text, the marked part, and a part of the error.
    let cases = [
        ("listen = []", "[]", "write at least one"),
        ("listen = ['127.0.0.1']", "'127.0.0.1'", "\"127.0.0.1:1883\""),
        ("listen = ['127.0.0.1:65536']", "'127.0.0.1:65536'", "1 to 65535, or 0 for a free one"),
        ("listen = ['no host:1']", "'no host:1'", "use an IP address"),
        ("listen = ['127.0.0.1:9', '127.0.0.1:9'] # 2", "'127.0.0.1:9'", "listed twice"),
        ("listen = 1883", "1883", "expected an array"),
        ("data_dir = ''", "''", "leave the key out"),
        ("backup_dir = ''", "''", "leave the key out"),
        ("backups_kept = 0", "0", "at least 1"),
        ("engine = 'mosquitto'", "'mosquitto'", "`rantai` or `rumqttd`"),
        ("anonymous = false", "false", "add [[users]]"),
        ("caller_topics = ['call/#']", "caller_topics", "write bus_roots = [\"rantai\"]"),
        ("http.listen = '9883'", "'9883'", "no port"),
        ("http.connections = 0", "0", "must be at least 1"),
        ("bus_roots = 'rantai'", "'rantai'", "expected an array"),
        ("bus_roots = ['']", "''", "levels of 1 to 64"),
        ("bus_roots = ['a/#']", "'a/#'", "levels of 1 to 64"),
        ("bus_roots = ['a', 'b', 'a/b']", "'a/b'", "belong to the root \"a\" too"),
        ("sys_interval_s = -1", "-1", "expected an integer from 0 to 4294967295"),
        ("users = [{ name = 'a' }, { name = 'a' }]", "'a'", "given twice"),
        ("users = [{ name = '' }]", "''", "at least one character"),
        ("users = [{ name = 'a--b' }]", "'a--b'", "client ids of the user"),
        ("limits.password_queue = 0", "0", "at least 1"),
        ("users = [{ name = 'a', roles = ['boss'] }]", "'boss'", "roles are admin"),
        ("users = [{ name = 'a', client_ids = ['*'] }]", "'*'", "its beginning and *"),
        ("users = [{ name = 'a' }, { name = 'c', client_ids = ['a'] }]", "'c'", "overlap; change one"),
        ("acl_file = 'no such file'", "'no such file'", "cannot read no such file"),
        ("anonymous_roles = ['admin']", "['admin']", "add [[users]], password_file or acl_file"),
        ("roles = [{ name = 'a', admin = true }]", "{ name = 'a', admin = true }", "add [[users]]"),
        ("roles = [{ name = 'a', call = [] }]", "call", "unknown field `call`"),
        ("limits.connections = 0", "0", "at least 1; leave the key out for 100000"),
        ("limits.connect_timeout_ms = 0", "0", "at least 1; leave the key out for 10000"),
        ("limits.packet_bytes = 255", "255", "at least 256"),
        ("limits.packet_bytes = 268435461", "268435461", "at most 268435460"),
        ("limits.keep_alive_s = 65536", "65536", "expected an integer from 0 to 65535"),
        ("limits.connections = -1", "-1", "expected an integer that is not negative"),
        ("limits = 1", "1", "expected a table"),
        ("limits.receive_maximum = 0", "0", "at least 1"),
        ("limits.queue_full = 'block'", "'block'", "expected one of `drop`, `disconnect`, `refuse`"),
        ("limits.queue_drops = 'some'", "'some'", "`newest` or `oldest`"),
        ("limits.absent_bytes = 0", "0", "at least 1"),
        ("queues = [{ filter = 'a#', full = 'drop' }]", "'a#'", "whole last level"),
        ("queues = [{ filter = 'a/#/b', full = 'drop' }]", "'a/#/b'", "whole last level"),
        ("queues = [{ filter = 'a/b+', full = 'drop' }]", "'a/b+'", "whole level"),
        ("queues = [{ filter = '', full = 'drop' }]", "''", "remove it"),
        ("queues = [{ filter = '$share/g/a', full = 'drop' }]", "'$share/g/a'", "follows `$share/NAME/`"),
        ("queues = [{ filter = \"a\\u0000\", full = 'drop' }]", "\"a\\u0000\"", "no NUL"),
        ("queues = [{ filter = 'a' }]", "{ filter = 'a' }", "missing field `full`"),
        ("limits.topic_levels = 0", "0", "at least 1"),
        ("limits = {", "", ""),
    ];
    assert_marked(&cases);
}

/// Asserts that each text is refused, with the marked part and a part of the error.
fn assert_marked(cases: &[(&str, &str, &str)]) {
    for &(text, marked, advice) in cases {
        let told = refused(text);
        assert!(told.starts_with("broker.toml:1:"), "{told}");
        assert!(told.contains(advice), "{text}: {told}");
        let caret = told.lines().last().expect("an excerpt");
        let column = caret.find('^').expect("a caret") - "   | ".len();
        let width = caret.matches('^').count();
        if !marked.is_empty() {
            assert_eq!(&text[column..column + width], marked, "{told}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load("/no/such/broker.toml").expect_err("there is none");
    assert_eq!(error.to_string(), "cannot read /no/such/broker.toml");
    assert!(std::error::Error::source(&error).is_some());
}

/// Errors of a configuration are logged, so they must not show passwords.
#[test]
fn a_password_in_plain_text_is_refused_and_not_shown() {
    for line in ["password = 'rahasia'", "password = \"rahasia\"", "password = rahasia", "password = 13579"] {
        let told = refused(&format!("[[users]]\nname = 'ada'\n{line}\n"));
        assert!(told.starts_with("broker.toml:3:12: ") && told.contains("password = …\n"), "{told}");
        assert!(!told.contains("rahasia") && !told.contains("13579"), "{told}");
        if line.contains(['\'', '"']) {
            assert!(told.contains("`rantai passwd --hash`"), "{told}");
        }
    }
    let damaged = refused("[[users]]\nname = 'ada'\npassword = '$7$101$c2FsdA=='\n");
    assert!(damaged.contains("damaged"), "{damaged}");
}

/// Parses a configuration in a folder with this password file.
fn with_password_file(passwords: &str, text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("passwords"), passwords).expect("written");
    let text = format!("password_file = 'passwords'\n{text}");
    Config::from_toml(&text, &folder.path().join("broker.toml")).map_err(|error| error.to_string())
}

#[test]
fn users_of_a_password_file_are_users_too() {
    let record = |password: &str| Record::new(password.as_bytes(), Cost::LOWEST).expect("hashed");
    let file = format!("ani:{}\n# more\nada:{}\n", record("a"), record("b"));
    let config = with_password_file(&file, "[[users]]\nname = 'ada'\n").expect("in order");
    assert!(!config.anonymous);
    let verified = config.users.iter().map(|user| {
        let record = user.password.as_ref().expect("a record");
        (&*user.name, record.verify(if user.name == "ada" { b"b" } else { b"a" }))
    });
    assert_eq!(verified.collect::<Vec<_>>(), [("ada", Ok(true)), ("ani", Ok(true))]);

    let twice = format!("[[users]]\nname = 'ada'\npassword = '{}'\n", record("c"));
    for (file, text, told) in [
        (&*file, &*twice, "user `ada` has a password in [[users]] too"),
        ("ada:rahasia\n", "", "line 1: the password of user \"ada\" is in plain text"),
        ("\nada\n", "", "line 2: expected user:record"),
        ("# nobody\n", "", "no user in it"),
    ] {
        let error = with_password_file(file, text).expect_err(told);
        assert!(error.contains(told) && error.contains("broker.toml:1:17"), "{error}");
        assert!(!error.contains("rahasia"), "{error}");
    }
    let missing = refused("password_file = 'no such file'\n");
    assert!(missing.contains("`rantai passwd no such file USER` creates the file"), "{missing}");
}

#[test]
fn rules_come_from_roles_and_from_the_acl_file_beside_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write("acl.conf", "topic read open/#\nuser bob\ntopic write sensors/#\n");
    let users = "[[users]]\nname = 'ada'\nroles = ['admin']\nacts_for = ['bob']\n\
                 [[users]]\nname = 'bob'\nclient_ids = ['lab-*']\n";
    write("broker.toml", &format!("anonymous = true\nacl_file = 'acl.conf'\n{users}"));
    let file = folder.path().join("broker.toml");
    let table = Config::load(&file).expect("a configuration").access.expect("rules");
    let may = |user: Option<&str>, action| table.decide(&Who { user, client_id: "c" }, action).is_allowed();
    assert!(may(Some("ada"), Action::Publish("anything")) && may(Some("bob"), Action::Publish("sensors/1")));
    assert!(!may(Some("bob"), Action::Publish("elsewhere")) && !may(None, Action::Publish("open/door")));
    assert!(may(None, Action::Subscribe("open/door")));
    assert_eq!((table.reserved_for("ada--1"), table.reserved_for("lab-7")), (Some("ada"), Some("bob")));
    assert!(
        table.may_act_for("ada", "bob")
            && !table.may_act_for("ada", "eve")
            && !table.may_act_for("bob", "ada")
    );
    write("acl.conf", "topic read open/#\ntopc x\n");
    let error = Config::load(&file).expect_err("a mistake in the ACL file").to_string();
    assert!(error.contains("acl.conf:2: cannot read") && error.contains("^^^^"), "{error}");
}
