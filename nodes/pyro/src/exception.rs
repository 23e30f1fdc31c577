//! Errors of calls as exceptions of Python, and exceptions of Pyro servers as errors of calls.

use rantai_client::CallError;
use rantai_client::wire::fault::{Code, Fault};
use serde_json::Value;

use crate::frame::Version;
use crate::serializer::SerializeError;
use crate::value::{NotJson, PyValue};

/// Builtin exceptions that are rebuilt from a text alone, and mean the same on both sides.
const BUILTINS: [&str; 24] = [
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BufferError",
    "EOFError",
    "Exception",
    "FileExistsError",
    "FileNotFoundError",
    "FloatingPointError",
    "IndexError",
    "IsADirectoryError",
    "KeyError",
    "LookupError",
    "MemoryError",
    "NameError",
    "NotADirectoryError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "RuntimeError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
];
/// Errors of Pyro itself, which both versions have.
const PYRO: [&str; 9] = [
    "PyroError",
    "CommunicationError",
    "ConnectionClosedError",
    "TimeoutError",
    "ProtocolError",
    "NamingError",
    "DaemonError",
    "SecurityError",
    "SerializeError",
];
/// Maximum size of the text of a traceback that is passed on, in bytes.
const TRACEBACK: usize = 8 << 10;

/// Class of an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Class of `builtins`.
    Builtin(&'static str),
    /// Class of `Pyro4.errors` or `Pyro5.errors`.
    Pyro(&'static str),
}

/// Exception that a client is to raise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raised {
    pub(crate) class: Class,
    pub(crate) message: String,
    /// Error of the call on the bus that it stands for.
    fault: Option<Box<Fault>>,
}

impl Raised {
    pub(crate) fn builtin(class: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Builtin(class), message: message.into(), fault: None }
    }

    pub(crate) fn pyro(class: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Pyro(class), message: message.into(), fault: None }
    }

    /// Creates the exception that ends a stream.
    pub(crate) fn stop_iteration() -> Self {
        Self::builtin("StopIteration", "")
    }

    /// Returns the form that Pyro rebuilds exceptions from. `origin` is what the traceback names as the place of the error.
    pub(crate) fn to_python(&self, version: Version, origin: &str) -> PyValue {
        let class = match self.class {
            Class::Builtin(name) => format!("builtins.{name}"),
            Class::Pyro(name) => format!("{}.errors.{name}", version.package()),
        };
        let args = if self.message.is_empty() { vec![] } else { vec![PyValue::text(&self.message)] };
        let mut attributes = Vec::new();
        if let Some(fault) = &self.fault {
            attributes.push((PyValue::text("code"), PyValue::Int(fault.code.0.into())));
            if let Some(kind) = fault.data.get("kind").and_then(Value::as_str) {
                attributes.push((PyValue::text("kind"), PyValue::text(kind)));
            }
            let data = PyValue::from_json(Value::Object(fault.data.clone()));
            attributes.push((PyValue::text("data"), data));
        }
        attributes.push((PyValue::text("_pyroTraceback"), self.traceback(&class, origin)));
        PyValue::dict([
            ("__class__", PyValue::Str(class)),
            ("__exception__", PyValue::Bool(true)),
            ("args", PyValue::Tuple(args)),
            ("attributes", PyValue::Dict(attributes)),
        ])
    }

    /// Returns the lines of the traceback: that of the object, if it has sent one, else a line of the gateway.
    fn traceback(&self, class: &str, origin: &str) -> PyValue {
        let told = self.fault.as_ref().and_then(|fault| fault.data.get("traceback"));
        let mut lines: Vec<String> = match told {
            Some(Value::String(text)) => text.split_inclusive('\n').map(ToOwned::to_owned).collect(),
            Some(Value::Array(lines)) => {
                lines.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
            }
            _ => Vec::new(),
        };
        lines.push(format!("Remote error on the bus, {origin}:\n"));
        let code = self.fault.as_ref().map_or(String::new(), |fault| format!(" ({})", fault.code));
        lines.push(format!("{class}: {}{code}\n", self.message));
        PyValue::List(lines.into_iter().map(PyValue::Str).collect())
    }

    /// Returns the item of a batch's results that raises the exception.
    pub(crate) fn wrapped(&self, version: Version, origin: &str) -> PyValue {
        let class = match version {
            Version::Four => "Pyro4.futures._ExceptionWrapper",
            Version::Five => "Pyro5.core._ExceptionWrapper",
        };
        PyValue::dict([("__class__", PyValue::text(class)), ("exception", self.to_python(version, origin))])
    }
}

