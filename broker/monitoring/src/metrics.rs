//! Text formats of the readings: `OpenMetrics` 1.0, and Prometheus' text format 0.0.4 for clients that do not ask for
//! `OpenMetrics`.

use std::fmt::{self, Write as _};

use rantai_broker::{Reading, ReadingValue, Readings};

/// Prefix of every metric.
const PREFIX: &str = "rantai_broker_";

/// Text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Text format 0.0.4 of Prometheus.
    Prometheus,
}

impl Format {
    /// Returns the format for a request with this `Accept` header.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let names_it = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                && !parts.any(|part| part == "q=0")
        };
        match accept {
            Some(accept) if accept.split(',').any(names_it) => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// Returns the value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes all readings.
pub(crate) fn text(readings: &Readings, format: Format) -> String {
    let mut text = String::with_capacity(16 << 10);
    let written = readings.all.iter().try_for_each(|reading| write(&mut text, reading, format));
    written.and_then(|()| ready(&mut text, readings)).expect("a String takes everything");
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write(text: &mut String, reading: &Reading, format: Format) -> fmt::Result {
    let name = reading.name;
    let (family, kind) = match (reading.value, format) {
        (ReadingValue::Counter(_), Format::OpenMetrics) => (name.to_owned(), "counter"),
        (ReadingValue::Counter(_), Format::Prometheus) => (format!("{name}_total"), "counter"),
        (ReadingValue::Version(_), Format::OpenMetrics) => {
            (name.trim_end_matches("_info").to_owned(), "info")
        }
        _ => (name.to_owned(), "gauge"),
    };
    head(text, &family, kind, reading.help)?;
    if let (Some(unit), Format::OpenMetrics) = (reading.unit, format) {
        writeln!(text, "# UNIT {PREFIX}{family} {}", unit.name())?;
    }
    match reading.value {
        ReadingValue::Counter(value) => writeln!(text, "{PREFIX}{name}_total {value}"),
        ReadingValue::Gauge(value) | ReadingValue::Uptime(value) => writeln!(text, "{PREFIX}{name} {value}"),
        ReadingValue::State(state, states) => states
            .iter()
            .try_for_each(|of| writeln!(text, "{PREFIX}{name}{{state=\"{of}\"}} {}", u8::from(*of == state))),
        ReadingValue::Version(version) => writeln!(text, "{PREFIX}{name}{{version=\"{version}\"}} 1"),
    }
}

/// Writes the metric `ready`, which is not among the readings.
fn ready(text: &mut String, readings: &Readings) -> fmt::Result {
    head(text, "ready", "gauge", "Whether a new client would be served: what /readyz answers.")?;
    writeln!(text, "{PREFIX}ready {}", u8::from(readings.not_ready.is_empty()))
}

fn head(text: &mut String, family: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {PREFIX}{family} {help}\n# TYPE {PREFIX}{family} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_chosen_by_the_accept_header() {
        for (accept, expected) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/plain;version=0.0.4;q=0.2,*/*;q=0.1"), Format::Prometheus),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
                ),
                Format::OpenMetrics,
            ),
            (Some("text/plain, application/openmetrics-text; q=0"), Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept:?}");
        }
    }
}
