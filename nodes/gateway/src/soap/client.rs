//! Client side of SOAP 1.1, for operations with simple types.

use std::fmt::Write as _;

use super::envelope::{SOAP, envelope};
use super::xml::{self, text};

/// Error of a SOAP call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The server returned a fault.
    #[error("{text}")]
    Fault {
        /// Fault code, such as `soap:Client`.
        code: String,
        /// Fault string.
        text: String,
    },
    /// The response is not a reply to the call.
    #[error("no answer to the call: {0}")]
    NoAnswer(String),
}

/// Creates the envelope of a call.
pub fn request(namespace: &str, operation: &str, params: &[(&str, &str)]) -> String {
    let mut inner = String::new();
    for (name, value) in params {
        let _ = write!(inner, "<{name}>{}</{name}>", text(value));
    }
    envelope(&format!("<{operation} xmlns=\"{}\">{inner}</{operation}>", text(namespace)))
}

/// Parses an envelope, and returns the result as a text.
///
/// # Errors
///
/// The envelope contains a fault, or is no valid response of this operation.
pub fn response(operation: &str, answer: &str) -> Result<String, ResponseError> {
    let no_answer = |text: &str| ResponseError::NoAnswer(text.to_owned());
    let root = xml::parse(answer).map_err(ResponseError::NoAnswer)?;
    let body = root.children.iter().find(|part| part.is(SOAP, "Body"));
    let body =
        body.filter(|_| root.is(SOAP, "Envelope")).ok_or_else(|| no_answer("no envelope of SOAP 1.1"))?;
    let [answer] = &body.children[..] else { return Err(no_answer("not one element in the Body")) };
    if answer.is(SOAP, "Fault") {
        let part = |name: &str| answer.children.iter().find(|part| part.name == name);
        let part = |name: &str| part(name).map(|part| part.text.clone()).unwrap_or_default();
        return Err(ResponseError::Fault { code: part("faultcode"), text: part("faultstring") });
    }
    if answer.name != format!("{operation}Response") {
        return Err(no_answer(&format!("{} instead of {operation}Response", answer.name)));
    }
    Ok(answer.children.first().map(|result| result.text.clone()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soap_response_is_a_result_a_fault_or_an_error() {
        let answer = |body: &str| response("add", &envelope(body));
        assert_eq!(
            answer("<addResponse xmlns='u'><addResult>5</addResult></addResponse>").as_deref(),
            Ok("5")
        );
        assert_eq!(answer("<addResponse xmlns='u'/>").as_deref(), Ok(""));
        let fault =
            "<soap:Fault><faultcode>soap:Client</faultcode><faultstring>b &lt; 0</faultstring></soap:Fault>";
        let fault = answer(fault).expect_err("a fault");
        assert_eq!(fault, ResponseError::Fault { code: "soap:Client".to_owned(), text: "b < 0".to_owned() });
        for body in ["<subResponse xmlns='u'/>", "", "<a/><b/>"] {
            assert!(matches!(answer(body), Err(ResponseError::NoAnswer(_))), "{body}");
        }
        assert!(matches!(response("add", "{}"), Err(ResponseError::NoAnswer(_))));
        let request = request("urn:<x>", "add", &[("a", "1 & 2")]);
        assert_eq!(xml::parse(&request).expect("XML").children[0].children[0].children[0].text, "1 & 2");
    }
}