impl From<Fault> for Raised {
    fn from(fault: Fault) -> Self {
        let kind = fault.data.get("kind").and_then(Value::as_str);
        let of_kind = kind.filter(|_| fault.code == Code::FAILED).and_then(|kind| {
            let known = |names: &[&'static str]| names.iter().copied().find(|name| *name == kind);
            known(&BUILTINS).map(Class::Builtin).or_else(|| known(&PYRO).map(Class::Pyro))
        });
        let class = match fault.code {
            Code::FAILED if kind == Some("division_by_zero") => Class::Builtin("ZeroDivisionError"),
            Code::FAILED => of_kind.unwrap_or(Class::Pyro("PyroError")),
            Code::NO_SUCH_METHOD => Class::Builtin("AttributeError"),
            Code::WRONG_PARAMETERS => Class::Builtin("TypeError"),
            Code::EXPIRED | Code::TIMED_OUT => Class::Pyro("TimeoutError"),
            Code::UNKNOWN_OBJECT => Class::Pyro("DaemonError"),
            Code::LOST_OBJECT | Code::DEAD_HOP => Class::Pyro("CommunicationError"),
            Code::DENIED => Class::Pyro("SecurityError"),
            _ => Class::Pyro("PyroError"),
        };
        Self { class, message: fault.message.clone(), fault: Some(Box::new(fault)) }
    }
}

impl From<CallError> for Raised {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Fault(fault) => Self::from(*fault),
            CallError::Name(_) => Self::pyro("DaemonError", error.to_string()),
            CallError::Parameters(_) => Self::builtin("TypeError", error.to_string()),
            CallError::Lost | CallError::Unsent(_) => Self::pyro("CommunicationError", error.to_string()),
            _ => Self::pyro("PyroError", error.to_string()),
        }
    }
}

impl From<NotJson> for Raised {
    fn from(error: NotJson) -> Self {
        Self::pyro("SerializeError", error.to_string())
    }
}

impl From<SerializeError> for Raised {
    fn from(error: SerializeError) -> Self {
        Self::pyro("SerializeError", error.to_string())
    }
}

