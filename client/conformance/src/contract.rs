//! Finds the places of PROTOCOL.md that the cases test.

const PAGE: &str = include_str!("../PROTOCOL.md");

/// Place in PROTOCOL.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Heading above it.
    pub heading: &'static str,
    /// Whole sentence, or row of a table, without Markdown for code and emphasis.
    pub sentence: String,
}

/// Finds the places of PROTOCOL.md that contain this text, ignoring line breaks and Markdown for code and emphasis.
pub fn places(text: &str) -> Vec<Place> {
    let wanted = plain(text);
    let (mut heading, mut unit, mut found) = ("", String::new(), Vec::new());
    for line in PAGE.lines().chain([""]) {
        if let Some(title) = line.strip_prefix("# ").or(line.strip_prefix("## ")) {
            heading = title;
        }
        let is_row = line.starts_with('|');
        if (line.is_empty() || is_row) && !unit.is_empty() {
            found.extend(sentence_with(&plain(&unit), &wanted).map(|sentence| Place { heading, sentence }));
            unit.clear();
        }
        unit.push_str(line);
        unit.push(' ');
        if is_row {
            found.extend(sentence_in_row(&plain(&unit), &wanted).map(|sentence| Place { heading, sentence }));
            unit.clear();
        }
    }
    found
}

/// Returns the sentences of a paragraph that contain the text.
fn sentence_with(paragraph: &str, wanted: &str) -> Option<String> {
    let at = paragraph.find(wanted).filter(|_| !wanted.is_empty())?;
    let begin = paragraph[..at].rfind(". ").map_or(0, |end| end + 2);
    // A text that ends with a full stop ends before the blank after it.
    let last = at + wanted.len().saturating_sub(1);
    let last = (at..=last).rev().find(|index| paragraph.is_char_boundary(*index)).unwrap_or(at);
    let end = paragraph[last..].find(". ").map_or(paragraph.len(), |end| last + end + 1);
    Some(paragraph[begin..end].to_owned())
}

fn sentence_in_row(row: &str, wanted: &str) -> Option<String> {
    (!wanted.is_empty() && row.contains(wanted)).then(|| row.trim_matches([' ', '|']).to_owned())
}

fn plain(text: &str) -> String {
    let text = text.replace(['`', '*'], "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_found_across_line_breaks() {
        let [found] = &places("A batch is refused with -32600")[..] else { panic!("one place") };
        assert_eq!(found.heading, "A request");
        assert_eq!(found.sentence, "A batch is refused with -32600; MQTT pipelines by itself.");
        let [row] = &places("a JSON array | by position")[..] else { panic!("one row") };
        assert_eq!(row.sentence, "a JSON array | by position");
        assert_eq!(places("UTF-8 JSON of at most 64 levels")[0].heading, "The wire protocol, version 1");
        assert!(places("The moon is made of cheese.").is_empty() && places("").is_empty());
    }
}
