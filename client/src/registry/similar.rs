//! Names that might have been meant.

/// At most this many are offered.
const OFFERED: usize = 3;

/// Those of `known` that `name` may be a slip for, the nearest first: at most a third of its letters differ,
/// counting an insertion, a removal, another letter and two letters the wrong way round as one each.
pub fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let letters: Vec<char> = name.to_lowercase().chars().collect();
    let most = (letters.len() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|other| {
            let others: Vec<char> = other.to_lowercase().chars().collect();
            if letters.len().abs_diff(others.len()) > most {
                return None;
            }
            Some((distance(&letters, &others), other)).filter(|(distance, _)| *distance <= most)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}

/// Optimal string alignment distance.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows = [vec![0; other.len() + 1], (0..=other.len()).collect(), vec![0; other.len() + 1]];
    for i in 1..=one.len() {
        rows[2][0] = i;
        for j in 1..=other.len() {
            let change = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (rows[1][j] + 1).min(rows[2][j - 1] + 1).min(rows[1][j - 1] + change);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = least;
        }
        rows.rotate_left(1);
    }
    rows[1][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(one: &str, other: &str) -> usize {
        distance(&one.chars().collect::<Vec<_>>(), &other.chars().collect::<Vec<_>>())
    }

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("calculater", "calculator", 1),
            ("ecoh", "echo", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("é", "e", 1),
        ] {
            assert_eq!(between(one, other), expected, "{one} {other}");
            assert_eq!(between(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn the_nearest_come_first_and_the_far_not_at_all() {
        let known = ["calculator", "calculators", "echo", "server", "Calculator"];
        assert_eq!(similar("calculater", known), ["Calculator", "calculator", "calculators"]);
        assert_eq!(similar("ecoh", known), ["echo"]);
        assert_eq!(similar("something", known), [""; 0]);
        assert_eq!(similar("", known), [""; 0]);
    }
}
