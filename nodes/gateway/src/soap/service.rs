//! SOAP services: operations with simple parameters, derived from the methods of objects.

use rantai_client::object::{Description, Method};
use rantai_client::wire::json::{number, typed};
use serde::Deserialize;
use serde_json::Value;

use crate::settings;

/// Simple type, named as in XML Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Simple {
    /// Integer of 32 bits.
    Int,
    /// Integer of 64 bits.
    Long,
    /// Finite number of double precision.
    Double,
    /// `true` or `false`.
    Boolean,
    /// String.
    String,
}

/// Operations at one path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) summary: String,
    pub(super) operations: Vec<Operation>,
}

/// Method as an operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) summary: String,
    pub(super) object: String,
    pub(super) method: String,
    pub(super) params: Vec<Parameter>,
    /// Type of the result; `None` if the method has no result.
    pub(super) result: Option<Simple>,
}

/// Parameter of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) of: Simple,
    pub(super) required: bool,
}

impl Simple {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "int" => Self::Int,
            "long" => Self::Long,
            "double" => Self::Double,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }

    /// Describes a value of the type in an error.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Int => "int: a whole number from -2147483648 to 2147483647",
            Self::Long => "long: a whole number from -9223372036854775808 to 9223372036854775807",
            Self::Double => "double: a finite number",
            Self::Boolean => "boolean: true or false",
            Self::String => "string",
        }
    }

    /// Returns the type of a JSON Schema, and whether the value may be null.
    fn of(schema: &Value) -> Option<(Self, bool)> {
        let (name, nullable) = match &schema["type"] {
            Value::String(name) => (name.as_str(), false),
            Value::Array(names) => {
                let mut others = names.iter().filter(|name| *name != "null").filter_map(Value::as_str);
                let only = others.next().filter(|_| others.next().is_none())?;
                (only, names.iter().any(|name| name == "null"))
            }
            _ => return None,
        };
        let small =
            matches!(schema["format"].as_str(), Some("int8" | "uint8" | "int16" | "uint16" | "int32"));
        let of = match name {
            "integer" if small => Self::Int,
            "integer" => Self::Long,
            "number" => Self::Double,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            _ => return None,
        };
        Some((of, nullable))
    }

    /// Parses a text as a value of this type.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        // XML Schema strips surrounding space from all types but strings.
        let trimmed = text.trim_matches([' ', '\t', '\n', '\r']);
        let whole = || number(trimmed)?.as_i64();
        Some(match self {
            Self::Int => Value::from(i32::try_from(whole()?).ok()?),
            Self::Long => Value::from(whole()?),
            // The object checks whether an integer is exact as a double.
            Self::Double => number(trimmed)?,
            Self::Boolean => Value::from(match trimmed {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return None,
            }),
            Self::String => Value::from(text),
        })
    }

    /// Formats a value of this type as a text.
    pub(super) fn write(self, value: &Value) -> Option<String> {
        let whole = || typed::<i64>(value.clone()).ok();
        Some(match self {
            Self::Int => i32::try_from(whole()?).ok()?.to_string(),
            Self::Long => whole()?.to_string(),
            Self::Double => match value {
                Value::Number(number) if number.is_f64() => number.as_f64()?.to_string(),
                // An integer that a double may not hold keeps its digits.
                integer => typed::<i128>(integer.clone()).ok()?.to_string(),
            },
            Self::Boolean => value.as_bool()?.to_string(),
            Self::String => value.as_str()?.to_owned(),
        })
    }
}

impl Service {
    /// Creates the service of an object: those of its methods that have simple types.
    pub(super) fn of(object: &str, description: &Description) -> Self {
        let operations = description.methods.iter().filter_map(|method| Operation::of(object, method));
        Self {
            name: name_of(object),
            namespace: format!("urn:rantai:{object}"),
            summary: description.summary.clone(),
            operations: operations.collect(),
        }
    }

    /// Creates a configured service.
    pub(super) fn configured(settings: &settings::Service) -> Result<Self, String> {
        let operation = |operation: &settings::Operation| {
            let required = |(name, of)| Parameter { name, of, required: true };
            Ok::<_, String>(Operation {
                name: operation.name.clone(),
                summary: String::new(),
                object: operation.object.clone(),
                method: operation.method.clone(),
                params: operation.typed()?.into_iter().map(required).collect(),
                result: Some(operation.result),
            })
        };
        Ok(Self {
            name: settings.name.clone(),
            namespace: settings.namespace.clone(),
            summary: String::new(),
            operations: settings.operations.iter().map(operation).collect::<Result<_, _>>()?,
        })
    }
}

