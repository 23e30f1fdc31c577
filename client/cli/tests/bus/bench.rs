//! `rantai bench`: its counts are correct, and its reports are readable for people and programs.

use std::time::Duration;

use rantai_client::session::Filter;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Bus, Done, PATIENCE, Server, bus, own};

fn served(bus: &Bus, names: &[&str], options: &[&str]) -> Server {
    let mut node = bus.serve(&[names, options].concat());
    for name in names {
        node.wait_for(&format!("serving {name}"));
    }
    node
}

fn bench(bus: &Bus, arguments: &[&str]) -> Done {
    bus.run(&[&["bench"], arguments].concat())
}

/// Runs a benchmark that must end with this code; returns its report.
fn report_of(bus: &Bus, arguments: &[&str], code: i32) -> Value {
    let done = bench(bus, &[arguments, &["--json"]].concat());
    assert_eq!(done.code, code, "{arguments:?}: {done:?}");
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {done:?}"))
}

/// Returns the number of calls in the histogram that took longer than this.
fn longer_than(told: &Value, microseconds: f64) -> u64 {
    let buckets = told["histogram"].as_array().expect("a list").windows(2);
    let longer = buckets.filter(|two| two[0]["up_to_us"].as_f64().expect("a time") >= microseconds);
    longer.map(|two| two[1]["count"].as_u64().expect("a count")).sum()
}

fn executed(bus: &Bus) -> u64 {
    let stats: Value = serde_json::from_str(&bus.ok(&["call", "echo.rpc.stats", "--json"])).expect("JSON");
    stats["methods"]["echo"]["calls"].as_u64().unwrap_or(0)
}

