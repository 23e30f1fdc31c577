//! Small XML documents, parsed to trees within limits: no document type, no entities besides XML's own five, and no
//! processing instructions, so that nothing refers to other documents or expands.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Maximum depth of elements.
const MAX_DEPTH: usize = 32;
/// Maximum number of elements.
const MAX_ELEMENTS: usize = 10_000;
/// Maximum number of attributes of one element, including namespace declarations.
const MAX_ATTRIBUTES: usize = 64;

/// XML element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Namespace, name and value of each attribute.
    pub(super) attributes: Vec<(String, String, String)>,
    /// Text of the element, without that of its children.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    pub(super) fn attribute(&self, namespace: &str, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(of, known, _)| of == namespace && known == name);
        found.map(|(.., value)| &**value)
    }

    /// Checks whether the element contains text other than white space.
    pub(super) fn has_text(&self) -> bool {
        self.text.contains(|c: char| !c.is_ascii_whitespace())
    }
}

/// Parses a document, and returns its root element.
pub(super) fn parse(document: &str) -> Result<Element, String> {
    if let Some(other) = document.chars().find(|c| !is_character(*c) && *c != '\u{FEFF}') {
        return Err(format!("the character U+{:04X}, which XML does not have", u32::from(other)));
    }
    let mut reader = NsReader::from_str(document.trim_start_matches('\u{FEFF}'));
    let (mut open, mut root, mut count): (Vec<Element>, Option<Element>, usize) = (Vec::new(), None, 0);
    loop {
        let at = reader.buffer_position();
        let wrong = |error: &dyn std::fmt::Display| format!("at byte {at}: {error}");
        let event = reader.read_event().map_err(|error| wrong(&error))?;
        let empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() >= MAX_DEPTH {
                    return Err(format!("more than {MAX_ELEMENTS} elements, or deeper than {MAX_DEPTH}"));
                }
                if root.is_some() {
                    return Err(wrong(&"a second element"));
                }
                let element = element(&reader, &tag).map_err(|error| wrong(&error))?;
                open.push(element);
                if empty {
                    close(&mut open, &mut root);
                }
            }
            Event::End(_) => close(&mut open, &mut root),
            Event::Text(text) => {
                let text = text.xml10_content();
                match open.last_mut() {
                    Some(element) => element.text.push_str(&text),
                    None if text.trim().is_empty() => {}
                    None => return Err(wrong(&"text outside of the document's element")),
                }
            }
            Event::CData(text) => match open.last_mut() {
                Some(element) => element.text.push_str(&text.xml10_content()),
                None => return Err(wrong(&"text outside of the document's element")),
            },
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| wrong(&error))?;
                let character = match (character, &*reference.xml10_content()) {
                    (Some(character), _) if is_character(character) => character,
                    (None, "lt") => '<',
                    (None, "gt") => '>',
                    (None, "amp") => '&',
                    (None, "apos") => '\'',
                    (None, "quot") => '"',
                    _ => return Err(wrong(&"an entity that is not one of XML's own")),
                };
                open.last_mut().ok_or_else(|| wrong(&"text outside of the element"))?.text.push(character);
            }
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose().map_err(|error| wrong(&error))?;
                if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
                    return Err(wrong(&"UTF-8 is the one encoding"));
                }
            }
            Event::DocType(_) => return Err(wrong(&"document type declarations are refused")),
            Event::PI(_) => return Err(wrong(&"processing instructions are refused")),
            Event::Comment(_) => {}
            Event::Eof if open.is_empty() => return root.ok_or_else(|| "no element".to_owned()),
            Event::Eof => return Err(wrong(&"it ends in the middle")),
        }
    }
}

/// Checks whether XML allows a character (XML 1.0, 2.2).
fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

fn close(open: &mut Vec<Element>, root: &mut Option<Element>) {
    if let Some(element) = open.pop() {
        match open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => *root = Some(element),
        }
    }
}

fn element(reader: &NsReader<&[u8]>, tag: &BytesStart<'_>) -> Result<Element, String> {
    let namespace = |resolved: ResolveResult<'_>, other: &str| match resolved {
        ResolveResult::Bound(namespace) => Ok(namespace.0.to_owned()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(prefix) => Err(format!("prefix {prefix:?} of {other} has no namespace")),
    };
    let (resolved, name) = reader.resolver().resolve_element(tag.name());
    let name = name.into_inner().to_owned();
    let mut element = Element { namespace: namespace(resolved, &name)?, name, ..Element::default() };
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if element.attributes.len() >= MAX_ATTRIBUTES {
            return Err(format!("more than {MAX_ATTRIBUTES} attributes"));
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        let (resolved, name) = reader.resolver().resolve_attribute(attribute.key);
        let name = name.into_inner().to_owned();
        element.attributes.push((namespace(resolved, &name)?, name, value.into_owned()));
    }
    Ok(element)
}

/// Escapes a text for use between tags; replaces characters that XML does not allow.
pub(super) fn text(text: &str) -> String {
    let kept: String = text.chars().map(|c| if is_character(c) { c } else { '\u{FFFD}' }).collect();
    // An unescaped carriage return would be read as a line feed.
    quick_xml::escape::escape(&kept).replace('\r', "&#13;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_namespaces_and_text() {
        let document = "\u{FEFF}<?xml version='1.0' encoding='UTF-8'?><!-- x --><s:a xmlns:s='urn:s' xmlns='urn:d' \
                        s:k='1' k='&lt;2'><b>x &amp; <![CDATA[<y>]]>&#233;</b><c/></s:a>\n";
        let root = parse(document).expect("a document");
        assert!(root.is("urn:s", "a") && !root.has_text());
        assert_eq!(root.attribute("urn:s", "k"), Some("1"));
        assert_eq!(root.attribute("", "k"), Some("<2"));
        assert!(root.children[0].is("urn:d", "b") && root.children[0].text == "x & <y>é");
        assert!(root.children[1].is("urn:d", "c"));
    }

    #[test]
    fn xml_with_entities_or_beyond_the_limits_is_refused() {
        let deep = "<a>".repeat(40) + &"</a>".repeat(40);
        let many = format!("<a>{}</a>", "<b/>".repeat(10_001));
        for document in [
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<a>&b;</a>",
            "<a b='&c;'/>",
            "<a>&#0;</a>",
            "<a>\u{1}</a>",
            "<a>&#xD800;</a>",
            "<?xml-stylesheet href='x'?><a/>",
            "<?xml version='1.0' encoding='UTF-16'?><a/>",
            "<a><b></a></b>",
            "<a>",
            "<a/><b/>",
            "x<a/>",
            "<a b='1' b='2'/>",
            "<s:a/>",
            "",
            &deep,
            &many,
        ] {
            assert!(parse(document).is_err(), "{}", &document[..document.len().min(60)]);
        }
    }

    #[test]
    fn escaped_xml_text_survives_a_round_trip() {
        let written = text("<a> & \"b\" 'c' ]]> \u{1} é \r");
        let read = parse(&format!("<x>{written}</x>")).expect("a document");
        assert_eq!(read.text, "<a> & \"b\" 'c' ]]> \u{FFFD} é \r");
    }
}
