//! Schedules: calls that are repeated by a cron expression in a time zone.

use std::str::FromStr as _;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
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
/// Maximum time that a change of the clock skips, in minutes: the one in Antarctica/Troll skips two hours, and where a zone
/// crosses the date line, a day is skipped.
const MAX_SKIP_MIN: i64 = 24 * 60;

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
    /// Daylight saving time: if the expression names hours (by numbers, lists, ranges or steps), a time that the change of
    /// the clock skips is due right after the change, and a time that occurs twice counts once. With `*` in the hour,
    /// schedules follow elapsed time.
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
        let next = now.and_then(|now| {
            let now = now.with_timezone(&zone);
            if (0..24).all(|hour| matches!(cron.pattern.hour_match(hour), Ok(true))) {
                cron.find_next_occurrence(&now, false).ok()
            } else {
                next_by_the_clock(&cron, &now)
            }
        });
        Ok(next.and_then(|time| u64::try_from(time.timestamp_millis()).ok()))
    }
}

/// Returns the first time after `now` of an expression that names hours. The days of a clock that is never changed have each
/// of its times once, so these are looked for on such a clock, and carried over to the one of the zone.
fn next_by_the_clock(cron: &Cron, now: &DateTime<Tz>) -> Option<DateTime<Tz>> {
    let mut shown = now.naive_local().and_utc();
    loop {
        shown = cron.find_next_occurrence(&shown, false).ok()?;
        // A time that occurs twice may be over, although the clock shows it again.
        if let Some(time) = first_instant(now.timezone(), shown).filter(|time| time > now) {
            return Some(time);
        }
    }
}

/// Returns the first instant at which the clock of a zone shows a time; if the clock skips it, the end of the skip.
fn first_instant(zone: Tz, shown: DateTime<Utc>) -> Option<DateTime<Tz>> {
    let shown: NaiveDateTime = shown.naive_utc();
    match zone.from_local_datetime(&shown) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time),
        // Clocks are changed at full minutes.
        MappedLocalTime::None => (1..=MAX_SKIP_MIN).find_map(|minutes| {
            let later = shown + TimeDelta::minutes(minutes);
            let change = later - TimeDelta::seconds(later.and_utc().timestamp().rem_euclid(60));
            zone.from_local_datetime(&change).earliest()
        }),
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

    /// Cause: the parser's own search takes an expression that has a list, a range or a step in any field for one that
    /// follows elapsed time, so that these left times out, and had others twice.
    #[test]
    fn lists_ranges_and_steps_meet_each_time_of_the_clock_once() {
        for (cron, zone, after, times) in [
            (
                "15,45 2 28 3 *",
                "Europe/Berlin",
                "2026-12-01T00:00:00Z",
                &["2027-03-28T01:00:00Z", "2028-03-28T00:15:00Z", "2028-03-28T00:45:00Z"][..],
            ),
            (
                "0 1,2 * * *",
                "America/New_York",
                "2026-11-01T04:00:00Z",
                &["2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z", "2026-11-02T06:00:00Z"],
            ),
            (
                "0 1-3 * * *",
                "Europe/Berlin",
                "2026-03-28T23:30:00Z",
                // 03:00 is the end of the skip: what was left out and what is due then are one.
                &["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T23:00:00Z"],
            ),
            (
                "*/30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T23:59:00Z",
                &["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z"],
            ),
            (
                "0 */2 * * *",
                "Europe/Berlin",
                "2026-10-24T22:00:00Z",
                &["2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"],
            ),
            ("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", &["2026-03-29T01:00:00Z"]),
            (
                "*/20 30 2 * * *",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            ),
            // The clock of Lord Howe is changed by half an hour: from 02:00 to 02:30, and from 02:00 to 01:30.
            (
                "10,40 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T15:00:00Z",
                &["2026-10-03T15:30:00Z", "2026-10-03T15:40:00Z", "2026-10-04T15:10:00Z"],
            ),
            (
                "20,40 1 * * *",
                "Australia/Lord_Howe",
                "2026-04-04T14:00:00Z",
                &["2026-04-04T14:20:00Z", "2026-04-04T14:40:00Z", "2026-04-05T14:50:00Z"],
            ),
            ("0,30 0 * * *", "Africa/Cairo", "2026-04-23T20:00:00Z", &["2026-04-23T22:00:00Z"]),
            ("30 1,2 * * *", "Antarctica/Troll", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z"]),
            ("15 9,17 * * *", "Asia/Kathmandu", "2026-03-29T03:30:00Z", &["2026-03-29T11:30:00Z"]),
            // With every hour, time passes as it does: both halves of the repeated hour count.
            (
                "0,30 * * * *",
                "America/New_York",
                "2026-11-01T05:00:00Z",
                &["2026-11-01T05:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T06:30:00Z"],
            ),
        ] {
            let mut now = at(after);
            for time in times {
                let next = timing(cron, zone).next(now);
                assert_eq!(next, Ok(Some(at(time))), "{cron} in {zone} after {after}");
                now = at(time);
            }
        }
    }

    /// Compares a year of each zone with all times that its clock should show.
    #[test]
    fn every_time_of_the_clock_is_met_once_in_every_zone() {
        const ZONES: [&str; 8] = [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
            "America/Santiago",
            "Antarctica/Troll",
            "Atlantic/Azores",
            "Asia/Kathmandu",
        ];
        for zone in ZONES {
            let clock: Tz = zone.parse().expect("a zone");
            for (hours, minutes) in
                [(&[0, 1, 2, 3][..], &[0, 30][..]), (&[1, 2, 23], &[15, 45]), (&[0, 2], &[59])]
            {
                let list = |all: &[u32]| all.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
                let timing = timing(&format!("{} {} * * *", list(minutes), list(hours)), zone);
                let (mut now, end) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
                let mut expected = std::collections::BTreeSet::new();
                for day in chrono::NaiveDate::from_ymd_opt(2025, 12, 31).expect("a day").iter_days().take(367)
                {
                    for (hour, minute) in
                        hours.iter().flat_map(|hour| minutes.iter().map(move |m| (*hour, *m)))
                    {
                        let mut shown = day.and_hms_opt(hour, minute, 0).expect("a time");
                        let instant = loop {
                            match clock.from_local_datetime(&shown) {
                                MappedLocalTime::None => shown += TimeDelta::minutes(1),
                                other => break other.earliest().expect("a time"),
                            }
                        };
                        expected.insert(instant.timestamp_millis().cast_unsigned());
                    }
                }
                let begin = now;
                let mut expected = expected.into_iter().filter(|time| *time > begin && *time < end);
                while let Some(next) = timing.next(now).expect("a schedule").filter(|next| *next < end) {
                    assert_eq!(Some(next), expected.next(), "{timing:?}");
                    now = next;
                }
                assert_eq!(expected.next(), None, "{timing:?}");
            }
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