#[test]
fn calls_are_made_as_often_as_was_asked_for() {
    let bus = bus();
    let name = rantai_client::client::random_id("node").to_string();
    let _node = served(&bus, &["echo", "calculator"], &["--node", &name]);
    let report = report_of(&bus, &["call", "--count", "300", "--clients", "2", "--warmup", "0"], 0);
    assert_eq!(
        (&report["count"], &report["succeeded"], &report["failed"]),
        (&json!(300), &json!(300), &json!(0))
    );
    assert_eq!(executed(&bus), 300, "the object has seen as many");
    assert_eq!(report["nodes"], json!({&name: 300}));
    assert_eq!((&report["settings"]["in_flight"], &report["settings"]["clients"]), (&json!(64), &json!(2)));
    for figure in ["throughput", "p50_us", "p90_us", "p99_us", "max_us"] {
        assert!(report["figures"][figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report}");
    }
    let report =
        report_of(&bus, &["call", "calculator.add", "2", "3", "--duration", "300ms", "--qos", "0"], 0);
    let seconds = report["seconds"].as_f64().expect("seconds");
    assert!((0.3..5.0).contains(&seconds) && report["succeeded"].as_u64() > Some(0), "{report}");
}

#[test]
fn bench_report_fits_80_columns() {
    let bus = bus();
    let _node = served(&bus, &["echo"], &[]);
    let done = bench(&bus, &["call", "--count", "500"]);
    assert_eq!(done.code, 0, "{done:?}");
    for text in ["Total requests    500\n", "Total time", "Throughput", "p50", "p90", "p99", "max", "####"] {
        assert!(done.stdout.contains(text), "{text:?} in {}", done.stdout);
    }
    let plain = |line: &str| line.len() < 80 && line.chars().all(|c| c.is_ascii() && !c.is_control());
    // The first line contains the broker's address.
    assert!(done.stdout.lines().skip(1).all(plain), "{}", done.stdout);
}

#[tokio::test]
async fn stall_of_an_object_is_counted_for_all_waiting_calls() {
    let bus = bus();
    let node = served(&bus, &["echo"], &[]);
    let arguments =
        ["call", "--rate", "100", "--duration", "3s", "--warmup", "0", "--in-flight", "4", "--json"];
    let mut command = bus.command(&[&["bench"], &arguments[..]].concat());
    node.signal(Signal::STOP);
    // The stall is counted from the first call, independent of the start of the program.
    let client = bus.admin().await;
    let requests = Filter::new(format!("{}/call/echo/#", client.root()));
    let mut requests = client.subscribe(vec![requests]).await.expect("granted");
    let run = command.spawn().expect("the binary runs");
    tokio::time::timeout(PATIENCE, requests.next()).await.expect("in time").expect("a request");
    tokio::time::sleep(Duration::from_millis(800)).await;
    node.signal(Signal::CONT);
    let output = run.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // A busy machine may not catch up by the end; calls that were due and not begun are counted, and no others failed.
    let not_begun = report["errors"]["not_begun"]["count"].as_u64().unwrap_or(0);
    assert_eq!((&report["count"], &report["failed"]), (&json!(300), &json!(not_begun)), "{report}");
    // At most four calls were in flight; those that waited for their turn were delayed as well.
    assert!(longer_than(&report, 200_000.0) >= 15, "{report}");
    assert!(report["late_us"]["max"].as_f64() > Some(200_000.0), "{report}");
}

#[test]
fn errors_are_counted_by_kind_and_only_failures_fail() {
    let bus = bus();
    let _node = served(&bus, &["echo", "calculator"], &[]);
    for (arguments, kind) in [
        (&["call", "calculator.div", "2", "0"][..], "failed"),
        (&["call", "calculator.add", "2"], "wrong_parameters"),
        (&["call", "calculator.ad", "2", "3"], "no_such_method"),
        (&["call", "nobody.at_all"], "unknown_object"),
        (&["call", "echo.delay", "5000", "x", "--timeout", "200ms"], "timed_out"),
        (&["chain", "nobody"], "unknown_object"),
    ] {
        let options = ["--count", "8", "--in-flight", "4", "--warmup", "0"];
        let report = report_of(&bus, &[arguments, &options].concat(), 1);
        assert_eq!(report["errors"][kind]["count"], 8, "{arguments:?}: {report}");
        assert_eq!((&report["succeeded"], &report["throughput"]), (&json!(0), &json!(0.0)));
    }
    let done = bench(&bus, &["call", "calculator.div", "2", "0", "--count", "3"]);
    assert!(done.stdout.contains("3  failed: Division by zero"), "{done:?}");
    assert!(done.stderr.contains("all 3 calls failed"), "{done:?}");
    for wrong in [
        &["call", "calculator"][..],
        &["call", "--rate", "0"],
        &["call", "--count", "0"],
        &["call", "--fail-below", "0.9"],
        &["call", "--compare", "/nowhere/run.json"],
        &["call", "--clients", "1000", "--in-flight", "10000"],
        &["pub", "--size", "19"],
    ] {
        assert_eq!(bench(&bus, wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(bench(&bus, &["call", "--broker", "mqtt://127.0.0.1:1"]).code, 3);
}

#[test]
fn bench_reports_errors_when_the_broker_goes_away() {
    let mut bus = own();
    let _node = served(&bus, &["echo"], &[]);
    let options =
        ["--duration", "1500ms", "--timeout", "500ms", "--in-flight", "4", "--json", "--warmup", "0"];
    let run = bus.command(&[&["bench", "call"], &options[..]].concat()).spawn().expect("the binary runs");
    while executed(&bus) < 10 {}
    bus.broker.take().expect("our own").kill();
    let output = run.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "some calls succeeded: {report}");
    assert!(report["errors"]["lost"]["count"].as_u64() >= Some(1), "{report}");
    let (count, succeeded, failed) = (&report["count"], &report["succeeded"], &report["failed"]);
    let sum = succeeded.as_u64().zip(failed.as_u64()).map(|(succeeded, failed)| succeeded + failed);
    assert!(sum == count.as_u64() && succeeded.as_u64() >= Some(10), "{report}");
    assert!(report["seconds"].as_f64() >= Some(1.5), "the time without a broker counts: {report}");
}

#[test]
fn ctrl_c_ends_bench_early_with_a_report() {
    let bus = bus();
    let _node = served(&bus, &["echo"], &[]);
    let options = ["--count", "1000000000", "--warmup", "0", "--json"];
    let mut run = Server::spawn(&mut bus.command(&[&["bench", "call"], &options[..]].concat()));
    while executed(&bus) < 100 {}
    run.signal(Signal::INT);
    let line = run.wait_for("\"bench\":\"call\"");
    assert_eq!(run.exit_code(), 0);
    let report: Value = serde_json::from_str(&line).expect("JSON");
    assert!(report["interrupted"] == json!(true) && report["succeeded"].as_u64() >= Some(100), "{report}");
    assert_eq!(report["failed"], 0, "calls under way were waited for");
}

#[test]
fn run_is_compared_with_a_saved_one() {
    let bus = bus();
    let _node = served(&bus, &["echo"], &[]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("run.json");
    let file = file.to_str().expect("UTF-8");
    let slow = ["call", "echo.delay", "20", "x", "--count", "10", "--in-flight", "1", "--warmup", "0"];
    report_of(&bus, &[&slow[..], &["--save", file]].concat(), 0);
    let fast = ["call", "--count", "100", "--warmup", "0", "--compare", file, "--fail-below", "0.9"];
    let faster = report_of(&bus, &fast, 0);
    assert!(faster["compared"]["ratios"]["throughput"].as_f64() > Some(1.0), "{faster}");
    assert!(faster["compared"]["differences"].to_string().contains("echo.delay"), "{faster}");
    report_of(&bus, &["call", "--count", "100", "--warmup", "0", "--save", file], 0);
    let slower = bench(&bus, &[&slow[..], &["--compare", file, "--fail-below", "0.5"]].concat());
    assert_eq!(slower.code, 1, "{slower:?}");
    assert!(slower.stdout.contains("Compared with") && slower.stdout.contains("ratio"), "{slower:?}");
    assert!(slower.stderr.contains("throughput is 0.0") && slower.stderr.contains("0.5"), "{slower:?}");
    assert_eq!(bench(&bus, &[&slow[..], &["--compare", file]].concat()).code, 0, "nothing was asked of it");
}

#[test]
fn bench_chain_trips_end_at_their_stop_or_after_all_links() {
    let bus = bus();
    let cities = ["bandung", "lembang", "subang"].map(|city| format!("example.chainTopology.{city}"));
    let names = cities.each_ref().map(|city| (city, rantai_client::client::random_id("node").to_string()));
    let _nodes = names.each_ref().map(|(city, name)| served(&bus, &[city.as_str()], &["--node", name]));
    for (stop, last) in [(None, 0), (Some("subang"), 2), (Some("bandung"), 0)] {
        let mut arguments = vec!["chain", &cities[0], "--count", "50", "--warmup", "0"];
        arguments.extend(stop);
        let report = report_of(&bus, &arguments, 0);
        assert_eq!(report["nodes"], json!({&names[last].1: 50}), "{stop:?}: who ends a trip answers");
    }
}

#[test]
fn messages_are_delivered_to_every_subscriber() {
    let bus = bus();
    for (publishers, subscribers, qos) in [("1", "1", "1"), ("1", "3", "1"), ("3", "1", "0"), ("2", "2", "1")]
    {
        let arguments = ["pub", "--publishers", publishers, "--subscribers", subscribers, "--qos", qos];
        let options = ["--count", "400", "--in-flight", "8", "--size", "100"];
        let report = report_of(&bus, &[&arguments[..], &options].concat(), 0);
        assert_eq!((&report["succeeded"], &report["failed"]), (&json!(400), &json!(0)), "{report}");
        let each: f64 = subscribers.parse().expect("a number");
        assert_eq!(report["figures"]["deliveries"], json!(400.0 * each), "{report}");
        assert!(report["figures"].get("out_of_order").is_none(), "{report}");
        assert_eq!(report["delivery_us"].is_object(), each > 1.0, "{report}");
    }
}

#[test]
fn messages_that_do_not_arrive_are_lost() {
    let bus = own();
    let options = ["--count", "2", "--timeout", "300ms", "--warmup", "0", "--in-flight", "1"];
    // Nobody may publish on this topic, so that nothing arrives.
    let report = report_of(&bus, &[&["pub", "--topic", "$SYS/bench"][..], &options].concat(), 1);
    let errors = report["errors"].as_object().expect("an object");
    assert_eq!(errors.values().filter_map(|error| error["count"].as_u64()).sum::<u64>(), 2, "{report}");
}

#[test]
fn messages_of_another_run_are_counted_as_foreign() {
    let bus = bus();
    let topic = format!("{}/shared", bus.root);
    let options = ["bench", "pub", "--topic", &topic, "--duration", "1s", "--in-flight", "1", "--json"];
    let runs = [(), ()].map(|()| bus.command(&options).spawn().expect("the binary runs"));
    let mut foreign = 0.0;
    for run in runs {
        let output = run.wait_with_output().expect("it ends");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&report["failed"], &report["figures"]["deliveries"]),
            (&json!(0), &json!(report["succeeded"].as_f64()))
        );
        foreign += report["figures"]["foreign"].as_f64().unwrap_or(0.0);
    }
    assert!(foreign > 0.0, "they met");
}

#[test]
fn tasks_are_stored_and_carried_out() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("nodes.toml");
    let objects =
        "[tasks]\nfile = \"tasks.redb\"\n[[echo]]\nname = \"echo\"\n[[calculator]]\nname = \"calculator\"\n";
    std::fs::write(&config, objects).expect("written");
    let config = config.to_str().expect("UTF-8");
    let _node = served(&bus, &["tasks", "echo", "calculator"], &["--config", config]);
    let report = report_of(&bus, &["task", "--count", "60", "--in-flight", "8", "--warmup", "0"], 0);
    assert_eq!((&report["succeeded"], &report["failed"]), (&json!(60), &json!(0)), "{report}");
    assert_eq!(executed(&bus), 60, "each was carried out");
    for figure in ["stored_per_second", "ended_per_second"] {
        assert!(report["figures"][figure].as_f64() > Some(0.0), "{figure}: {report}");
    }
    assert!(report["stored_us"]["p50"].as_f64() < report["latency_us"]["p50"].as_f64(), "{report}");
    let stored =
        report_of(&bus, &["task", "nobody.at_all", "--stored-only", "--count", "50", "--warmup", "0"], 0);
    assert_eq!(stored["succeeded"], 50, "{stored}");
    assert!(stored["figures"].get("ended_per_second").is_none(), "{stored}");
    let queued: Value =
        serde_json::from_str(&bus.ok(&["task", "list", "--state", "queued", "--json"])).expect("JSON");
    assert_eq!(queued.as_array().map(Vec::len), Some(50), "they are in the ledger");
    let options = ["--count", "5", "--in-flight", "5", "--warmup", "0", "--timeout", "1s"];
    let failed = report_of(&bus, &[&["task", "calculator.div", "2", "0"][..], &options].concat(), 1);
    assert_eq!(failed["errors"]["task_failed"]["count"], 5, "{failed}");
    let waiting = report_of(&bus, &[&["task", "nobody.at_all"][..], &options].concat(), 1);
    assert_eq!(waiting["errors"]["not_ended"]["count"], 5, "{waiting}");
}

#[test]
fn bench_file_fetches_repeatedly() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let (shared, fetched) = (directory.path().join("shared"), directory.path().join("fetched"));
    std::fs::create_dir(&shared).expect("made");
    std::fs::create_dir(&fetched).expect("made");
    std::fs::write(shared.join("big.bin"), vec![7; 1 << 20]).expect("written");
    let config = directory.path().join("nodes.toml");
    std::fs::write(&config, "[[files]]\nname = \"books\"\nfolder = \"shared\"\nquota_bytes = 10000000\n")
        .expect("written");
    let _node = served(&bus, &["books"], &["--config", config.to_str().expect("UTF-8")]);
    let output = ["--output", fetched.to_str().expect("UTF-8")];
    let fetch = ["file", "books", "big.bin", "--count", "6", "--in-flight", "2", "--warmup", "0"];
    let report = report_of(&bus, &[&fetch[..], &output].concat(), 0);
    assert_eq!((&report["succeeded"], &report["figures"]["mib"]), (&json!(6), &json!(6.0)), "{report}");
    let (rate, seconds) = (&report["figures"]["mib_per_second"], &report["seconds"]);
    let product = rate.as_f64().zip(seconds.as_f64()).map(|(rate, seconds)| (rate * seconds).round());
    assert_eq!(product, Some(6.0), "{report}");
    assert_eq!(fetched.read_dir().expect("still there").count(), 0, "nothing is left behind");
    let missing = report_of(&bus, &["file", "books", "other.bin", "--count", "2", "--warmup", "0"], 1);
    assert_eq!((&missing["failed"], &missing["figures"]["mib"]), (&json!(2), &json!(0.0)), "{missing}");
}

