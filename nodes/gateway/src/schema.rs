//! JSON Schemas of objects, sanitized for a document: an object in another language may send none, or an invalid one.

use serde_json::{Map, Value};

/// Path of named schemas in `OpenRPC` and `OpenAPI`.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Schemas of one object.
pub(super) struct Dialect<'a> {
    object: &'a str,
    /// Named schemas that references may refer to.
    types: &'a Map<String, Value>,
}

impl<'a> Dialect<'a> {
    pub(super) fn new(object: &'a str, types: &'a Map<String, Value>) -> Self {
        Self { object, types }
    }

    /// Returns the object's named schemas under their names in the document. Leaves out names that a document cannot contain.
    pub(super) fn types(&self) -> impl Iterator<Item = (String, Value)> {
        let named = self.types.iter().filter(|(name, _)| is_component(name));
        named.map(|(name, schema)| (format!("{}.{name}", self.object), self.schema(schema)))
    }

    /// Converts a schema to JSON Schema 2020-12: references refer to this object's named schemas, and keywords with invalid
    /// values are left out. An invalid schema becomes `{}`, which allows every value.
    pub(super) fn schema(&self, schema: &Value) -> Value {
        match schema {
            Value::Bool(all) => Value::Bool(*all),
            Value::Object(keywords) => {
                let kept = keywords.iter().filter_map(|(keyword, value)| {
                    self.keyword(keyword, value).map(|value| (keyword.clone(), value))
                });
                Value::Object(kept.collect())
            }
            _ => Value::Object(Map::new()),
        }
    }

    fn keyword(&self, keyword: &str, value: &Value) -> Option<Value> {
        let kept = |valid: bool| valid.then(|| value.clone());
        match keyword {
            "$ref" => self.reference(value.as_str()?),
            // These would change the base of references or the rules of the schema, or exist in `OpenAPI` only.
            "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$id" | "$schema" | "$vocabulary"
            | "discriminator" | "externalDocs" | "xml" => None,
            "additionalProperties"
            | "contains"
            | "contentSchema"
            | "else"
            | "if"
            | "items"
            | "not"
            | "propertyNames"
            | "then"
            | "unevaluatedItems"
            | "unevaluatedProperties" => {
                (value.is_object() || value.is_boolean()).then(|| self.schema(value))
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                let items = value.as_array().filter(|items| !items.is_empty())?;
                Some(items.iter().map(|item| self.schema(item)).collect())
            }
            "$defs" | "definitions" | "dependentSchemas" | "patternProperties" | "properties" => {
                let members = value.as_object()?.iter();
                Some(Value::Object(members.map(|(name, value)| (name.clone(), self.schema(value))).collect()))
            }
            "type" => kept(match value {
                Value::Array(types) => !types.is_empty() && types.iter().all(is_type) && is_unique(types),
                one => is_type(one),
            }),
            "required" => kept(is_names(value)),
            "dependentRequired" => kept(value.as_object().is_some_and(|names| names.values().all(is_names))),
            "enum" => kept(value.as_array().is_some_and(|values| !values.is_empty() && is_unique(values))),
            "examples" => kept(value.is_array()),
            "maxContains" | "maxItems" | "maxLength" | "maxProperties" | "minContains" | "minItems"
            | "minLength" | "minProperties" => kept(value.is_u64()),
            "exclusiveMaximum" | "exclusiveMinimum" | "maximum" | "minimum" => kept(value.is_number()),
            "multipleOf" => kept(value.as_f64().is_some_and(|step| step > 0.0)),
            "deprecated" | "readOnly" | "uniqueItems" | "writeOnly" => kept(value.is_boolean()),
            "$comment" | "contentEncoding" | "contentMediaType" | "description" | "format" | "pattern"
            | "title" => kept(value.is_string()),
            _ => Some(value.clone()),
        }
    }

    /// Converts a reference to a known named schema; drops any other, which would be dangling or lead out of the document.
    fn reference(&self, to: &str) -> Option<Value> {
        let name = to.strip_prefix(SCHEMAS)?;
        let known = is_component(name) && self.types.contains_key(name);
        known.then(|| Value::from(format!("{SCHEMAS}{}.{name}", self.object)))
    }
}

/// Checks whether a name may be that of a component (`OpenAPI` 3.1, 4.8.7).
fn is_component(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|name| TYPES.contains(&name))
}

fn is_names(value: &Value) -> bool {
    value.as_array().is_some_and(|names| names.iter().all(Value::is_string) && is_unique(names))
}

fn is_unique(values: &[Value]) -> bool {
    values.iter().enumerate().all(|(index, value)| !values[..index].contains(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schema_keywords_with_invalid_values_are_left_out() {
        let types = json!({"Known": {"type": "string"}, "no name": true});
        let types = types.as_object().expect("an object");
        let dialect = Dialect::new("x", types);
        for (schema, expected) in [
            (json!(null), json!({})),
            (json!(7), json!({})),
            (json!("string"), json!({})),
            (json!([{"type": "string"}]), json!({})),
            (json!(true), json!(true)),
            (json!(false), json!(false)),
            (json!({}), json!({})),
            (json!({"type": "text"}), json!({})),
            (json!({"type": null, "title": "T"}), json!({"title": "T"})),
            (json!({"type": ["string", "null"]}), json!({"type": ["string", "null"]})),
            (json!({"type": []}), json!({})),
            (json!({"type": ["string", "string"]}), json!({})),
            (json!({"type": "array", "items": null}), json!({"type": "array"})),
            (json!({"items": {"type": 1}}), json!({"items": {}})),
            (json!({"properties": {"a": null, "b": true}}), json!({"properties": {"a": {}, "b": true}})),
            (json!({"properties": ["a"], "required": "a"}), json!({})),
            (json!({"required": ["a", 1]}), json!({})),
            (json!({"anyOf": [], "oneOf": [null], "enum": 3}), json!({"oneOf": [{}]})),
            (json!({"minLength": -1, "maximum": "9", "maxItems": 2}), json!({"maxItems": 2})),
            (json!({"$ref": 7}), json!({})),
            (json!({"$ref": "#/components/schemas/Known"}), json!({"$ref": "#/components/schemas/x.Known"})),
            (json!({"$ref": "#/components/schemas/Gone"}), json!({})),
            (json!({"$ref": "#/components/schemas/no name"}), json!({})),
            (json!({"$ref": "https://example.com/schema"}), json!({})),
            (json!({"$id": "https://example.com", "$schema": 1, "x-own": null}), json!({"x-own": null})),
            (json!({"enum": [{"$ref": "as it is"}]}), json!({"enum": [{"$ref": "as it is"}]})),
        ] {
            assert_eq!(dialect.schema(&schema), expected, "{schema}");
        }
        let names: Vec<String> = dialect.types().map(|(name, _)| name).collect();
        assert_eq!(names, ["x.Known"]);
    }
}
