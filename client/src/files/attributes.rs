//! Attributes that a transfer keeps: modification time and executable bit.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Latest modification time that is kept: the end of the year 9999, in milliseconds since 1970.
const LATEST_MS: u64 = 253_402_300_799_999;
/// Permission bits: those to read, to execute, and all that a mode has.
const READ: u32 = 0o444;
const EXECUTE: u32 = 0o111;
const ALL: u32 = 0o7777;

/// Attributes of a file that a transfer keeps besides its bytes. The owner and the other permissions are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attributes {
    /// Last modification, in milliseconds since 1970. Times before 1970 become 0, times after the year 9999 the end of
    /// 9999.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounded")]
    pub modified_ms: Option<u64>,
    /// Whether anybody may execute the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
}

impl Attributes {
    /// Returns the attributes that result from a file's modification time and permission bits.
    pub fn new(modified: io::Result<SystemTime>, mode: u32) -> Self {
        let executable = Some(mode & EXECUTE != 0);
        Self { modified_ms: modified.ok().map(milliseconds), executable }
    }

    /// Returns the attributes of a local file.
    pub fn of(about: &Metadata) -> Self {
        Self::new(about.modified(), about.permissions().mode())
    }

    /// Sets the known attributes on an open local file.
    ///
    /// An executable file gets the executable bit for everyone who may read it, as far as the process's umask allows; a
    /// file that some may already execute keeps its bits. All other bits are unchanged.
    ///
    /// # Errors
    ///
    /// The file belongs to another user, or the file system does not keep the attribute. The other attribute is set
    /// nevertheless.
    pub fn apply(self, file: &File) -> io::Result<()> {
        let about = file.metadata()?;
        let (mode, modified_ms) = (about.permissions().mode() & ALL, about.modified().ok().map(milliseconds));
        let wanted = self.executable.map_or(mode, |executable| with_executable(mode, executable, umask()));
        let permitted =
            if wanted == mode { Ok(()) } else { file.set_permissions(Permissions::from_mode(wanted)) };
        let timed = match self.modified_ms {
            Some(ms) if Some(ms.min(LATEST_MS)) != modified_ms => {
                file.set_modified(UNIX_EPOCH + Duration::from_millis(ms.min(LATEST_MS)))
            }
            _ => Ok(()),
        };
        permitted.and(timed)
    }

    /// Sets the attributes of a transferred file. Logs errors instead of returning them, because the bytes are correct
    /// without the attributes.
    pub fn apply_or_log(self, file: &File, path: &Path) {
        if let Err(error) = self.apply(file) {
            tracing::warn!(path = %path.display(), "cannot keep the time and the executable bit: {error}");
        }
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Returns the permission bits of a file after its executable bit was set or cleared.
fn with_executable(mode: u32, executable: bool, umask: u32) -> u32 {
    match (executable, mode & EXECUTE) {
        (false, _) => mode & !EXECUTE,
        (true, 0) => mode | ((mode & READ) >> 2 & !umask),
        (true, _) => mode,
    }
}

/// Returns the umask of this process, or 0 if `/proc` does not contain it: a file then becomes executable for everyone
/// who may read it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0)
}

/// Deserializes a time. Accepts any number, because a wrong clock must not make the transfer fail.
#[expect(clippy::cast_sign_loss, reason = "a negative number becomes 0")]
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_f64(),
        // Large integers are written as strings, because not every JSON parser reads them exactly.
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    };
    let wrong =
        || D::Error::invalid_value(Unexpected::Other(&value.to_string()), &"a number of milliseconds");
    let number = number.ok_or_else(wrong)?;
    Ok(Some((number as u64).min(LATEST_MS)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::json::typed;

    #[test]
    fn any_modification_time_is_accepted_and_bounded() {
        let taken = |value| typed::<Attributes>(json!({"modified_ms": value})).map(|read| read.modified_ms);
        for (value, expected) in [
            (json!(1_700_000_000_123_u64), 1_700_000_000_123),
            (json!(1_700_000_000_123.9), 1_700_000_000_123),
            (json!(0), 0),
            (json!(-1), 0),
            (json!(i64::MIN), 0),
            (json!(-1e300), 0),
            (json!(u64::MAX), LATEST_MS),
            (json!(1e300), LATEST_MS),
            (json!("18446744073709551616"), LATEST_MS),
            (json!("-9223372036854775808"), 0),
        ] {
            assert_eq!(taken(value.clone()).expect("a number"), Some(expected), "{value}");
        }
        assert_eq!(taken(json!(null)).expect("none"), None);
        assert!(taken(json!("yesterday")).is_err() && taken(json!([1])).is_err());
        let later = typed::<Attributes>(json!({"color": "red"})).expect("of a later version");
        assert_eq!((later, json!(later)), (Attributes::default(), json!({})));
    }

    #[test]
    fn executable_bit_follows_read_permission_and_umask() {
        for (mode, executable, umask, expected) in [
            (0o644, true, 0o022, 0o755),
            (0o600, true, 0o077, 0o700),
            (0o640, true, 0o027, 0o750),
            (0o666, true, 0o000, 0o777),
            (0o666, true, 0o111, 0o666),
            (0o400, true, 0o022, 0o500),
            (0o000, true, 0o000, 0o000),
            (0o744, true, 0o022, 0o744),
            (0o755, false, 0o022, 0o644),
            (0o4755, false, 0o022, 0o4644),
            (0o644, false, 0o022, 0o644),
        ] {
            let mode = with_executable(mode, executable, umask);
            assert_eq!(mode, expected, "{mode:o} {expected:o}");
        }
        assert!(umask() <= 0o777);
    }

    #[test]
    fn set_attributes_are_read_back_and_unknown_ones_unchanged() {
        let path = std::env::temp_dir().join(format!("rantai-attributes-{}", uuid::Uuid::new_v4()));
        let file = File::create(&path).expect("made");
        let of = || Attributes::of(&file.metadata().expect("there"));
        let set = Attributes { modified_ms: Some(1_000_000_000_123), executable: Some(true) };
        set.apply(&file).expect("ours");
        assert_eq!(of(), set);
        Attributes::default().apply(&file).expect("nothing to do");
        assert_eq!(of(), set);
        Attributes { executable: Some(false), ..Attributes::default() }.apply(&file).expect("ours");
        assert_eq!(of(), Attributes { executable: Some(false), ..set });
        let exact = UNIX_EPOCH + Duration::from_nanos(1_000_000_000_123_456_789);
        file.set_modified(exact).expect("ours");
        set.apply(&file).expect("ours");
        assert_eq!(
            file.metadata().and_then(|about| about.modified()).expect("a time"),
            exact,
            "the same in ms"
        );
        // The file system may refuse such a time, which is not an error here.
        Attributes { modified_ms: Some(u64::MAX), executable: None }.apply(&file).expect("bounded");
        std::fs::remove_file(&path).expect("removed");
    }
}
