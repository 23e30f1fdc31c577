//! Output and exit codes of the commands.

use std::time::{Duration, Instant};

use rantai_client::session::{Filter, Publish};
use rantai_client::wire::Properties;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Bus, Server, bus, finish, rantai};
use super::users::are_on;

fn served(bus: &Bus, names: &[&str]) -> Server {
    served_with(bus, names, &[])
}

fn served_with(bus: &Bus, names: &[&str], options: &[&str]) -> Server {
    let mut node = bus.serve(&[names, options].concat());
    for name in names {
        node.wait_for(&format!("serving {name}"));
    }
    node
}

#[test]
fn results_are_printed_unchanged() {
    let bus = bus();
    let _node = served(&bus, &["calculator", "echo", "server"]);
    for (arguments, expected) in [
        (&["calculator.add", "2", "3"][..], "5\n"),
        (&["calculator.div", "a=2", "b=3"], "0.6666666666666666\n"),
        (&["calculator.sub", "2", "-3"], "5\n"),
        (&["server.welcomeMessage", "Bumi Manusia"], "Buku dengan judul Bumi Manusia berhasil dibeli!\n"),
        (&["server.welcomeMessage", ""], "Buku dengan judul  berhasil dibeli!\n"),
        (&["server.welcomeMessage", "1984"], "Buku dengan judul 1984 berhasil dibeli!\n"),
        (&["server.welcomeMessage", "本"], "Buku dengan judul 本 berhasil dibeli!\n"),
        (&["echo.echo", "[1,2]"], "[1,2]\n"),
        (&["echo.echo", "halo", "--json"], "\"halo\"\n"),
        (&["echo.rpc.ping", "--qos", "0"], "pong\n"),
        (&["echo.echo", "x", "--oneway"], ""),
    ] {
        let printed = bus.ok(&[&["call"], arguments].concat());
        assert_eq!(printed, expected, "{arguments:?}");
    }
}

#[test]
fn every_mistake_has_its_exit_code_and_says_what_to_do() {
    let bus = bus();
    let _node = served(&bus, &["calculator", "echo"]);
    for (arguments, code, texts) in [
        (&["call", "calculator.div", "2", "0"][..], 1, &["Division by zero"][..]),
        (&["call", "calculator"], 2, &["OBJECT.METHOD"]),
        (&["call", "calculater.add", "2", "3"], 5, &["calculater", "did you mean", "\"calculator\""]),
        (&["call", "nobody.at_all"], 5, &["nobody", "rantai ls"]),
        (&["call", "calculator.ad", "2", "3"], 5, &["did you mean", "\"add\""]),
        (&["call", "calculator.add", "two", "3"], 7, &["a: expected a number", "two"]),
        (&["call", "calculator.add", "2"], 7, &["b"]),
        (&["call", "calculator.add", "1", "2", "3"], 7, &["3"]),
        (&["call", "echo.delay", "5000", "x", "--timeout", "300ms"], 6, &["no answer within 0.3 s"]),
        (&["call", "echo.echo", "x", "--at", "elsewhere"], 5, &["elsewhere"]),
        (&["call", "echo.echo", "a=1", "2"], 2, &["name=value"]),
        (&["call", "echo.echo", "--timeout", "2 weeks"], 2, &["500ms"]),
        (&["describe", "ekho"], 5, &["did you mean", "\"echo\""]),
        (&["chain", "nobody", "x"], 5, &["nobody"]),
        (&["serve", "calculater"], 2, &["did you mean calculator?"]),
        (&["serve", "calculator"], 1, &["calculator is served by node"]),
        (&["call", "echo.echo", "--broker", "http://localhost"], 2, &["mqtt://"]),
        (&["call", "echo.echo", "--broker", "mqtt://127.0.0.1:1"], 3, &["127.0.0.1:1", "rantai up"]),
    ] {
        let done = bus.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        for text in texts {
            assert!(done.stderr.contains(text), "{arguments:?}: {text:?} in {done:?}");
        }
        assert!(done.stdout.is_empty(), "{arguments:?}: {done:?}");
    }
}

