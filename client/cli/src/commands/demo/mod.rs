//! `rantai demo`: uses each built-in system once, as its client would.

mod imaging;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rantai_broker::Config as BrokerConfig;
use rantai_client::files::{FileError, Files};
use rantai_client::session::Filter;
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::topic::EventTopic;
use rantai_client::{CallError, Client, Subscription};
use rantai_nodes::Node;
use rantai_nodes::kind::Output;
use rantai_site::config::{Config, Configured};
use rantai_site::{Plan, Site, SiteOptions};
use rantai_systems::calculator::CalculatorProxy;
use rantai_systems::clock::ClockProxy;
use rantai_systems::insult::Texts;
use rantai_systems::insult::filter::InsultFilterServiceProxy;
use rantai_systems::insult::notifier::NotifierProxy;
use rantai_systems::insult::service::InsultServiceProxy;
use rantai_systems::lending::LendingProxy;
use rantai_systems::sensor::SensorProxy;
use rantai_systems::upcall::UpcallProxy;
use rantai_systems::welcome::WelcomeProxy;
use rantai_tasks::TaskLedger;
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::options::Options;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::configurations::{BOOK, IMAGING, INSULT, LIBRARY, NODES, TELEMETRY, UPCALL};
use crate::connection::{log, print, run};
use crate::embedded::own_broker;
use crate::exit::{Exit, Failure};

/// Size of the disk in the demo, in bytes.
const DISK: usize = 64 << 10;

/// Time limit of each call of the demo.
const PATIENCE: Duration = Duration::from_secs(10);

/// Start a broker and the objects, and run every system once.
///
/// Ends with exit code 0 only if every result was right. Needs nothing, and leaves nothing behind: the broker takes
/// a free port of this machine and keeps everything in memory.
#[derive(clap::Args)]
pub(crate) struct Demo {}

impl Demo {
    #[expect(clippy::unused_self, reason = "as every command")]
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::WARN);
        run(demonstrate())
    }
}

/// Output of the demo, which counts wrong results.
#[derive(Default)]
struct DemoOutput {
    wrong: usize,
}

impl DemoOutput {
    fn result(&mut self, done: &str, result: &Result<Value, CallError>, expected: &Value) {
        let found = match result {
            Ok(value) => value.clone(),
            Err(error) => match error.fault() {
                Some(fault) => json!({"code": fault.code, "message": fault.message}),
                None => json!(error.to_string()),
            },
        };
        let right = found == *expected;
        print(&format!("  {} {done} -> {found}", if right { "ok   " } else { "WRONG" }));
        if !right {
            print(&format!("        expected {expected}"));
            self.wrong += 1;
        }
    }
}

fn title(text: &str) {
    print("");
    print(text);
}

async fn demonstrate() -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::from_error(Exit::Failed, error);
    let broker = rantai_broker::Broker::start(BrokerConfig::on_free_port()).await.map_err(|e| failed(&e))?;
    print(&format!("broker on {}", broker.addresses()[0]));
    let address = broker.addresses().first().copied();
    let address = own_broker(broker.connector(), address, broker.local_credentials());
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let mut plan = plan(folder.path()).map_err(|e| failed(&*e))?;
    // Served later: it publishes continuously.
    let sensor = plan.objects.extract_if(.., |object| object.name.as_str() == "sister").next();
    let mut names = plan.names();
    names.sort();
    let mut options = SiteOptions::new(address.clone());
    options.data_dir = Some(folder.path().to_owned());
    options.patience = PATIENCE;
    let site = Site::start(plan, options).await.map_err(|e| failed(&e))?;
    let node = site.node();
    print(&format!("node {} serves {}", node.name(), names.join(", ")));
    let client = Client::builder(address).connect().await?;
    let mut show = DemoOutput::default();

    registry(&mut show, &client, &names).await;
    calculator(&mut show, &client).await;
    journey(&mut show, &client).await;
    library(&mut show, &client).await;
    lending(&mut show, &client, folder.path()).await;
    tasks(&mut show, &client).await;
    if let Some(sensor) = sensor {
        telemetry(&mut show, &client, node, sensor).await;
    }
    upcall(&mut show, &client).await;
    insult(&mut show, &client).await;
    imaging::show(&mut show, &client).await;
    imaging::show_over_iscsi(&mut show, &client, node, folder.path()).await;

    client.close().await;
    site.shutdown().await;
    broker.shutdown().await;
    print("");
    if show.wrong > 0 {
        return Err(Failure::new(Exit::Failed, format!("{} results were wrong", show.wrong)));
    }
    print("every result was right");
    Ok(())
}

