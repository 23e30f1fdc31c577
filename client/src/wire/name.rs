//! Names, which are validated when they are created, and cheap to clone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Error of parsing a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: {rule}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            ///
            #[doc = concat!("Where it breaks the rule: ", $rule, ".")]
            pub fn new(text: &str) -> Result<Self, NameError> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError { kind: $kind, text: text.to_owned(), rule: $rule })
                }
            }

            /// Returns whether a text may be such a name.
            pub fn is_valid(text: &str) -> bool {
                $valid(text)
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// First levels of every topic: `rantai`, or `acme/rantai` for a tenant.
    Root, "root", "levels of 1 to 64 of A-Z a-z 0-9 . _ -, joined by /, at most 128 bytes", root
}
name! {
    /// Name of an object.
    ObjectName, "object name",
    "1 to 64 of A-Z a-z 0-9 . _ -, and not broker, console, recorder, registry, rpc or tasks, which are reserved", object
}
name! {
    /// Name of a method: an identifier, with the prefix `rpc.` for built-in methods.
    MethodName, "method name", "an identifier of at most 64 of A-Z a-z 0-9 _, or rpc. and one", method
}
name! {
    /// MQTT client id of a node or a caller.
    ClientId, "client id", "1 to 64 of A-Z a-z 0-9 _ -", client
}

impl Default for Root {
    fn default() -> Self {
        Self("rantai".into())
    }
}

impl ObjectName {
    /// Returns a reserved name, for objects that Rantai itself serves; `None` for other names.
    pub fn reserved(text: &str) -> Option<Self> {
        RESERVED.contains(&text).then(|| Self(text.into()))
    }

    /// Returns whether a text is any name, including reserved ones.
    pub fn is_any(text: &str) -> bool {
        RESERVED.contains(&text) || object(text)
    }

    /// Parses any name, including reserved ones: for callers and subscribers, not for serving.
    ///
    /// # Errors
    ///
    /// The text is not a valid name.
    pub fn any(text: &str) -> Result<Self, NameError> {
        Self::reserved(text).map_or_else(|| Self::new(text), Ok)
    }
}

impl MethodName {
    /// Returns whether the method cannot be called from outside: it begins with `_`.
    pub fn is_private(&self) -> bool {
        self.0.starts_with('_')
    }

    /// Returns whether every object has the method: it begins with `rpc.`.
    pub fn is_built_in(&self) -> bool {
        self.0.starts_with("rpc.")
    }
}

/// Name of the object that administers a broker, served by the broker's own process.
pub const BROKER: &str = "broker";

const RESERVED: [&str; 6] = [BROKER, "console", "recorder", "registry", "rpc", "tasks"];

fn made_of(text: &str, others: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn root(text: &str) -> bool {
    text.len() <= 128 && text.split('/').all(|level| made_of(level, "._-"))
}

fn object(text: &str) -> bool {
    made_of(text, "._-") && !RESERVED.contains(&text)
}

fn method(text: &str) -> bool {
    let name = text.strip_prefix("rpc.").unwrap_or(text);
    made_of(name, "_") && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn client(text: &str) -> bool {
    made_of(text, "_-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_names_are_accepted_and_invalid_ones_refused() {
        let long = "x".repeat(65);
        for good in ["calculator", "example.chainTopology.1", "a", "A_b-c.9"] {
            assert_eq!(ObjectName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "", "registry", "tasks", "rpc", "broker", "console", "recorder", "a/b", "a+b", "#", "é", "a b",
            &long,
        ] {
            assert!(ObjectName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ObjectName::reserved("tasks").unwrap().as_str(), "tasks");
        assert_eq!(ObjectName::reserved("calculator"), None);
        for good in ["add", "_private", "rpc.ping", "welcomeMessage", "a1"] {
            assert!(MethodName::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "1a", "a.b", "rpc.", "rpc.a.b", "a-b", &long] {
            assert!(MethodName::new(bad).is_err(), "{bad:?}");
        }
        assert!(
            MethodName::new("_x").unwrap().is_private() && MethodName::new("rpc.x").unwrap().is_built_in()
        );
        assert!(ClientId::new("pi-east_1").is_ok() && ClientId::new("pi.east").is_err());
        assert!(Root::new("acme/rantai").is_ok() && Root::new("acme//x").is_err() && Root::new("#").is_err());
        let error = ObjectName::new("a b").unwrap_err().to_string();
        assert!(error.starts_with("\"a b\" is no object name: 1 to 64 of"), "{error}");
    }
}