#[test]
fn errors_are_printed_as_json_on_request() {
    let bus = bus();
    let _node = served(&bus, &["calculator"]);
    let done = bus.run(&["call", "calculator.div", "2", "0", "--json"]);
    let error: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!((done.code, &error["error"]["code"]), (1, &json!(-32000)), "{done:?}");
    assert_eq!(error["error"]["data"]["kind"], "division_by_zero", "{done:?}");
    // The ledger or the named object is not served; or no broker listens.
    for (arguments, exit, code) in [
        (&["task", "submit", "calculator.add", "1", "2"][..], 5, json!(-32003)),
        (&["task", "status", "0"], 5, json!(-32003)),
        (&["describe", "nothing"], 5, json!(-32003)),
        (&["files", "nothing"], 5, json!(-32003)),
        (&["chain", "nothing", "x"], 5, json!(-32003)),
        (&["call", "calculator.add", "1", "2", "--broker", "mqtt://127.0.0.1:1"], 3, Value::Null),
        // Errors of the command line.
        (&["call", "calculator.add", "--timeout", "0"], 2, Value::Null),
        (&["call", "calculator.add", "--qos", "7"], 2, Value::Null),
        (&["task", "list", "--state", "x"], 2, Value::Null),
        (&["nothing"], 2, Value::Null),
    ] {
        let done = bus.run(&[arguments, &["--json"]].concat());
        let error: Value = serde_json::from_str(&done.stdout).expect("one line of JSON");
        assert_eq!((done.code, &error["error"]["code"]), (exit, &code), "{arguments:?}: {done:?}");
        assert!(error["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{done:?}");
        assert!(done.stderr.starts_with("error: "), "{done:?}");
    }
}

#[test]
fn calculations_are_json_too() {
    let bus = bus();
    let mut node = bus.serve(&["calculator"]);
    node.wait_for("serving calculator");
    let sum = bus.ok(&["calc", "--op", "add", "-a", "2", "-b", "3", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&sum).expect("JSON"),
        json!({"op": "add", "a": 2.0, "b": 3.0, "result": 5.0})
    );
    let failed = bus.run(&["calc", "--op", "div", "-a", "2", "-b", "0", "--json"]);
    let error: Value = serde_json::from_str(&failed.stdout).expect("one line of JSON");
    assert_eq!((failed.code, &error["error"]["code"]), (1, &json!("-32000")), "{failed:?}");
}

/// Cause: each of the four operations had the whole time.
#[test]
fn several_calculations_end_within_the_time_of_the_command() {
    let bus = bus();
    let mut node = bus.serve(&["calculator"]);
    node.wait_for("serving calculator");
    node.signal(Signal::STOP);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    for way in [&[][..], &["--via", "rest", "--url", &url], &["--via", "soap", "--url", &url]] {
        let began = Instant::now();
        let all = [&["calc", "--op", "all", "-a", "2", "-b", "3", "--timeout", "2"][..], way].concat();
        let done = bus.run(&all);
        assert!(done.code != 0 && began.elapsed() < Duration::from_secs(6), "{way:?}: {:?}", began.elapsed());
        assert_eq!(done.stderr.lines().count(), 4, "each operation is told: {done:?}");
    }
}

#[test]
fn restarted_node_replaces_the_entries_of_the_killed_one() {
    let bus = bus();
    let serve = || {
        let mut node = bus.serve(&["calculator", "echo", "--replica"]);
        let line = node.wait_for("serving calculator on node ");
        node.wait_for("serving echo");
        let name = line.rsplit(' ').next().expect("a name").to_owned();
        (node, name)
    };
    let (first, killed) = serve();
    let (_other, replica) = serve();
    first.kill();
    let (_next, successor) = serve();
    let prefix = |name: &str| name.rsplit_once('-').expect("a random end").0.to_owned();
    assert!(
        prefix(&killed) == prefix(&replica) && prefix(&killed) == prefix(&successor),
        "{killed} {successor}"
    );
    if are_on() {
        // The role `node` may not write the messages of another node.
        assert!(bus.ok(&["ls", "--all"]).contains(&killed));
        return;
    }
    let mut lamp = bus.serve(&["calculator", "--node", "lamp", "--replica"]);
    lamp.wait_for("serving calculator");
    lamp.kill();
    let mut listed = String::new();
    for _ in 0..300 {
        listed = bus.ok(&["ls", "--all"]);
        if !listed.contains(&killed) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!listed.contains(&killed), "{listed}");
    for kept in [&*replica, &*successor, "lamp"] {
        assert!(listed.contains(kept), "{kept}: {listed}");
    }
}

#[test]
fn ls_and_describe_show_objects_and_methods() {
    let bus = bus();
    let name = rantai_client::client::random_id("pi").to_string();
    let node = served_with(&bus, &["calculator", "echo"], &["--node", &name]);
    let listed: Value = serde_json::from_str(&bus.ok(&["ls", "--json"])).expect("JSON");
    let told: Vec<_> = listed.as_array().expect("a list").iter().map(|e| (&e["name"], &e["state"])).collect();
    assert_eq!(told, [(&json!("calculator"), &json!("served")), (&json!("echo"), &json!("served"))]);
    let printed = bus.ok(&["ls", "calc"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("NAME") && lines[1].contains(&name), "{printed}");
    let described = bus.ok(&["describe", "calculator"]);
    for text in ["add", "sub", "mul", "div", "number"] {
        assert!(described.contains(text), "{text}: {described}");
    }
    let document: Value = serde_json::from_str(&bus.ok(&["describe", "calculator", "--json"])).expect("JSON");
    assert!(document.to_string().contains("openrpc"), "{document}");
    node.kill();
    let mut state = String::new();
    for _ in 0..200 {
        state = bus.ok(&["ls", "calculator", "--all", "--json"]);
        if state.contains("lost") && !state.contains("served") {
            break;
        }
    }
    assert!(state.contains("lost") && !state.contains("served"), "{state}");
    let without = bus.run(&["ls"]);
    assert_eq!((without.code, &*without.stdout), (0, ""));
    let left_out = "2 entries of nodes that are gone are left out (--all lists them, `rantai forget NODE` clears them); \
                    nobody serves calculator, echo";
    assert!(without.stderr.contains(left_out), "{without:?}");
    assert_eq!(bus.ok(&["ls", "--json"]), "[]\n");
    let done = bus.run(&["call", "calculator.add", "2", "3"]);
    assert!(done.code == 5 && done.stderr.contains(&format!("its node {name} is lost")), "{done:?}");
}

/// The object is a minimal device, without `rpc.discover` and other built-in methods.
#[tokio::test]
async fn describe_lists_registered_methods_of_an_object_without_a_description() {
    let bus = bus();
    let device = bus.admin().await;
    let root = &bus.root;
    for (topic, payload) in [
        ("node/pi", r#"{"v":1,"state":"ready","epoch":"1"}"#),
        (
            "name/lamp/pi",
            r#"{"v":1,"object":"lamp","node":"pi","epoch":"1","settled":true,"methods":["on","off"]}"#,
        ),
    ] {
        let entry = Publish::new(format!("{root}/{topic}"), payload).retain();
        device.publish(entry).await.expect("taken");
    }
    let filter = Filter::new(format!("{root}/call/lamp/+"));
    let mut requests = device.subscribe(vec![filter]).await.expect("subscribed");
    let answering = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let topic = request.properties.response_topic.clone().expect("a reply topic");
            let correlation = request.properties.correlation.clone();
            let properties = Properties { correlation, ..Properties::default() };
            let error = r#"{"error":{"code":-32601,"message":"no such method"}}"#;
            device.publish(Publish::new(topic, error).properties(properties)).await.expect("taken");
        }
    });
    let described = tokio::task::spawn_blocking(move || bus.run(&["describe", "lamp"])).await.expect("run");
    assert_eq!(described.code, 5, "{described:?}");
    assert!(described.stderr.contains("the methods on, off"), "{described:?}");
    assert!(!described.stderr.contains("rantai describe"), "{described:?}");
    answering.abort();
}