/// Returns the objects of all configurations, with a library of one book in a folder of its own.
fn plan(folder: &Path) -> Result<Plan, Box<dyn std::error::Error>> {
    std::fs::create_dir(folder.join("books"))?;
    std::fs::write(folder.join("books/mytext.txt"), BOOK)?;
    let output: Output = Arc::new(|line: &str| print(&format!("        {line}")));
    let tasks = Some(TaskLedger::default());
    let mut plan = Plan::new(Config { tasks, ..Config::default() }, "nodes.toml", output.clone())?;
    // Insults come soon, and the sensor's value does not change during the demo.
    let telemetry = TELEMETRY.replace("period_ms = 1000", "period_ms = 60000");
    let insult = INSULT.replace("period_ms = 5000", "period_ms = 100");
    std::fs::create_dir_all(folder.join("imaging/images"))?;
    std::fs::write(folder.join("imaging/images/hadoopMaster.img"), vec![7; DISK])?;
    for (text, name) in [
        (NODES, "nodes.toml"),
        (LIBRARY, "library.toml"),
        (&telemetry, "telemetry.toml"),
        (UPCALL, "upcall.toml"),
        (&insult, "insult.toml"),
        (IMAGING, "imaging.toml"),
    ] {
        let file = folder.join(name).display().to_string();
        let config = Config { calls: plan.config.calls.clone(), ..Config::from_toml(text, &file)? };
        for object in config.objects(&file, &output)? {
            if !plan.objects.iter().any(|known| known.name == object.name) {
                plan.objects.push(Configured { started: None, ..object });
            }
        }
    }
    Ok(plan)
}

async fn registry(show: &mut DemoOutput, client: &Client, names: &[String]) {
    title("Registry: who is there, by name");
    let listed = client.registry().list().await;
    let listed = listed.map(|view| {
        json!(view.all().filter(|(_, served)| *served).map(|(e, _)| &e.object).collect::<Vec<_>>())
    });
    show.result("rantai ls", &listed, &json!(names));
    let unknown = client.object("calculater").deadline(PATIENCE).call::<Value>("add", (2, 3)).await;
    let meant =
        unknown.as_ref().err().and_then(CallError::fault).map(|fault| fault.data["did_you_mean"].clone());
    let expected = json!({"code": -32003, "message": "no object \"calculater\""});
    show.result("rantai call calculater.add 2 3", &unknown, &expected);
    show.result("    did you mean", &Ok(meant.unwrap_or_default()), &json!(["calculator"]));
}

async fn calculator(show: &mut DemoOutput, client: &Client) {
    title("Calculator: typed methods, and errors that say what is wrong");
    let calculator = CalculatorProxy::new(client, "calculator");
    let json = |result: Result<f64, CallError>| result.map(|number| json!(number));
    show.result("add(2, 3)", &json(calculator.add(2.0, 3.0).await), &json!(5.0));
    show.result("sub(2, 3)", &json(calculator.sub(2.0, 3.0).await), &json!(-1.0));
    show.result("mul(2, 3)", &json(calculator.mul(2.0, 3.0).await), &json!(6.0));
    show.result("div(2, 3)", &json(calculator.div(2.0, 3.0).await), &json!(2.0 / 3.0));
    let expected = json!({"code": -32000, "message": "Division by zero"});
    show.result("div(2, 0)", &json(calculator.div(2.0, 0.0).await), &expected);
    let wrong = client.object("calculator").call::<Value>("add", ("two", 3)).await;
    let expected = json!({"code": -32602, "message": "a: expected a number, found string \"two\""});
    show.result("add(\"two\", 3)", &wrong, &expected);
}

async fn journey(show: &mut DemoOutput, client: &Client) {
    title("Journey through cities: each passes the trip on, the last one replies");
    let (bandung, lembang, subang) =
        ("telah melewati bandung", "telah melewati lembang", "telah melewati subang");
    for (input, expected) in [
        ("hello", json!([bandung, lembang, subang, "selesai pada bandung"])),
        ("bandung", json!(["selesai pada bandung"])),
        ("lembang", json!([bandung, "selesai pada lembang"])),
        ("subang", json!([bandung, lembang, "selesai pada subang"])),
    ] {
        let entry = client.object("example.chainTopology.bandung").deadline(PATIENCE);
        let result = entry.call::<Value>("process", (json!([input]),)).await;
        show.result(&format!("Kota Awal ? {input}"), &result, &expected);
    }
}

