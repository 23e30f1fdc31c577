//! Templates of output lines.

/// Text with placeholders such as `{field}`; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Field(String),
}

impl Template {
    /// Parses a text; fails if it names an unknown field, or a brace is not paired.
    pub(crate) fn new(text: &str, fields: &[&str]) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let known = format!("there are {{{}}}; a brace itself is {{{{ or }}}}", fields.join("}, {"));
            let field = rest.split_once('}').filter(|_| brace == "{");
            let Some((field, after)) = field else { return Err(format!("a single {brace}; {known}")) };
            if !fields.contains(&field) {
                return Err(format!("no field {{{field}}}; {known}"));
            }
            parts.push(TemplatePart::Text(std::mem::take(&mut plain)));
            parts.push(TemplatePart::Field(field.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        parts.push(TemplatePart::Text(plain));
        Ok(Self(parts))
    }

    /// Formats the line: `value` returns the text for each field. Braces in these texts have no meaning.
    pub(crate) fn fill<'a>(&self, value: impl Fn(&str) -> &'a str) -> String {
        self.0.iter().fold(String::new(), |line, part| match part {
            TemplatePart::Text(text) => line + text,
            TemplatePart::Field(field) => line + value(field),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let template = Template::new(text, &["payload", "topic"])?;
        Ok(template.fill(|field| if field == "topic" { "a/b" } else { "{topic}" }))
    }

    #[test]
    fn fields_are_filled_once() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{payload} (Topic: {topic})", "{topic} (Topic: a/b)"),
            ("{{{topic}}}", "{a/b}"),
            ("{{}}", "{}"),
            ("°{topic}°", "°a/b°"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
        for wrong in ["{", "}", "{topic", "{other}", "{}", "{topic}}"] {
            assert!(filled(wrong).is_err_and(|error| error.contains("{payload}, {topic}")), "{wrong}");
        }
    }
}