/// Converts an exception of a Pyro server. The kind is the name of its class; its traceback is passed on.
pub(crate) fn fault(exception: &PyValue) -> Fault {
    let class = exception.get("__class__").and_then(PyValue::as_str).unwrap_or("Exception");
    let kind = class.rsplit('.').next().unwrap_or(class);
    let args = exception.get("args").and_then(PyValue::items).unwrap_or_default();
    let message = match args {
        [] => kind.to_owned(),
        [PyValue::Str(text)] => text.clone(),
        args => {
            let args = PyValue::List(args.to_vec()).to_json();
            args.map_or_else(|_| kind.to_owned(), |args| args.to_string())
        }
    };
    let mut fault = Fault::failed(kind, message).with("class", class);
    let attributes = exception.get("attributes");
    let lines = attributes.and_then(|attributes| attributes.get("_pyroTraceback")).and_then(PyValue::items);
    let mut text: String = lines.unwrap_or_default().iter().filter_map(PyValue::as_str).collect();
    if !text.is_empty() {
        let mut end = text.len().min(TRACEBACK);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        fault = fault.with("traceback", text);
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serpent;

    fn class(fault: Fault) -> String {
        let exception = Raised::from(fault).to_python(Version::Five, "object x");
        exception.get("__class__").and_then(PyValue::as_str).expect("a class").to_owned()
    }

    #[test]
    fn faults_are_the_exceptions_that_python_knows() {
        for (fault, expected) in [
            (Fault::failed("division_by_zero", "b is 0"), "builtins.ZeroDivisionError"),
            (Fault::failed("ValueError", "x"), "builtins.ValueError"),
            (Fault::failed("NamingError", "x"), "Pyro5.errors.NamingError"),
            (Fault::failed("SystemExit", "x"), "Pyro5.errors.PyroError"),
            (Fault::failed("out_of_stock", "x"), "Pyro5.errors.PyroError"),
            (Fault::no_such_method("x", &[]), "builtins.AttributeError"),
            (Fault::wrong_parameter("params[0]", "a number"), "builtins.TypeError"),
            (Fault::new(Code::DENIED, "no"), "Pyro5.errors.SecurityError"),
            (Fault::new(Code::TIMED_OUT, "late"), "Pyro5.errors.TimeoutError"),
            (Fault::busy(5), "Pyro5.errors.PyroError"),
            // The kind counts for errors of the method alone.
            (Fault::new(Code::DENIED, "no").with("kind", "ValueError"), "Pyro5.errors.SecurityError"),
        ] {
            assert_eq!(class(fault.clone()), expected, "{fault}");
        }
    }

    #[test]
    fn an_exception_has_code_kind_and_traceback() {
        let raised = Raised::from(Fault::failed("division_by_zero", "b is 0"));
        let exception = raised.to_python(Version::Four, "object calculator");
        let attributes = exception.get("attributes").expect("attributes");
        assert_eq!(attributes.get("code"), Some(&PyValue::Int(-32000)));
        assert_eq!(attributes.get("kind"), Some(&PyValue::text("division_by_zero")));
        let lines = attributes.get("_pyroTraceback").and_then(PyValue::items).expect("lines");
        assert!(lines[0].as_str().expect("a text").contains("object calculator"));
        let wrapped = raised.wrapped(Version::Four, "object calculator");
        assert_eq!(wrapped.get("exception"), Some(&exception));
    }

    #[test]
    fn exceptions_of_pyro_servers_are_faults_and_come_back_as_the_same_exception() {
        // Written by Pyro5 5.17.
        let literal =
            b"# serpent utf-8 python3.2\n{'__class__':'builtins.ZeroDivisionError','__exception__':True,\
            'args':('d',),'attributes':{'_pyroTraceback':['a\\n','b\\n']}}";
        let fault = fault(&serpent::read(literal).expect("an exception"));
        assert_eq!((fault.code, &*fault.message), (Code::FAILED, "d"));
        assert_eq!(fault.data["kind"], "ZeroDivisionError");
        assert_eq!(fault.data["traceback"], "a\nb\n");
        let raised = Raised::from(fault);
        assert_eq!(raised.class, Class::Builtin("ZeroDivisionError"));
        let exception = raised.to_python(Version::Five, "object x");
        let lines =
            exception.get("attributes").and_then(|a| a.get("_pyroTraceback")).and_then(PyValue::items);
        assert_eq!(lines.expect("lines")[1], PyValue::text("b\n"));
    }

    #[test]
    fn exceptions_of_any_form_are_faults() {
        for (literal, message) in [
            ("{'__class__':'my.Error','args':()}", "Error"),
            ("{'__class__':'KeyError','args':(1,2)}", "[1,2]"),
            ("{'args':(1e30000,)}", "Exception"),
            ("5", "Exception"),
        ] {
            let value = serpent::read(literal.as_bytes()).expect("a literal");
            assert_eq!(fault(&value).message, message);
        }
        let long = "\u{e9}".repeat(TRACEBACK);
        let exception = PyValue::dict([(
            "attributes",
            PyValue::dict([("_pyroTraceback", PyValue::List(vec![PyValue::Str(long)]))]),
        )]);
        assert_eq!(fault(&exception).data["traceback"].as_str().expect("a text").len(), TRACEBACK);
    }
}