#[test]
fn replicas_share_the_calls_and_end_with_the_run() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("nodes.toml");
    let objects =
        "node = \"pi\"\n[[echo]]\nname = \"worker\"\nconcurrent = 50\n[[calculator]]\nname = \"other\"\n";
    std::fs::write(&config, objects).expect("written");
    let config = config.to_str().expect("UTF-8");
    let arguments =
        ["replicas", "worker.delay", "5", "x", "--replicas", "1,3", "--config", config, "--with", "other"];
    let report = report_of(
        &bus,
        &[&arguments[..], &["--count", "300", "--in-flight", "30", "--warmup", "0"]].concat(),
        0,
    );
    let runs = report["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 2, "{report}");
    for (run, replicas) in runs.iter().zip([1, 3]) {
        assert_eq!((&run["replicas"], &run["succeeded"]), (&json!(replicas), &json!(300)), "{report}");
        let nodes = run["nodes"].as_object().expect("an object");
        assert_eq!(nodes.len(), replicas, "every node had its part: {report}");
        assert!(nodes.keys().all(|name| name.contains("replica-")), "{report}");
    }
    assert_eq!(report["figures"]["speedup_1"], 1.0, "{report}");
    for figure in ["throughput_1", "throughput_3", "speedup_3", "p50_us_3"] {
        assert!(report["figures"][figure].as_f64() > Some(0.0), "{figure}: {report}");
    }
    assert_eq!(bus.ok(&["ls", "--json"]).trim(), "[]", "they have ended in order");
    let text = bench(&bus, &[&arguments[..], &["--count", "30", "--warmup", "0"]].concat());
    assert!(text.code == 0 && text.stdout.contains("Replicas Total requests"), "{text:?}");
    assert!(text.stdout.lines().skip(1).all(|line| line.len() < 80), "{text:?}");
}

