//! Built-in methods of every object.

use rantai_client::object::{Arguments, no_such_method};
use rantai_client::shares::ShareReport;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::reply::Outcome;
use rantai_client::wire::request::{Params, Request};
use serde_json::{Value, json};

use super::cancelling::CancelKey;
use super::replies::Out;
use super::served::Served;
use super::stats::StatsReader;

const NAMES: [&str; 6] = ["rpc.ping", "rpc.info", "rpc.stats", "rpc.discover", "rpc.cancel", "rpc.yield"];

pub(super) fn built_in(
    served: &Served,
    request: &Request,
    out: &dyn Out,
    reader: StatsReader<'_>,
) -> Outcome {
    let params = request.params.clone();
    let result = match request.method.as_str() {
        "rpc.ping" => nothing(params).map(|()| json!("pong")),
        "rpc.info" => nothing(params).map(|()| json!(*served.entry.lock())),
        "rpc.stats" => nothing(params).map(|()| stats(served, reader)),
        "rpc.discover" => nothing(params).map(|()| served.description.open_rpc(served.name.as_str())),
        "rpc.cancel" => cancel(served, request, params),
        "rpc.yield" => nothing(params).and_then(|()| give_up(served, request, out)),
        other => Err(no_such_method(other, &NAMES)),
    };
    match result {
        Ok(value) => Outcome::Value(value),
        Err(fault) => Outcome::Fault(fault),
    }
}

/// Returns the statistics of an object's calls, and how full its tables are.
fn stats(served: &Served, reader: StatsReader<'_>) -> Value {
    let mut report = served.stats.report();
    let mut shares = vec![served.places.report("calls", &served.share_log)];
    shares.extend(served.object.shares());
    let shares: Vec<ShareReport> = shares.into_iter().map(|report| reader.told(report)).collect();
    report["shares"] = json!(shares);
    if let Some(members) = report.as_object_mut() {
        for (name, value) in served.object.stats() {
            members.entry(name).or_insert(value);
        }
    }
    report
}

fn nothing(params: Params) -> Result<(), Fault> {
    Arguments::new(params, &[]).map(drop)
}

/// Gives the name up to a node that claims it in the registry. The entry proves that the node may serve the name,
/// because the broker lets nobody else write one.
fn give_up(served: &Served, request: &Request, out: &dyn Out) -> Result<Value, Fault> {
    if !out.is_claimed_by(&served.name, request.caller.as_ref()) {
        let who = request.caller.as_ref().map_or_else(String::new, |user| format!(" of user {user:?}"));
        let text = format!(
            "no other node{who} claims {}: publish its entry, with `settled` false, first",
            served.name
        );
        return Err(Fault::new(Code::DENIED, text));
    }
    served.yielded.notify_one();
    Ok(json!(true))
}

/// Cancels a call; returns whether a call with this correlation and reply topic was waiting here.
fn cancel(served: &Served, request: &Request, params: Params) -> Result<Value, Fault> {
    // A single parameter may be plain text, even if it consists of digits only.
    let names: &[&str] =
        if matches!(params, Params::One { .. }) { &["correlation"] } else { &["correlation", "unheard"] };
    let mut arguments = Arguments::new(params, names)?;
    let text: String = arguments.take()?;
    let is_unheard = names.len() == 2 && arguments.take_optional()?.unwrap_or(false);
    let wrong = || Fault::wrong_parameter("correlation", "16 to 64 bytes in hexadecimal digits");
    let digits = text.as_bytes();
    if !(32..=128).contains(&digits.len()) || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let correlation = bytes.ok_or_else(wrong)?.into();
    let cancellable = served.cancellable.lock();
    let found = CancelKey::of_request(request, &correlation).find_map(|key| cancellable.get(&key));
    drop(cancellable);
    Ok(json!(found.is_some_and(|call| if is_unheard { call.unheard() } else { call.cancel() })))
}
