//! SOAP 1.1 envelopes: parses calls, writes results and faults.

use rantai_client::wire::fault::{Code, Fault};
use serde_json::{Map, Value};

use super::service::{Operation, Service};
use super::xml::{self, Element, text};

pub(super) const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// Actor that stands for the next recipient of the message.
const NEXT: &str = "http://schemas.xmlsoap.org/soap/actor/next";
/// Maximum number of characters of a caller's text in an error.
const MAX_SHOWN_CHARS: usize = 64;
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Error of parsing an envelope, by fault code (SOAP 1.1, 4.4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    VersionMismatch(String),
    MustUnderstand(String),
    Client(String),
}

/// Parses the operation of a call and its named parameters.
pub(super) fn read<'a>(
    service: &'a Service,
    envelope: &str,
) -> Result<(&'a Operation, Map<String, Value>), Wrong> {
    let root =
        xml::parse(envelope).map_err(|error| Wrong::Client(format!("no XML that is taken: {error}")))?;
    if root.name != "Envelope" {
        return Err(Wrong::Client("no Envelope".to_owned()));
    }
    if root.namespace != SOAP {
        let text = format!("the envelope is of {:?}; SOAP 1.1 is {SOAP:?}", excerpt(&root.namespace));
        return Err(Wrong::VersionMismatch(text));
    }
    let mut parts = root.children.iter();
    let mut part = parts.next();
    if let Some(header) = part.filter(|part| part.is(SOAP, "Header")) {
        // Header blocks for other actors are ignored (SOAP 1.1, 4.2.2).
        let is_ours =
            |block: &Element| matches!(block.attribute(SOAP, "actor").map(str::trim), None | Some("" | NEXT));
        let demanded = |block: &&Element| {
            // SOAP 1.1 has 1 for it; toolkits that know 1.2 write true.
            let demanded = block.attribute(SOAP, "mustUnderstand").map(str::trim);
            is_ours(block) && matches!(demanded, Some("1" | "true"))
        };
        if let Some(block) = header.children.iter().find(demanded) {
            return Err(Wrong::MustUnderstand(format!("header {} is not understood", excerpt(&block.name))));
        }
        part = parts.next();
    }
    let body = part.filter(|part| part.is(SOAP, "Body"));
    let body = body.ok_or_else(|| Wrong::Client("no Body".to_owned()))?;
    let [call] = &body.children[..] else {
        return Err(Wrong::Client(format!("{} elements in the Body instead of one", body.children.len())));
    };
    let known = service.operations.iter().find(|operation| call.is(&service.namespace, &operation.name));
    let operation = known.ok_or_else(|| {
        let names: Vec<&str> = service.operations.iter().map(|operation| &*operation.name).collect();
        let (namespace, name) = (excerpt(&call.namespace), excerpt(&call.name));
        let names = names.join(", ");
        Wrong::Client(format!("no operation {name} of {namespace:?}; {:?} has {names}", service.namespace))
    })?;
    Ok((operation, params(service, operation, call)?))
}

fn params(service: &Service, operation: &Operation, call: &Element) -> Result<Map<String, Value>, Wrong> {
    let wrong = |text: String| Err(Wrong::Client(text));
    if call.has_text() {
        return wrong(format!("{} has text beside its parameters", call.name));
    }
    let mut params = Map::new();
    for given in &call.children {
        let known = operation.params.iter().find(|param| given.is(&service.namespace, &param.name));
        let Some(param) = known else {
            let (namespace, name) = (excerpt(&given.namespace), excerpt(&given.name));
            return wrong(format!("{}: no parameter {name} of {namespace:?}", operation.name));
        };
        if !given.children.is_empty() {
            return wrong(format!("{} is a simple value", param.name));
        }
        if matches!(given.attribute(INSTANCE, "nil").map(str::trim), Some("true" | "1")) {
            if param.required {
                return wrong(format!("{} is nil, and the operation needs a value", param.name));
            }
            continue;
        }
        let Some(value) = param.of.read(&given.text) else {
            let (expected, found) = (param.of.expected(), excerpt(&given.text));
            return wrong(format!("{}: expected {expected}, found {found:?}", param.name));
        };
        if params.insert(param.name.clone(), value).is_some() {
            return wrong(format!("{} is given twice", param.name));
        }
    }
    match operation.params.iter().find(|param| param.required && !params.contains_key(&param.name)) {
        Some(missing) => wrong(format!("{} is missing", missing.name)),
        None => Ok(params),
    }
}