#[test]
fn ls_and_watch_explain_empty_results() {
    let bus = bus();
    let nothing = format!("no objects on {}", bus.url);
    let told = |arguments: &[&str], expected: &str| {
        let done = bus.run(arguments);
        assert_eq!((done.code, &*done.stdout), (0, ""), "{arguments:?}: {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(expected), "{arguments:?}: {done:?}");
    };
    told(&["ls"], &nothing);
    assert_eq!(bus.ok(&["ls", "--json"]), "[]\n");
    let _node = served(&bus, &["calculator", "example.chainTopology.bandung"]);
    told(&["ls", "nosuch"], &nothing);
    let no_ledger = format!("no object \"tasks\" on {}", bus.url);
    for (arguments, expected) in [
        (&["watch", "nosuch"][..], &*format!("no object \"nosuch\" on {}", bus.url)),
        (&["task", "watch"], &*no_ledger),
        (&["watch", "calculater"], "did you mean calculator?"),
        (&["watch", "calculator", "hop"], "calculator has no event \"hop\"; it has none"),
        (&["watch", "example.chainTopology.bandung", "hup"], "it has hop"),
    ] {
        let mut watch = Server::spawn(&mut bus.command(arguments));
        watch.wait_for("watching ");
        assert!(watch.said()[0].contains(expected), "{arguments:?}: {:?}", watch.said());
        watch.signal(Signal::TERM);
        assert_eq!(watch.exit_code(), 0, "{arguments:?}: as by Ctrl-C");
    }
    let mut watch = Server::spawn(&mut bus.command(&["watch", "example.chainTopology.bandung", "hop"]));
    let line = watch.wait_for("");
    assert!(line.starts_with("watching "), "{line}");
}

#[test]
fn all_instances_answer() {
    let bus = bus();
    let names = ["a", "b"].map(|kind| rantai_client::client::random_id(kind).to_string());
    let _nodes = names.each_ref().map(|name| served_with(&bus, &["echo"], &["--replica", "--node", name]));
    let printed = bus.ok(&["call", "echo.echo", "x", "--all", "--timeout", "500ms"]);
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, names.each_ref().map(|name| format!("{name}: x")));
    // If none of them returns a result, the command fails.
    let failed = bus.run(&["call", "echo.nope", "x", "--all", "--timeout", "500ms"]);
    assert_eq!(failed.code, 5, "{failed:?}");
    assert_eq!(failed.stdout.lines().filter(|line| line.contains("-32601")).count(), 2, "{failed:?}");
    assert!(failed.stderr.contains("no result from any of 2 instances"), "{failed:?}");
    assert_eq!(bus.ok(&["call", "echo.echo", "x", "--at", &names[1]]), "x\n");
}

