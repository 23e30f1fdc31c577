//! Suggestions for a mistyped name.

use strsim::osa_distance;

/// Maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 3;

/// Returns those of `known` that `name` may be a typo of, the nearest first: at most a third of its letters differ, where an
/// insertion, a deletion, a substitution and a transposition of neighbours count as one each.
pub fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let letters = name.chars().count();
    let most = (letters / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|other| {
            let lower = other.to_lowercase();
            if letters.abs_diff(lower.chars().count()) > most {
                return None;
            }
            Some((osa_distance(&name, &lower), other)).filter(|(distance, _)| *distance <= most)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_sorted_by_distance_and_bounded() {
        let known = ["calculator", "calculators", "echo", "server", "Calculator"];
        assert_eq!(similar("calculater", known), ["Calculator", "calculator", "calculators"]);
        assert_eq!(similar("ecoh", known), ["echo"]);
        assert_eq!(similar("kafé", ["kafe", "kéfa"]), ["kafe"]);
        assert_eq!(similar("something", known), [""; 0]);
        assert_eq!(similar("", known), [""; 0]);
    }
}
