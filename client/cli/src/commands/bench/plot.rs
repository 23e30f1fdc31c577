//! Histogram of latencies in plain characters, within 80 columns.

use rantai_load::latencies::{Bucket, shown};

/// Maximum number of rows; if there are more buckets, some are merged.
const MAX_ROWS: usize = 20;
/// Length of the longest bar, in characters.
const MAX_BAR_CHARS: u64 = 40;
/// Numbers of buckets that may be merged into a row: each divides the next, and a decade has ten.
const MERGED_BUCKETS: [usize; 4] = [1, 2, 5, 10];

/// Draws one line for each range of latencies, the shortest first.
pub(super) fn draw(buckets: &[Bucket]) -> Vec<String> {
    let rows = rows(buckets);
    let most = rows.iter().map(|row| row.count).max().unwrap_or(0);
    let all: u64 = rows.iter().map(|row| row.count).sum();
    rows.iter()
        .map(|row| {
            // Rounded up, so that every count is visible.
            let bar = (u128::from(row.count) * u128::from(MAX_BAR_CHARS)).div_ceil(u128::from(most.max(1)));
            let percent = row.count as f64 / all.max(1) as f64 * 100.0;
            let up_to = shown(row.end() as f64 / 1000.0);
            let line = format!(
                "  <= {up_to:>8}  {:<width$}  {:>12} {percent:5.1} %",
                "#".repeat(bar as usize),
                row.count,
                width = MAX_BAR_CHARS as usize
            );
            line
        })
        .collect()
}

fn rows(buckets: &[Bucket]) -> Vec<Bucket> {
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else { return Vec::new() };
    // A row ends where its last bucket ends: at a round time, independent of the first bucket.
    let row = |place: usize, together: usize| place.div_ceil(together);
    let together = MERGED_BUCKETS.into_iter().find(|t| row(last.place, *t) - row(first.place, *t) < MAX_ROWS);
    let together = together.unwrap_or(MERGED_BUCKETS[MERGED_BUCKETS.len() - 1]);
    let mut rows: Vec<Bucket> = Vec::new();
    for bucket in buckets {
        let place = row(bucket.place, together) * together;
        match rows.last_mut() {
            Some(row) if row.place == place => row.count += bucket.count,
            _ => rows.push(Bucket { place, count: bucket.count }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: impl IntoIterator<Item = (usize, u64)>) -> Vec<Bucket> {
        counts.into_iter().map(|(place, count)| Bucket { place, count }).collect()
    }

    #[test]
    fn bars_are_proportional_to_counts() {
        let lines = draw(&buckets([(20, 10), (21, 0), (22, 5), (23, 1)]));
        let bars: Vec<usize> = lines.iter().map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [40, 0, 20, 4]);
        let places: Vec<&str> = lines.iter().map(|line| line[..13].trim()).collect();
        assert_eq!(places, ["<=   100 us", "<=   125 us", "<=   160 us", "<=   200 us"]);
        assert!(lines[0].ends_with("10  62.5 %"), "{}", lines[0]);
        assert!(draw(&[]).is_empty());
    }

    #[test]
    fn merged_rows_keep_all_counts_and_every_count_is_visible() {
        for (from, to) in [(0, 5), (3, 22), (3, 23), (0, 60), (7, 99)] {
            let wide = buckets((from..=to).map(|place| (place, if place == to { 1 } else { 1_000_000_000 })));
            let lines = draw(&wide);
            assert!(lines.len() <= MAX_ROWS, "{from} to {to}: {}", lines.len());
            assert!(lines.last().expect("some").contains('#'));
            let drawn: u64 = rows(&wide).iter().map(|row| row.count).sum();
            assert_eq!(drawn, wide.iter().map(|bucket| bucket.count).sum::<u64>());
        }
    }

    #[test]
    fn every_line_is_plain_text_within_80_columns() {
        let wide = buckets((0..100).map(|place| (place, 999_999_999_999)));
        for line in draw(&wide).iter().chain(&draw(&wide[..3])) {
            assert!(line.len() < 80 && line.is_ascii(), "{} in {line:?}", line.len());
        }
    }
}
