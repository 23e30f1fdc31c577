//! From the numbers of rounds to those that are reported.

/// Median, lowest and highest of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The value in the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// `None` when there is nothing to sum up.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, low: sorted[0], high: *sorted.last()? })
    }
}

/// The median; of an even count the mean of the two in the middle.
///
/// # Panics
///
/// Without any value.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(&values.into_iter().collect::<Vec<_>>()).expect("at least one value").median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert_eq!(Spread::of(&[]), None);
    }
}
