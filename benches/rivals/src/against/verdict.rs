//! Statistical verdict on whether one revision is faster than another, from pairs of measurements.

use std::fmt;

use rantai_load::spread::Spread;

/// Result of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Median of this revision over all pairs.
    pub(super) this: f64,
    /// Median of the other revision.
    pub(super) other: f64,
    /// Median of the pairs' ratios, above 1 if this revision is better, with its 95 % confidence interval.
    pub(super) ratio: Spread,
    pub(super) word: Word,
}

/// Verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Slower,
    Same,
    Faster,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Faster => "faster",
        })
    }
}

impl Verdict {
    /// Computes the verdict from pairs of this revision's value and the other's. `None` if there are too few pairs for
    /// an interval.
    pub(super) fn of(pairs: &[(f64, f64)], higher_is_better: bool) -> Option<Self> {
        let mut ratios: Vec<f64> = pairs
            .iter()
            .map(|(this, other)| if higher_is_better { this / other } else { other / this })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let rank = rank(ratios.len())?;
        let (low, high) = (ratios[rank - 1], ratios[ratios.len() - rank]);
        let ratio = Spread { low, high, ..Spread::of(&ratios)? };
        let word = match (low > 1.0, high < 1.0) {
            (true, _) => Word::Faster,
            (_, true) => Word::Slower,
            _ => Word::Same,
        };
        let median = |values: Vec<f64>| Spread::of(&values).map(|summary| summary.median);
        let this = median(pairs.iter().map(|(this, _)| *this).collect())?;
        let other = median(pairs.iter().map(|(_, other)| *other).collect())?;
        Some(Self { this, other, ratio, word })
    }
}

/// Returns the rank of the sorted values, from either end, between which the true median is with a probability of at
/// least 95 %. Uses the sign test, which assumes no distribution of the values. `None` below six values.
fn rank(count: usize) -> Option<usize> {
    let (mut rank, mut below, mut ways) = (0, 0.0, 1.0);
    loop {
        // Probability that at most this many of `count` fair coins show heads, on both sides.
        below += ways / 2_f64.powi(i32::try_from(count).ok()?);
        if 2.0 * below > 0.05 {
            return (rank > 0).then_some(rank);
        }
        ways *= (count - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_that_of_the_sign_test() {
        assert_eq!(
            [5, 6, 8, 9, 11, 15, 21, 30].map(rank),
            [None, Some(1), Some(1), Some(2), Some(2), Some(4), Some(6), Some(10)]
        );
    }

    #[test]
    fn a_verdict_needs_the_whole_interval_on_one_side() {
        let word = |ratios: [f64; 11], higher| {
            Verdict::of(&ratios.map(|ratio| (100.0 * ratio, 100.0)), higher).expect("eleven pairs").word
        };
        let mostly = [1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.5];
        assert_eq!(word(mostly, true), Word::Faster);
        assert_eq!(word(mostly, false), Word::Slower);
        let often = [1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.9, 0.5];
        assert_eq!(word(often, true), Word::Same);
        assert_eq!(word([1.0; 11], true), Word::Same);
    }

    #[test]
    fn the_ratio_is_paired_and_the_values_are_medians() {
        let pairs = [(1.0, 2.0), (10.0, 20.0), (100.0, 200.0), (2.0, 4.0), (3.0, 6.0), (4.0, 8.0)];
        let verdict = Verdict::of(&pairs, true).expect("six pairs");
        assert_eq!((verdict.this, verdict.other, verdict.ratio.median), (3.5, 7.0, 0.5));
        assert_eq!(verdict.word, Word::Slower);
    }
}
