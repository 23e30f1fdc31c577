//! Summary of the results of several rounds.

/// Median, minimum and maximum of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Minimum.
    pub low: f64,
    /// Maximum.
    pub high: f64,
}

impl Spread {
    /// Summarizes values; `None` if there are none.
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

/// Returns the median; for an even number of values, the mean of the two in the middle.
///
/// # Panics
///
/// Panics if there are no values.
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