async fn library(show: &mut DemoOutput, client: &Client) {
    title("E-library: the shop's welcome");
    let welcome = WelcomeProxy::new(client, "server");
    for title in ["Dune", "Bumi Manusia"] {
        let result = welcome.welcome_message(title.to_owned()).await.map(|text| json!(text));
        let expected = json!(format!("Buku dengan judul {title} berhasil dibeli!"));
        show.result(&format!("Mau beli buku dengan judul apa? {title}"), &result, &expected);
    }
    title("E-library: four books, pages read, and the checkout");
    let read = |book: usize| format!("Buku {book} sudah selesai di baca!");
    let books = client.object("example.chainTopology.1").deadline(PATIENCE);
    let status = books.call::<Value>("status", (json!(["hello"]),)).await;
    show.result("Status", &status, &json!([read(1), read(2), read(3), read(4), "Kembali ke buku 1"]));
    let pages = client.object("pages").deadline(PATIENCE);
    let (identity, added) = (Uuid::now_v7(), json!(124));
    for time in ["add(4, 120)", "the same request again, carried out once"] {
        let request = pages.request("add").identity(identity).params((4, 120));
        let result = request.send().await.and_then(rantai_client::Response::read);
        show.result(time, &result, &added);
    }
    let joined = pages.call::<Value>("add", ("Kamu sudah membaca 4", " halaman")).await;
    show.result(
        "add(\"Kamu sudah membaca 4\", \" halaman\")",
        &joined,
        &json!("Kamu sudah membaca 4 halaman"),
    );
    let receipt = ClockProxy::new(client, "clock").checkout().await;
    let told = receipt.map(|receipt| json!(receipt.text.split(':').next()));
    show.result("checkout", &told, &json!("Telah melakukan check out buku dongeng pada"));
}

async fn lending(show: &mut DemoOutput, client: &Client, folder: &Path) {
    title("E-library: a book is lent, and arrives whole");
    let counter = LendingProxy::new(client, "lending");
    let target = folder.join("received.txt");
    let borrowed = match counter.borrow("Pinjam Buku Programming GO!".to_owned()).await {
        Err(error) => Err(error),
        Ok(loan) => {
            let files = Files::new(client, &loan.files);
            let got = files.get(&loan.path, &target, &mut |_, _| {}).await;
            let whole = got.is_ok() && std::fs::read(&target).is_ok_and(|bytes| bytes == BOOK.as_bytes());
            Ok(json!(if whole { loan.finished } else { "received.txt is not the book".to_owned() }))
        }
    };
    let finished = json!("Peminjaman buku telah selesai diproses");
    show.result("Pinjam Buku Programming GO! -> received.txt", &borrowed, &finished);
    let files = Files::new(client, "books").patience(PATIENCE);
    let outside = files.get("../once.redb", &folder.join("stolen"), &mut |_, _| {}).await;
    let refused = match outside {
        Err(FileError::Call(error)) => Err(error),
        other => Ok(json!(format!("{other:?}"))),
    };
    let expected = json!({"code": -32006, "message": "\"../once.redb\": a name must not begin with a dot: hidden files are not shared"});
    show.result("a path outside the folder", &refused, &expected);
}

async fn tasks(show: &mut DemoOutput, client: &Client) {
    title("E-library: pages read as a task, stored before it is acknowledged");
    let ledger = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let done = async |x: Value, y: Value| {
        let options = Options { retries: 2, ..Options::default() };
        let id =
            ledger.submit("pages".to_owned(), "add".to_owned(), Some(json!([x, y])), Some(options)).await?;
        let task = ledger.result(id, None).await?;
        Ok::<Value, CallError>(json!([task.state, task.result, task.runs]))
    };
    show.result("submit pages.add 4 120", &done(json!(4), json!(120)).await, &json!(["succeeded", 124, 1]));
    let mixed = done(json!(4), json!("halaman")).await;
    show.result("submit pages.add 4 halaman", &mixed, &json!(["failed", null, 1]));
    let unknown = ledger.get("0192f7c4a0b17d3c8f60a1b2c3d4e5f6".to_owned()).await.map(|task| json!(task));
    let expected =
        json!({"code": -32000, "message": "there is no task \"0192f7c4a0b17d3c8f60a1b2c3d4e5f6\""});
    show.result("a task nobody submitted", &unknown, &expected);
}

