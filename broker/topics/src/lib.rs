//! MQTT topics and topic filters: validation and matching (MQTT 5, 4.7). Shared by broker and client; filters are passed
//! without `$share/GROUP/`.

/// Maximum length of a topic or filter, in bytes (MQTT 5, 1.5.4).
const MAX_TOPIC_BYTES: usize = u16::MAX as usize;

/// Returns whether a text is a valid topic to publish to (MQTT 5, 4.7.1 and 4.7.3).
pub fn is_topic(text: &str) -> bool {
    // Checks bytes, not characters, for speed: the broker calls this for every PUBLISH.
    !text.is_empty() && text.len() <= MAX_TOPIC_BYTES && !text.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
}

/// Returns whether a text is a valid filter, with wildcards only where the standard allows them (MQTT 5, 4.7.1).
pub fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut fits = !text.is_empty() && text.len() <= MAX_TOPIC_BYTES && !text.contains('\0');
    while let Some(level) = levels.next() {
        fits &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !level.contains(['+', '#']),
        };
    }
    fits
}

/// Splits off the first level of a topic or filter; the rest is `None` if that was the last level.
pub fn split_level(text: &str) -> (&str, Option<&str>) {
    // Levels are short: a loop over their bytes is faster than a search that is optimized for long texts.
    match text.bytes().position(|byte| byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Returns whether a filter matches a topic (MQTT 5, 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    // A wildcard in the first level does not match topics that begin with `$`, such as `$SYS` [MQTT-4.7.2-1].
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Returns whether a filter matches every topic that another filter matches.
pub fn covers(filter: &str, other: &str) -> bool {
    // A wildcard in the first level does not match topics that begin with `$`, such as `$SYS` [MQTT-4.7.2-1].
    if other.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = other.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Returns whether there is a topic that matches both filters.
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    let special = |filter: &str| filter.starts_with('$');
    if (special(one) || special(other)) && [one, other].iter().any(|f| f.starts_with(['+', '#'])) {
        return false;
    }
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("+", "é", true),
            ("a", "b", false),
            ("a//+", "a//", true),
            ("+/b", "a/b", true),
            ("+", "", true),
            ("/+", "/x", true),
            ("a", "a/b", false),
            ("+", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn levels_are_split_off_as_split_does() {
        for text in ["", "/", "a", "a/", "/a", "a//b", "é/ü/#", "abc/def/ghi"] {
            let (mut levels, mut rest) = (Vec::new(), Some(text));
            while let Some(left) = rest {
                let (level, behind) = split_level(left);
                levels.push(level);
                rest = behind;
            }
            assert_eq!(levels, text.split('/').collect::<Vec<_>>(), "{text:?}");
        }
    }

    #[test]
    fn topics_and_filters_are_validated() {
        for topic in ["a", "/", "sister/temp", "a b/é", "$SYS/x"] {
            assert!(is_topic(topic) && is_filter(topic), "{topic}");
        }
        for filter in ["#", "+", "a/#", "+/+/#", "a/+/b"] {
            assert!(is_filter(filter) && !is_topic(filter), "{filter}");
        }
        let long = "x".repeat(65_536);
        for bad in ["", "a\0", "a/#/b", "#/a", "a#", "a/b+", "+a", &long] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn covering_and_overlapping_filters_are_recognized() {
        for (filter, other, covered, overlapping) in [
            ("#", "a/b", true, true),
            ("#", "+/b", true, true),
            ("a/#", "a", true, true),
            ("a/#", "a/+/c", true, true),
            ("a/+", "a/#", false, true),
            ("a/+", "a/b", true, true),
            ("a/b", "a/+", false, true),
            ("+/b", "a/+", false, true),
            ("a/b", "a/b", true, true),
            ("a", "a/b", false, false),
            ("a/b", "a/c", false, false),
            ("a/+", "a/+/#", false, true),
            ("#", "$SYS/#", false, false),
            ("$SYS/#", "$SYS/a", true, true),
        ] {
            assert_eq!(covers(filter, other), covered, "{filter} {other}");
            assert_eq!(overlap(filter, other), overlapping, "{filter} {other}");
            assert_eq!(overlap(other, filter), overlapping, "{other} {filter}");
        }
    }
}
