//! Detection of filters that may match more retained messages than intended.

use rantai_topics::overlap;

/// Checks whether a filter begins with a wildcard, or has one and matches entries or states of the registry of one of these
/// buses.
pub(super) fn is_wide(filter: &str, roots: &[String]) -> bool {
    let has_wildcard = filter.split('/').any(|level| matches!(level, "+" | "#"));
    let begins_with_one = filter.starts_with(['+', '#']);
    let is_registry = |root: &String| {
        ["name/+/+", "node/+"].iter().any(|below| overlap(filter, &format!("{root}/{below}")))
    };
    has_wildcard && (begins_with_one || roots.iter().any(is_registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_everything_and_of_the_registry_are_wide() {
        let roots = ["rantai".to_owned(), "acme/bus".to_owned()];
        for wide in ["#", "+", "+/x", "rantai/#", "rantai/+/x/y", "rantai/name/#", "rantai/node/+", "acme/#"]
        {
            assert!(is_wide(wide, &roots), "{wide}");
        }
        for narrow in
            ["site/#", "site/+/temp", "rantai/event/#", "rantai/name/lamp/pi", "acme/other/#", "rantaix/#"]
        {
            assert!(!is_wide(narrow, &roots), "{narrow}");
        }
    }
}
