//! Numbers by all ways to a method: the value arrives unchanged, or the error names the parameter.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::Root;
use rantai_nodes::Node;
use serde_json::json;

use super::foreign::Foreign;
use super::gateway::{Answer, Gateway, JSON, ask, gateway, get};
use super::process::{Bus, Done, bus};
use super::users::SERVING;

/// Returns its parameter.
#[interface]
trait Numbers {
    /// Returns an integer.
    #[method(read_only)]
    async fn whole(&self, n: i64) -> Result<i64, Fault>;

    /// Returns a number of double precision.
    #[method(read_only)]
    async fn double(&self, n: f64) -> Result<f64, Fault>;
}

struct Same;

impl Numbers for Same {
    async fn whole(&self, n: i64) -> Result<i64, Fault> {
        Ok(n)
    }

    async fn double(&self, n: f64) -> Result<f64, Fault> {
        Ok(n)
    }
}

/// Returned number, without the quotes of one beyond ±(2^53 − 1).
type Outcome = Result<String, String>;

fn by_rest(answer: &Answer) -> Outcome {
    let text = answer.body.trim_matches('"').to_owned();
    match answer.status {
        200 => Ok(text),
        422 => Err(answer.json()["error"]["message"].as_str().expect("a message").to_owned()),
        _ => panic!("{answer:?}"),
    }
}

fn by_soap(gateway: &Gateway, method: &str, number: &str) -> Outcome {
    let envelope = format!(
        "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>\
         <{method} xmlns='urn:rantai:numbers'><n>{number}</n></{method}></s:Body></s:Envelope>"
    );
    let answer = ask(&gateway.soap, "POST", "/numbers", &["Content-Type: text/xml"], envelope.as_bytes());
    let inside = |from: &str, to: &str| {
        let (_, rest) = answer.body.split_once(from)?;
        Some(rest.split_once(to)?.0.to_owned())
    };
    match (inside("Result>", "<"), inside("<faultstring>", "<")) {
        (Some(number), None) => Ok(number),
        (None, Some(message)) if answer.body.contains("soap:Client") => Err(message),
        _ => panic!("{answer:?}"),
    }
}

fn by_command(done: &Done) -> Outcome {
    match done.code {
        0 => Ok(done.stdout.trim().trim_matches('"').to_owned()),
        7 => Err(done.stderr.trim_start_matches("error: ").to_owned()),
        _ => panic!("{done:?}"),
    }
}

/// Passes a number to the method by each way; returns the results.
fn all_ways(bus: &Bus, gateway: &Gateway, method: &str, number: &str) -> Vec<(&'static str, Outcome)> {
    let path = format!("/objects/numbers/{method}");
    let post = |body: &str| by_rest(&ask(&gateway.rest, "POST", &path, &[JSON], body.as_bytes()));
    let query = format!("{path}?n={}", number.replace('+', "%2B"));
    let target = format!("numbers.{method}");
    let named = format!("n={number}");
    vec![
        ("GET", by_rest(&get(&gateway.rest, &query))),
        ("POST by name", post(&format!("{{\"n\": {number}}}"))),
        ("POST by position", post(&format!("[{number}]"))),
        ("POST of one value", post(number)),
        ("SOAP", by_soap(gateway, method, number)),
        ("call", by_command(&bus.run(&["call", &target, number]))),
        ("call by name", by_command(&bus.run(&["call", &target, &named]))),
        ("call --json", by_command(&bus.run(&["call", "--json", &target, number]))),
    ]
}