#[test]
fn a_call_of_all_instances_ends_with_the_last_of_them_and_prints_each_at_once() {
    let bus = bus();
    let names = ["a", "b"].map(|kind| rantai_client::client::random_id(kind).to_string());
    let nodes = names.each_ref().map(|name| served_with(&bus, &["echo"], &["--replica", "--node", name]));
    let began = Instant::now();
    let printed = bus.ok(&["call", "echo.echo", "x", "--all"]);
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert!(began.elapsed() < Duration::from_secs(15), "half of the timeout: {:?}", began.elapsed());
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (bytes, shown, json) in [(&b"text"[..], "text", "74657874"), (&[0xff, 0][..], "ff00", "ff00")] {
        std::fs::write(file.path(), bytes).expect("written");
        let input = ["call", "echo.bytes", "--all", "--input", file.path().to_str().expect("UTF-8")];
        let printed = bus.ok(&input);
        assert!(printed.lines().any(|line| line == format!("{}: {shown}", names[0])), "{printed}");
        let printed = bus.ok(&[&input[..], &["--json"]].concat());
        let line = serde_json::json!({"node": names[1], "hex": json}).to_string();
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
    }
    // One of them does not answer, and the user interrupts the command.
    nodes[1].signal(Signal::STOP);
    let mut call = Server::spawn(&mut bus.command(&["call", "echo.echo", "x", "--all"]));
    call.wait_for(&format!("{}: x", names[0]));
    std::thread::sleep(Duration::from_secs(1));
    assert!(call.is_running(), "{:?}", call.said());
    call.signal(Signal::INT);
    assert_eq!(call.exit_code(), 130, "{:?}", call.said());
    // The command does not wait for a lost node.
    let mut call = Server::spawn(&mut bus.command(&["call", "echo.echo", "x", "--all"]));
    call.wait_for(&format!("{}: x", names[0]));
    let [_first, second] = nodes;
    second.kill();
    let began = Instant::now();
    assert_eq!(call.exit_code(), 0, "{:?}", call.said());
    assert!(began.elapsed() < Duration::from_secs(15), "half of the timeout: {:?}", began.elapsed());
    let elsewhere = bus.run(&["call", "echo.echo", "x", "--at", "zz"]);
    let text = format!("echo is not on node zz; it is on {}\n", names[0]);
    assert!(elsewhere.code == 5 && elsewhere.stderr.ends_with(&text), "{elsewhere:?}");
}