#[test]
fn replicas_that_cannot_be_measured_have_clear_errors() {
    let bus = bus();
    let node = served(&bus, &["echo"], &["--replica"]);
    let taken = bench(&bus, &["replicas", "--count", "1"]);
    assert!(taken.code == 1 && taken.stderr.contains("echo is served by node"), "{taken:?}");
    drop(node);
    let unknown = bench(&bus, &["replicas", "ekho.echo", "--count", "1"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("did you mean echo?"), "{unknown:?}");
    assert_eq!(bench(&bus, &["replicas", "--replicas", "0"]).code, 2);
    assert_eq!(bench(&bus, &["replicas", "--config", "/nowhere/nodes.toml"]).code, 2);
}

#[test]
fn ctrl_c_ends_the_replicas_too() {
    let bus = bus();
    let options = ["--replicas", "2,3", "--count", "1000000000", "--warmup", "0", "--json"];
    let mut run = Server::spawn(&mut bus.command(&[&["bench", "replicas"], &options[..]].concat()));
    while bus.run(&["call", "echo.echo", "x"]).code != 0 {}
    while executed(&bus) < 100 {}
    run.signal(Signal::INT);
    let line = run.wait_for("\"bench\":\"replicas\"");
    assert_eq!(run.exit_code(), 0);
    let report: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&report["interrupted"], report["runs"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    assert_eq!(bus.ok(&["ls", "--json"]).trim(), "[]", "they have ended in order");
}

#[test]
fn replicas_end_when_their_parent_process_is_killed() {
    let bus = bus();
    let options = ["--replicas", "2", "--count", "1000000000", "--warmup", "0"];
    let run = Server::spawn(&mut bus.command(&[&["bench", "replicas"], &options[..]].concat()));
    while bus.run(&["call", "echo.echo", "x"]).code != 0 {}
    run.kill();
    let deadline = std::time::Instant::now() + super::process::PATIENCE;
    while bus.ok(&["ls", "--json"]).trim() != "[]" {
        assert!(std::time::Instant::now() < deadline, "{}", bus.ok(&["ls"]));
    }
}

#[test]
fn insults_are_measured_on_several_workers_with_one_store() {
    let bus = bus();
    for (more, method) in [(&[][..], "add_insult"), (&["--filter"], "add_text")] {
        let options = ["insult", "--replicas", "1,2", "--count", "300", "--warmup", "0", "--json"];
        let done = bench(&bus, &[&options[..], more].concat());
        assert_eq!(done.code, 0, "{done:?}");
        let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
        assert!(report["what"].as_str().expect("a target").ends_with(method), "{report}");
        for run in report["runs"].as_array().expect("runs") {
            assert_eq!(run["succeeded"], 300, "{run}");
        }
        assert!(report["figures"]["speedup_2"].is_number(), "{report}");
        assert_eq!(bus.ok(&["ls", "--json"]).trim(), "[]", "the store has ended too");
    }
    let shown = bench(&bus, &["insult", "--replicas", "1", "--count", "100", "--warmup", "0"]);
    assert!(shown.stdout.contains("Total requests"), "{shown:?}");
}