impl Operation {
    fn of(object: &str, method: &Method) -> Option<Self> {
        let parameter = |parameter: &rantai_client::object::Parameter| {
            let (of, nullable) = Simple::of(parameter.schema.as_ref()?)?;
            let name = ncname(&parameter.name)?.to_owned();
            Some(Parameter { name, of, required: parameter.required && !nullable })
        };
        let result = match method.result.as_ref()? {
            nothing if nothing["type"] == "null" => None,
            schema => Some(Simple::of(schema)?.0),
        };
        Some(Self {
            name: ncname(&method.name)?.to_owned(),
            summary: method.summary.clone(),
            object: object.to_owned(),
            method: method.name.clone(),
            params: method.params.iter().map(parameter).collect::<Option<_>>()?,
            result,
        })
    }
}

/// Returns the name if an XML element may have it.
pub(crate) fn ncname(name: &str) -> Option<&str> {
    let first = name.chars().next()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ((first.is_ascii_alphabetic() || first == '_') && name.chars().all(allowed)).then_some(name)
}

/// Converts an object's name to an XML name, which must not begin with a digit.
fn name_of(object: &str) -> String {
    ncname(object).map_or_else(|| format!("_{object}"), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::object::Object;
    use rantai_systems::calculator::{CalculatorObject, Exact};
    use serde_json::json;

    #[test]
    fn an_objects_simple_methods_are_operations() {
        let service = Service::of("calculator", &CalculatorObject(Exact).description());
        let names: Vec<&str> = service.operations.iter().map(|operation| &*operation.name).collect();
        assert_eq!(names, ["add", "sub", "mul", "div"]);
        assert_eq!(service.operations[0].result, Some(Simple::Double));
        let ledger = rantai_tasks::Ledger::open(None, rantai_tasks::Limits::default()).expect("in memory");
        let tasks = Service::of("tasks", &rantai_tasks::ledger::TasksObject(ledger).description());
        let names: Vec<&str> = tasks.operations.iter().map(|operation| &*operation.name).collect();
        assert_eq!(names, ["cancel", "retry", "unschedule"], "the others have more than simple types");
    }

    #[test]
    fn simple_types_convert_texts_and_values() {
        for (of, text, value) in [
            (Simple::Int, " 10 ", Some(json!(10))),
            (Simple::Int, "+5", Some(json!(5))),
            (Simple::Int, "2147483648", None),
            (Simple::Int, "1.5", None),
            (Simple::Long, "2147483648", Some(json!(2_147_483_648_u64))),
            (Simple::Int, "5.0", Some(json!(5))),
            (Simple::Long, "9007199254740993", Some(json!(9_007_199_254_740_993_u64))),
            (Simple::Long, "9007199254740993.0", Some(json!(9_007_199_254_740_993_u64))),
            (Simple::Long, "9223372036854775808", None),
            (Simple::Double, "9007199254740993", Some(json!(9_007_199_254_740_993_u64))),
            (Simple::Double, "-1.5e3", Some(json!(-1500))),
            (Simple::Double, "INF", None),
            (Simple::Double, "inf", None),
            (Simple::Boolean, "1", Some(json!(true))),
            (Simple::Boolean, "yes", None),
            (Simple::String, " a ", Some(json!(" a "))),
            (Simple::Int, "", None),
        ] {
            assert_eq!(of.read(text), value, "{of:?} {text:?}");
        }
        assert_eq!(Simple::Int.write(&json!(15.0)).as_deref(), Some("15"));
        assert_eq!(Simple::Int.write(&json!(0.5)), None);
        assert_eq!(Simple::Int.write(&json!(3_000_000_000_u64)), None);
        assert_eq!(Simple::Long.write(&json!("9007199254740993")).as_deref(), Some("9007199254740993"));
        assert_eq!(Simple::Long.write(&json!("5")), None);
        assert_eq!(Simple::Double.write(&json!(5)).as_deref(), Some("5"));
        assert_eq!(Simple::Double.write(&json!(0.1)).as_deref(), Some("0.1"));
        let large = json!(9_007_199_254_740_993_u64);
        assert_eq!(Simple::Double.write(&large).as_deref(), Some("9007199254740993"));
        assert_eq!(Simple::String.write(&json!(5)), None);
    }
}