#[test]
fn binary_parameters_and_results_use_files() {
    let bus = bus();
    let _node = served(&bus, &["echo"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bytes");
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    std::fs::write(&file, &bytes).expect("written");
    let mut command = bus.command(&["call", "echo.bytes", "--input"]);
    let output = command.arg(&file).output().expect("the binary runs");
    assert!(output.status.success() && output.stdout == bytes, "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&file, [0, 255]).expect("written");
    let printed = bus.ok(&["call", "echo.bytes", "--json", "--input", file.to_str().expect("UTF-8")]);
    assert_eq!(printed, "{\"hex\":\"00ff\"}\n");
}

#[test]
fn events_are_watched() {
    let bus = bus();
    let cities = ["bandung", "lembang", "subang"].map(|city| format!("example.chainTopology.{city}"));
    let _node = served(&bus, &cities.each_ref().map(String::as_str));
    let mut watch = Server::spawn(&mut bus.command(&["watch", &cities[0], "hop", "--count", "2", "--json"]));
    watch.wait_for("watching");
    bus.ok(&["chain", &cities[0], "hello"]);
    let line = watch.wait_for("\"hop\":1");
    assert!(line.contains("\"next\":\"lembang\""), "{line}");
    watch.wait_for("\"hop\":4");
    assert_eq!(watch.exit_code(), 0);
}

#[test]
fn up_is_broker_and_objects_in_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut up = Server::spawn(rantai().args(["up", "--port", "0", "--data-dir"]).arg(&data));
    let line = up.wait_for("listening on ");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    up.wait_for("ready");
    let done = finish(rantai().args(["call", "calculator.mul", "6", "7", "--broker", &url]));
    assert_eq!((done.code, &*done.stdout), (0, "42\n"), "{done:?}");
    let done = finish(rantai().args(["chain", "example.chainTopology.bandung", "", "--broker", &url]));
    assert_eq!(done.stdout.lines().count(), 4, "{done:?}");
    up.signal(Signal::INT);
    assert_eq!(up.exit_code(), 0);
    assert!(data.read_dir().expect("made").count() > 0, "what is retained was kept");
}

#[test]
fn help_has_examples() {
    for command in [
        "up", "broker", "serve", "ls", "describe", "call", "chain", "watch", "sub", "pub", "upcall",
        "insult", "bench", "calc", "demo",
    ] {
        let done = finish(rantai().args([command, "--help"]));
        assert_eq!(done.code, 0, "{command}");
        assert!(command == "demo" || done.stdout.contains("rantai "), "{command}: {}", done.stdout);
    }
    assert_eq!(finish(&mut rantai()).code, 2);
}
