//! A client: typed calls, calls without the interface, time limits, and errors that say what is wrong.
//!
//! `cargo run -p rantai --example client`

use std::time::Duration;

use rantai::broker::Config;
use rantai::{Broker, Client, Code, Fault, Node, interface};
use serde_json::json;

/// Weather of cities.
#[interface]
pub trait Weather {
    /// The temperature in a city, in °C, or in °F.
    #[method(read_only)]
    async fn temperature(&self, city: String, fahrenheit: Option<bool>) -> Result<f64, Fault>;

    /// Takes longer than anybody waits.
    async fn forecast(&self, city: String) -> Result<String, Fault>;
}

struct Station;

impl Weather for Station {
    async fn temperature(&self, city: String, fahrenheit: Option<bool>) -> Result<f64, Fault> {
        let celsius = match city.as_str() {
            "Bandung" => 22.0,
            "Jakarta" => 31.0,
            _ => return Err(Fault::failed("no_such_city", format!("no station in {city}"))),
        };
        Ok(if fahrenheit == Some(true) { celsius * 1.8 + 32.0 } else { celsius })
    }

    async fn forecast(&self, _: String) -> Result<String, Fault> {
        tokio::time::sleep(Duration::from_mins(1)).await;
        Ok("rain".to_owned())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What the client talks to: a broker, and a node with one object (see service.rs).
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let node = Node::connect(&address).await?;
    node.serve("weather", WeatherObject(Station)).await?;

    // One connection for all calls. It reconnects by itself; clones share it.
    let client = Client::connect(&address).await?;

    // With the interface, the compiler checks the call. An `Option` at the end may be left out.
    let weather = WeatherProxy::new(&client, "weather");
    let celsius = weather.temperature("Bandung".to_owned(), None).await?;
    assert!((celsius - 22.0).abs() < 1e-9);
    println!("Bandung: {celsius} °C");

    // Without it, parameters are whatever serializes: a tuple is a list by position, a struct or map is by name.
    let object = client.object("weather");
    let fahrenheit: f64 = object.call("temperature", json!({"fahrenheit": true, "city": "Jakarta"})).await?;
    assert!((fahrenheit - 87.8).abs() < 1e-9);
    println!("Jakarta: {fahrenheit} °F");

    // Calls have a time limit, 30 s unless another is set. The node is told of it, and drops the method when it is over.
    let patient = WeatherProxy::from(client.object("weather").deadline(Duration::from_millis(200)));
    let error = patient.forecast("Bandung".to_owned()).await.expect_err("a time limit");
    assert_eq!(error.code(), Some(Code::TIMED_OUT));
    println!("forecast: {error}");

    // Errors have codes, on which programs decide, and data.
    let error = weather.temperature("Atlantis".to_owned(), None).await.expect_err("no such city");
    assert_eq!(error.fault().expect("the object's own error").data["kind"], "no_such_city");
    assert!(!error.is_retryable());
    println!("Atlantis: {error}");

    // A name that is nearly right comes with the right one.
    let error = object.call::<f64>("temprature", ("Bandung",)).await.expect_err("no such method");
    let fault = error.fault().expect("an error with data");
    assert_eq!((fault.code, &fault.data["did_you_mean"][0]), (Code::NO_SUCH_METHOD, &json!("temperature")));
    println!("temprature: {error}; did you mean {}?", fault.data["did_you_mean"][0]);

    let error =
        client.object("wether").call::<f64>("temperature", ("Bandung",)).await.expect_err("no object");
    let fault = error.fault().expect("an error with data");
    assert_eq!((fault.code, &fault.data["did_you_mean"][0]), (Code::UNKNOWN_OBJECT, &json!("weather")));
    println!("wether: {error}");

    client.close().await;
    Ok(())
}
