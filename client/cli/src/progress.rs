//! Progress of transfers and calls, on a terminal.

use std::time::{Duration, Instant};

use rantai_client::object::Progress;

use crate::terminal::{can_redraw, end_line, redraw};

/// Minimum interval between two redraws.
const MIN_REDRAW_INTERVAL: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

/// Progress bar in one line, redrawn in place; shows nothing if stderr is no terminal.
pub(crate) struct Bar {
    name: String,
    began: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Bar {
    /// Creates a bar; `wanted` is false if several bars would overwrite each other.
    pub(crate) fn new(name: &str, wanted: bool) -> Self {
        let shown = wanted && can_redraw();
        Self { name: name.to_owned(), began: Instant::now(), drawn: None, shown }
    }

    pub(crate) fn show(&mut self, there: u64, size: u64) {
        let now = Instant::now();
        let early =
            self.drawn.is_some_and(|drawn| now.duration_since(drawn) < MIN_REDRAW_INTERVAL) && there < size;
        if !self.shown || early {
            return;
        }
        self.drawn = Some(now);
        redraw(&line(&self.name, there, size, self.began.elapsed()));
    }

    pub(crate) fn end(&mut self) {
        if self.drawn.take().is_some() {
            end_line();
        }
    }
}

/// Line with the progress of a call, in the object's words.
pub(crate) struct Line {
    drawn: bool,
    shown: bool,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { drawn: false, shown: can_redraw() }
    }

    pub(crate) fn wanted(&self) -> bool {
        self.shown
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        self.drawn = true;
        redraw(&words(progress));
    }

    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            redraw("");
        }
    }
}

fn words(Progress { done, total, text }: &Progress) -> String {
    let text: String = text.chars().take(60).collect();
    let part = if *total == 0 { done.to_string() } else { format!("{done} of {total}") };
    if text.is_empty() { part } else { format!("{part}  {text}") }
}

fn line(name: &str, there: u64, size: u64, took: Duration) -> String {
    let part = if size == 0 { 1.0 } else { there as f64 / size as f64 };
    let full = (u128::from(there) * WIDTH as u128 / u128::from(size.max(1))).min(WIDTH as u128) as usize;
    let full = if size == 0 { WIDTH } else { full };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rate = mib(there) / took.as_secs_f64().max(0.001);
    format!(
        "{name} [{}{}] {:3.0} %  {:.1} of {:.1} MiB  {rate:.1} MiB/s",
        "#".repeat(full),
        ".".repeat(WIDTH - full),
        part * 100.0,
        mib(there),
        mib(size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_words_show_amounts_and_text() {
        let told = |done, total, text: &str| words(&Progress { done, total, text: text.to_owned() });
        assert_eq!(told(1, 4, ""), "1 of 4");
        assert_eq!(told(7, 0, "books"), "7  books");
    }

    #[test]
    fn progress_bar_is_full_at_the_end_and_never_longer() {
        let at = |there, size| line("x", there, size, Duration::from_secs(2));
        assert!(at(0, 100).contains(&format!("[{}]   0 %", ".".repeat(30))));
        assert!(at(2 << 20, 4 << 20).contains("50 %  2.0 of 4.0 MiB  1.0 MiB/s"));
        for size in [0, 1, 100] {
            assert!(at(size, size).contains(&format!("[{}] 100 %", "#".repeat(30))));
        }
    }
}