#[test]
fn a_number_arrives_as_it_was_written_or_its_parameter_is_named() {
    let bus = bus();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _node = runtime.block_on(async {
        let root = Root::new(&bus.root).expect("a root");
        let node = Node::builder(bus.address_for(SERVING)).root(root).connect().await.expect("a node");
        node.serve("numbers", NumbersObject(Same)).await.expect("free");
        node
    });
    let gateway = gateway(&bus, "");
    for (number, expected) in [
        ("5", Some("5")),
        ("5.0", Some("5")),
        ("1e2", Some("100")),
        ("-9007199254740991", Some("-9007199254740991")),
        ("9007199254740993", Some("9007199254740993")),
        ("-9007199254740993.0", Some("-9007199254740993")),
        ("9223372036854775807", Some("9223372036854775807")),
        ("9223372036854775808", None),
        ("18446744073709551617", None),
        ("5.5", None),
    ] {
        for (way, outcome) in all_ways(&bus, &gateway, "whole", number) {
            match (expected, outcome) {
                (Some(expected), Ok(came)) => assert_eq!(came, expected, "{number} by {way}"),
                (None, Err(message)) => assert!(message.starts_with("n: "), "{number} by {way}: {message}"),
                (_, outcome) => panic!("{number} by {way}: {outcome:?}"),
            }
        }
    }
    for (number, expected) in [
        ("5", Some(5.0)),
        ("0.1", Some(0.1)),
        ("2.638344616030823e-256", Some(2.638_344_616_030_823e-256)),
        ("1e17", Some(1e17)),
        ("9007199254740992", Some(9_007_199_254_740_992.0)),
        ("9007199254740994.0", Some(9_007_199_254_740_994.0)),
        ("9007199254740993", None),
        ("-9007199254740993.0", None),
        ("18446744073709551617", None),
    ] {
        for (way, outcome) in all_ways(&bus, &gateway, "double", number) {
            match (expected, outcome) {
                (Some(expected), Ok(came)) => assert_eq!(came.parse(), Ok(expected), "{number} by {way}"),
                (None, Err(message)) => {
                    assert!(
                        message.starts_with("n: ") && message.contains("2^53"),
                        "{number} by {way}: {message}"
                    );
                }
                (_, outcome) => panic!("{number} by {way}: {outcome:?}"),
            }
        }
    }
}

/// Regression: the numbers were rounded before they were sent.
#[test]
fn calc_refuses_numbers_that_it_would_round() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let rest = format!("http://{}", gateway.rest);
    let soap = format!("http://{}", gateway.soap);
    let ways = [&[][..], &["--via", "rest", "--url", &rest], &["--via", "soap", "--url", &soap]];
    for wrong in ["9007199254740993", "-9007199254740993.0", "nan", "inf", "1e999"] {
        let done = bus.run(&["calc", "--op", "add", "-a", wrong, "-b", "0"]);
        assert!(done.code == 2 && done.stderr.contains("-a <NUMBER>"), "{wrong}: {done:?}");
    }
    for way in ways {
        for (number, shown) in [("9007199254740992", "9007199254740992.0"), ("1e17", "1e+17")] {
            let done = bus.run(&[&["calc", "--op", "add", "-a", number, "-b", "0"][..], way].concat());
            assert_eq!(done.stdout, format!("add({shown},0.0) = {shown}\n"), "{way:?}: {done:?}");
        }
    }
}

/// An object in another language may return 5.0, or a large integer without quotes.
#[test]
fn results_of_other_implementations_are_written_by_the_contract() {
    let bus = bus();
    let method = |name: &str, of: &str| json!({"name": name, "params": [], "x-read-only": true, "result": {"name": "r", "schema": {"type": of}}});
    let discovered = json!({
        "openrpc": "1.3.2",
        "info": {"title": "foreign", "version": "1"},
        "methods": [method("five", "number"), method("large", "integer"), method("double", "number")],
    });
    let large = 9_007_199_254_740_993_u64;
    let _foreign = Foreign::serve(&bus, "foreign", &json!({}), move |method, _| match method {
        "rpc.discover" => (None, Ok(discovered.clone())),
        "five" => (None, Ok(json!(5.0))),
        _ => (None, Ok(json!(large))),
    });
    let gateway = gateway(&bus, "");
    let soap = |method: &str| {
        let envelope = format!(
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>\
             <{method} xmlns='urn:rantai:foreign'/></s:Body></s:Envelope>"
        );
        ask(&gateway.soap, "POST", "/foreign", &["Content-Type: text/xml"], envelope.as_bytes()).body
    };
    for (method, rest, text) in [
        ("five", "5", "5"),
        ("large", "\"9007199254740993\"", "9007199254740993"),
        ("double", "\"9007199254740993\"", "9007199254740993"),
    ] {
        assert_eq!(get(&gateway.rest, &format!("/objects/foreign/{method}")).body, rest, "{method}");
        let answer = soap(method);
        assert!(answer.contains(&format!("<{method}Result>{text}</{method}Result>")), "{method}: {answer}");
    }
}