async fn telemetry(show: &mut DemoOutput, client: &Client, node: &Node, sensor: Configured) {
    title(
        "Telemetry: plain texts for whoever knows the topics, and the present value for whoever comes later",
    );
    let plain = client.subscribe(vec![Filter::new("sister/+")]).await;
    let Configured { name, object, options, .. } = sensor;
    let served = node.serve_with(name.as_str(), object, options).await;
    let (Ok(mut plain), Ok(())) = (plain, served) else {
        return show.result("serve sister", &Ok(json!("it is not served")), &Value::Null);
    };
    let mut texts = Vec::new();
    for (topic, unit, range) in [("sister/temp", "°C", 20..=35), ("sister/humidity", "%", 30..=50)] {
        let message = timeout(PATIENCE, plain.next()).await.ok().flatten();
        let text = message.as_ref().map(|m| String::from_utf8_lossy(&m.payload).into_owned());
        let value = text.as_ref().and_then(|text| text.strip_suffix(unit)?.parse::<i64>().ok());
        let right = value.is_some_and(|value| range.contains(&value));
        let result = json!([message.map(|m| m.topic.to_string()), unit, right]);
        show.result("the next message", &Ok(result), &json!([topic, unit, true]));
        texts.extend(text);
    }
    let state = EventTopic { object: name.clone(), event: event("temp"), client: None };
    let kept = match client.subscribe(vec![Filter::new(state.format(client.root()))]).await {
        Ok(mut kept) => Ok(next(&mut kept).await["text"].clone()),
        Err(error) => Err(error),
    };
    show.result("rantai watch sister temp", &kept, &json!(texts.first()));
    let read = SensorProxy::new(client, "sister").read().await;
    let read = read.map(|last| json!(last.get("humidity").map(|measured| &measured.text)));
    show.result("rantai call sister.read", &read, &json!(texts.get(1)));
    node.withdraw(&name, PATIENCE).await;
}

/// Subscribes to an event that the object sends to this client only.
async fn subscribe_to_event(client: &Client, object: &str, name: &str) -> Result<Subscription, CallError> {
    let object = ObjectName::new(object).map_err(CallError::from)?;
    let topic = EventTopic { object, event: event(name), client: Some(client.id().clone()) };
    client.subscribe(vec![Filter::new(topic.format(client.root())).live()]).await
}

fn event(name: &str) -> MethodName {
    MethodName::new(name).expect("an identifier")
}

async fn next(events: &mut Subscription) -> Value {
    let message = timeout(PATIENCE, events.next()).await.ok().flatten();
    message.and_then(|message| serde_json::from_slice(&message.payload).ok()).unwrap_or_default()
}

async fn upcall(show: &mut DemoOutput, client: &Client) {
    title("Upcall: the server calls back whoever sent a message");
    let called = async {
        let mut upcalls = subscribe_to_event(client, "upcall", "upcall").await?;
        UpcallProxy::new(client, "upcall").send("halo".to_owned()).await?;
        Ok(next(&mut upcalls).await)
    };
    show.result("Sent: halo", &called.await, &json!("Upcall event: Processing halo"));
}

async fn insult(show: &mut DemoOutput, client: &Client) {
    title("Insults: registered once, taken out of texts, and called back");
    let service = InsultServiceProxy::new(client, "InsultService");
    let added = service.add_insult(Texts::Many(vec!["Tonto".to_owned(), "tonto".to_owned()])).await;
    let expected = json!(["Insulto registrado: tonto", "Insulto ya registrado: tonto"]);
    show.result("add_insult([\"Tonto\",\"tonto\"])", &added.map(|told| json!(told)), &expected);
    let filter = InsultFilterServiceProxy::new(client, "InsultFilterService");
    let text = "¡Eres un TONTO!";
    let filtered = filter.add_text(Texts::One(text.to_owned())).await.map(|told| json!(told));
    show.result(&format!("add_text({text:?})"), &filtered, &json!(["Texto registrado: ¡Eres un CENSORED!"]));
    let called = async {
        let mut insults = subscribe_to_event(client, "Notifier", "insult").await?;
        let notifier = NotifierProxy::new(client, "Notifier");
        notifier.subscribe(None).await?;
        let insult = next(&mut insults).await;
        notifier.unsubscribe(None).await?;
        Ok(insult)
    };
    show.result("subscribe()", &called.await, &json!("tonto"));
}
