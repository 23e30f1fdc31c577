//! Schedules: calls that are repeated by a cron expression in a time zone.

use std::str::FromStr as _;

use chrono::DateTime;
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use rantai_client::wire::fault::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::options::Options;
use super::owner::Owner;
use super::task::Task;

/// Maximum length of an expression, in bytes.
const MAX_CRON_BYTES: usize = 256;
/// Maximum length of a name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Times at which a schedule creates tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Cron expression: minute, hour, day of the month, month, day of the week; with six fields, the first one is
    /// seconds.
    pub cron: String,
    /// Time zone of the expression, such as `Asia/Jakarta`.
    #[serde(default = "utc")]
    pub zone: String,
    /// Whether a task is created even if the previous one has not ended.
    #[serde(default)]
    pub overlap: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Call that is repeated by a cron expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// Name of the schedule.
    pub name: String,
    /// The cron expression and time zone by which it makes tasks.
    pub timing: Timing,
    /// Object to call.
    pub object: String,
    /// Method to call.
    pub method: String,
    /// Parameters of the call.
    pub params: Value,
    /// Options of each task.
    pub options: Options,
    /// Time of the next task, in milliseconds since 1970; `None` if there will be none.
    pub next_ms: Option<u64>,
    /// Number of tasks that it has created.
    pub made: u64,
    /// Number of times at which it created no task, because the previous one had not ended, or the ledger was full.
    pub skipped: u64,
    /// Id of its latest task.
    pub last: Option<String>,
    /// User that it belongs to; `None` if it was created by a client without a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Reason why its tasks could not be called now, as no node serves the object. Reported once, when the schedule is
    /// created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Share that it counts against. Stored on disk, and never returned to callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) owner: Option<Owner>,
}

