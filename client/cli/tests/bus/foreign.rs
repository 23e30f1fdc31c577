//! Object of another implementation, whose replies are chosen by the test.

use std::thread::JoinHandle;

use rantai_client::session::{Filter, Message, Publish, QoS};
use rantai_client::wire::Properties;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::process::Bus;

/// Served object; stops when dropped.
pub(crate) struct Foreign {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Event to publish for a request before it is answered: name and value.
pub(crate) type Emitted = Option<(&'static str, Value)>;

impl Foreign {
    /// Serves `object`, with `entry` in the registry. `answer` gets the method and payload of a request; its error
    /// becomes the `error` member of the reply.
    pub(crate) fn serve(
        bus: &Bus,
        object: &str,
        entry: &Value,
        answer: impl Fn(&str, &[u8]) -> (Emitted, Result<Value, Value>) + Send + 'static,
    ) -> Self {
        let (url, root, object) = (bus.url.clone(), bus.root.clone(), object.to_owned());
        let node = format!("foreign-{}", rantai_client::client::random_id("n"));
        let mut full = json!({
            "v": 1, "object": object, "node": node, "epoch": "1", "mode": "exclusive", "settled": true,
            "version": "1", "summary": "", "tags": [], "methods": [], "events": [],
        });
        full.as_object_mut().expect("an object").extend(entry.as_object().expect("an object").clone());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let bus = Bus { broker: None, url, root: root.clone() };
                let client = bus.admin().await;
                let calls = vec![
                    Filter::new(format!("{root}/call/{object}/#")),
                    Filter::new(format!("{root}/at/{node}/#")),
                ];
                let mut requests = client.subscribe(calls).await.expect("subscribed");
                for (topic, value) in [
                    (format!("{root}/node/{node}"), json!({"v": 1, "state": "ready", "epoch": "1"})),
                    (format!("{root}/name/{object}/{node}"), full),
                    (format!("{root}/event/{object}/kept"), json!(entry_text(&object))),
                ] {
                    let publish = Publish::new(topic, value.to_string().into_bytes()).qos(QoS::AtLeastOnce);
                    client.publish(publish.retain()).await.expect("published");
                }
                ready.send(()).expect("waited for");
                let serve = async {
                    while let Some(request) = requests.next().await {
                        let Some(method) = request.topic.rsplit('/').next().map(ToOwned::to_owned) else {
                            continue;
                        };
                        let (emitted, result) = answer(&method, &request.payload);
                        for publish in replies(&root, &object, &request, emitted, result) {
                            client.publish(publish).await.expect("published");
                        }
                    }
                };
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
                client.close().await;
            });
        });
        is_ready.recv().expect("it begins");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

/// Retained event `kept` of every foreign object.
fn entry_text(object: &str) -> String {
    format!("{object} \u{1b}[2J\u{9b}1m\u{202e}")
}

fn replies(
    root: &str,
    object: &str,
    request: &Message,
    emitted: Emitted,
    result: Result<Value, Value>,
) -> Vec<Publish> {
    let correlation = request.properties.correlation.clone();
    let with = |status: Option<&str>| Properties {
        correlation: correlation.clone(),
        user: status.map(|status| ("status".to_owned(), status.to_owned())).into_iter().collect(),
        ..Properties::default()
    };
    let event = emitted.map(|(name, value)| {
        Publish::new(format!("{root}/event/{object}/{name}"), value.to_string().into_bytes())
            .properties(with(None))
    });
    let (status, value) = match result {
        Ok(value) => ("ok", value),
        Err(error) => ("-32000", json!({ "error": error })),
    };
    let reply = request.properties.response_topic.clone().map(|topic| {
        Publish::new(topic, value.to_string().into_bytes())
            .qos(QoS::AtLeastOnce)
            .properties(with(Some(status)))
    });
    event.into_iter().chain(reply).collect()
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