/// Returns the beginning of a caller's text, for an error.
fn excerpt(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

/// Writes a result as an envelope; `None` if the value is not of the operation's type.
pub(super) fn result(service: &Service, operation: &Operation, value: &Value) -> Option<String> {
    let Operation { name, result, .. } = operation;
    let inner = match result {
        Some(_) if value.is_null() => String::new(),
        Some(of) => {
            let value = text(&of.write(value)?);
            format!("<{name}Result>{value}</{name}Result>")
        }
        None => String::new(),
    };
    let namespace = text(&service.namespace);
    Some(envelope(&format!("<{name}Response xmlns=\"{namespace}\">{inner}</{name}Response>")))
}

/// Writes a fault as an envelope.
pub(super) fn wrong(wrong: &Wrong) -> String {
    let (code, message) = match wrong {
        Wrong::VersionMismatch(message) => ("VersionMismatch", message),
        Wrong::MustUnderstand(message) => ("MustUnderstand", message),
        Wrong::Client(message) => ("Client", message),
    };
    fault_envelope(code, message, "")
}

/// Writes a fault of the bus as an envelope: a `Client` fault if another call would have succeeded, else a `Server` fault.
pub(super) fn fault(fault: &Fault) -> String {
    let callers = matches!(
        fault.code,
        Code::NOT_JSON
            | Code::NOT_A_REQUEST
            | Code::NO_SUCH_METHOD
            | Code::WRONG_PARAMETERS
            | Code::DENIED
            | Code::TOO_LARGE
    );
    let kind = fault.data.get("kind").and_then(Value::as_str);
    let kind = kind.map(|kind| format!("<kind>{}</kind>", text(kind))).unwrap_or_default();
    let detail = format!(
        "<detail><fault xmlns=\"urn:rantai:fault\"><code>{}</code>{kind}<retryable>{}</retryable></fault></detail>",
        fault.code,
        fault.is_retryable()
    );
    fault_envelope(if callers { "Client" } else { "Server" }, &fault.message, &detail)
}

fn fault_envelope(code: &str, message: &str, detail: &str) -> String {
    let message = text(message);
    envelope(&format!(
        "<soap:Fault><faultcode>soap:{code}</faultcode><faultstring>{message}</faultstring>{detail}</soap:Fault>"
    ))
}

pub(super) fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soap:Envelope xmlns:soap=\"{SOAP}\"><soap:Body>{body}</soap:Body></soap:Envelope>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::object::Object;
    use rantai_systems::calculator::{CalculatorObject, Exact};
    use serde_json::json;

    fn service() -> Service {
        Service::of("calculator", &CalculatorObject(Exact).description())
    }

    fn call(header: &str, body: &str) -> String {
        format!(
            "<s:Envelope xmlns:s='{SOAP}' xmlns='urn:rantai:calculator'>{header}<s:Body>{body}</s:Body></s:Envelope>"
        )
    }

    #[test]
    fn soap_call_is_parsed() {
        let service = service();
        let envelope =
            call("<s:Header><x s:mustUnderstand='0'/></s:Header>", "<add><b> 3 </b><a>2</a></add>");
        let (operation, params) = read(&service, &envelope).expect("a call");
        assert_eq!((&*operation.name, json!(params)), ("add", json!({"a": 2, "b": 3})));
        let written = result(&service, operation, &json!(5)).expect("a result");
        let root = xml::parse(&written).expect("XML");
        let response = &root.children[0].children[0];
        assert!(response.is("urn:rantai:calculator", "addResponse"));
        assert_eq!(response.children[0].text, "5");
        assert_eq!(result(&service, operation, &json!("five")), None);
    }

    #[test]
    fn invalid_soap_calls_get_a_fault_with_the_reason() {
        let service = service();
        for (body, says) in [
            ("<add><a>2</a></add>", "b is missing"),
            ("<add><a>2</a><b>x</b></add>", "b: expected double: a finite number, found \"x\""),
            ("<add><a>2</a><b>3</b><c>4</c></add>", "no parameter c"),
            ("<add><a>2</a><a>2</a><b>3</b></add>", "a is given twice"),
            ("<add><a>2</a><b><c/></b></add>", "b is a simple value"),
            ("<add>x<a>2</a><b>3</b></add>", "text beside"),
            (
                "<add xmlns:i='http://www.w3.org/2001/XMLSchema-instance'><a>2</a><b i:nil='true'/></add>",
                "b is nil",
            ),
            ("<power/>", "no operation power"),
            ("<add xmlns=''><a>2</a><b>3</b></add>", "no operation add"),
            ("<add/><add/>", "2 elements"),
            ("", "0 elements"),
        ] {
            match read(&service, &call("", body)) {
                Err(Wrong::Client(text)) => assert!(text.contains(says), "{body}: {text}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        for demand in ["1", "true", " 1 "] {
            let demanded = call(&format!("<s:Header><x s:mustUnderstand='{demand}'/></s:Header>"), "<add/>");
            assert!(matches!(read(&service, &demanded), Err(Wrong::MustUnderstand(_))), "{demand}");
        }
        let of_actor = |actor: &str| {
            let header = format!("<s:Header><x s:mustUnderstand='1' s:actor='{actor}'/></s:Header>");
            read(&service, &call(&header, "<add><a>2</a><b>3</b></add>")).map(drop)
        };
        assert!(matches!(of_actor(NEXT), Err(Wrong::MustUnderstand(_))));
        assert_eq!(of_actor("urn:somebody:else"), Ok(()));
        let newer = "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'><s:Body/></s:Envelope>";
        assert!(matches!(read(&service, newer), Err(Wrong::VersionMismatch(_))));
    }

    #[test]
    fn bus_faults_become_soap_faults() {
        let written = fault(&Fault::failed("division_by_zero", "b < 0 & \"none\""));
        let root = xml::parse(&written).expect("XML");
        let fault = &root.children[0].children[0];
        assert!(fault.is(SOAP, "Fault"));
        let texts: Vec<&str> = fault.children.iter().map(|child| &*child.text).collect();
        assert_eq!(texts, ["soap:Server", "b < 0 & \"none\"", ""]);
        assert_eq!(fault.children[2].children[0].children[1].text, "division_by_zero");
        assert!(super::fault(&Fault::wrong_parameter("a", "a number")).contains("soap:Client"));
    }
}