impl Timing {
    /// Returns the first time after `now`, in milliseconds since 1970; `None` if there is none.
    ///
    /// Daylight saving time: if the expression names the hour, a time that the change of the clock skips is due right
    /// after the change, and a time that occurs twice counts once. With `*` in the hour, schedules follow elapsed time.
    ///
    /// # Errors
    ///
    /// The expression or the time zone is not valid.
    pub(super) fn next(&self, now: u64) -> Result<Option<u64>, Fault> {
        let zone = Tz::from_str(&self.zone)
            .map_err(|_| Fault::wrong_parameter("timing.zone", "a time zone such as Asia/Jakarta"))?;
        if self.cron.len() > MAX_CRON_BYTES {
            return Err(Fault::wrong_parameter("timing.cron", "at most 256 bytes"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(&self.cron).map_err(|error| {
            let expected = format!(
                "a cron expression such as 30 7 * * MON-FRI: minute, hour, day of the month, month and day of the week, \
                 with seconds in front of them or without ({error})"
            );
            Fault::wrong_parameter("timing.cron", &expected)
        })?;
        let now = i64::try_from(now).ok().and_then(DateTime::from_timestamp_millis);
        let next = now.and_then(|now| cron.find_next_occurrence(&now.with_timezone(&zone), false).ok());
        Ok(next.and_then(|time| u64::try_from(time.timestamp_millis()).ok()))
    }
}

impl Schedule {
    /// Checks the arguments, and creates a schedule.
    ///
    /// # Errors
    ///
    /// The schedule could never make a task, or only one.
    pub(super) fn new(
        name: String,
        timing: Timing,
        object: String,
        method: String,
        params: Value,
        options: Options,
        now: u64,
    ) -> Result<Self, Fault> {
        let of = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(of) {
            return Err(Fault::wrong_parameter("name", "1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        if options.key.is_some() || options.at_ms.is_some() || !options.after.is_empty() {
            let expected = "none of key, at_ms and after: each task of a schedule stands by itself";
            return Err(Fault::wrong_parameter("options", expected));
        }
        let next_ms = timing.next(now)?;
        if next_ms.is_none() {
            return Err(Fault::wrong_parameter("timing.cron", "a time that will come"));
        }
        let (made, skipped, last, user, waits, owner) = (0, 0, None, None, None, None);
        let schedule = Self {
            name,
            timing,
            object,
            method,
            params,
            options,
            next_ms,
            made,
            skipped,
            last,
            user,
            waits,
            owner,
        };
        schedule.task(Uuid::nil(), now)?;
        Ok(schedule)
    }

    /// Creates a task of this schedule, with a new `id`.
    pub(super) fn task(&self, id: Uuid, now: u64) -> Result<Task, Fault> {
        let task = Task::new(id, &self.object, &self.method, self.params.clone(), self.options.clone(), now)?;
        Ok(Task { schedule: Some(self.name.clone()), user: self.user.clone(), ..task })
    }

    /// Returns the key in the store. Schedules of different owners may have the same name; a name does not contain a slash.
    pub(super) fn row(user: Option<&str>, name: &str) -> String {
        user.map_or_else(|| name.to_owned(), |user| format!("{user}/{name}"))
    }

    /// Records that the time of the schedule has passed. `task` is the task that it made, or `None` if it could not make
    /// one. If several times have passed, they count as one, and the next is after `now`.
    pub(super) fn passed(&mut self, task: Option<&Task>, now: u64) {
        match task {
            Some(task) => {
                self.made += 1;
                self.last = Some(task.id.clone());
            }
            None => self.skipped += 1,
        }
        self.next_ms = self.timing.next(now).ok().flatten();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> u64 {
        DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis().cast_unsigned()
    }

    fn timing(cron: &str, zone: &str) -> Timing {
        Timing { cron: cron.to_owned(), zone: zone.to_owned(), overlap: false }
    }

    fn schedule(cron: &str, options: Options) -> Result<Schedule, Fault> {
        let (name, object, method) = ("daily".to_owned(), "pages".to_owned(), "add".to_owned());
        Schedule::new(name, timing(cron, "UTC"), object, method, json!([1, 2]), options, 0)
    }

    #[test]
    fn schedule_times_follow_the_time_zone() {
        for (cron, zone, now, next) in [
            ("30 7 * * *", "Asia/Jakarta", "2026-03-01T00:30:00Z", "2026-03-02T00:30:00Z"),
            ("30 7 * * *", "Asia/Jakarta", "2026-03-01T00:29:59Z", "2026-03-01T00:30:00Z"),
            ("0 9 * * MON-FRI", "UTC", "2026-11-20T09:00:00Z", "2026-11-23T09:00:00Z"),
            ("*/10 * * * * *", "UTC", "2026-11-20T09:00:01Z", "2026-11-20T09:00:10Z"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@daily", "UTC", "2026-11-20T09:00:00Z", "2026-11-21T00:00:00Z"),
            // In Berlin, the clock goes from 02:00 to 03:00 in March, and from 03:00 to 02:00 in October.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
        ] {
            assert_eq!(timing(cron, zone).next(at(now)), Ok(Some(at(next))), "{cron} after {now} in {zone}");
        }
    }

    #[test]
    fn invalid_schedules_are_refused() {
        for cron in ["", "x", "61 * * * *", "* * *", "* * * * * * *", "0 0 31 2 *", &"*".repeat(300)] {
            let fault = schedule(cron, Options::default()).expect_err(cron);
            assert_eq!(fault.data["path"], "timing.cron", "{cron}");
        }
        assert!(timing("* * * * *", "Asia/Atlantis").next(0).is_err());
        assert!(schedule("* * * * *", Options { key: Some("x".to_owned()), ..Options::default() }).is_err());
        assert!(schedule("* * * * *", Options { at_ms: Some(1), ..Options::default() }).is_err());
        assert!(schedule("* * * * *", Options { timeout_ms: 0, ..Options::default() }).is_err());
        assert!(schedule("* * * * *", Options::default()).is_ok());
    }

    #[test]
    fn random_cron_expressions_never_panic() {
        const PIECES: [&str; 20] = [
            "*",
            "/",
            "-",
            ",",
            "0",
            "9",
            "31",
            "L",
            "W",
            "#",
            "MON",
            "@",
            "?",
            "+",
            " ",
            "  ",
            "é",
            "\u{0}",
            "4294967296",
            "JAN",
        ];
        let mut seed = 1_u32;
        let mut any = |most: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % most
        };
        for _ in 0..20_000 {
            let cron: String = (0..=any(12)).map(|_| PIECES[any(PIECES.len())]).collect();
            let _ = timing(&cron, "Europe/Berlin").next(at("2026-11-20T09:00:00Z"));
        }
    }

    #[test]
    fn missed_times_count_as_one() {
        let mut schedule = schedule("* * * * *", Options::default()).expect("a schedule");
        assert_eq!(schedule.next_ms, Some(60_000));
        let task = schedule.task(Uuid::now_v7(), 3_600_500).expect("a task");
        schedule.passed(Some(&task), 3_600_500);
        assert_eq!((schedule.made, schedule.next_ms), (1, Some(3_660_000)));
        schedule.passed(None, 3_660_000);
        assert_eq!((schedule.made, schedule.skipped, schedule.last), (1, 1, Some(task.id)));
    }
}
