//! Validation of the names of nodes, images and snapshots. Each name is used literally as a file name.

use super::reply::{Problem, Status};

/// Maximum length of a name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Checks the name of an image, a snapshot or a file.
pub(super) fn file(what: &str, name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    // Names of incomplete files have this suffix.
    if begins && name.len() <= MAX_NAME_BYTES && name.chars().all(allowed) && !has_suffix(name) {
        return Ok(());
    }
    let text =
        format!("{name:?} is no name of {what}: 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first");
    Err(Problem::new(Status::OutOfRange, text))
}

fn has_suffix(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(super::storage::PART)
}

/// Checks the name of a node, which is also part of an iSCSI name, where capital letters are not allowed (RFC 3722).
pub(super) fn node(name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && name.len() <= MAX_NAME_BYTES && name.chars().all(allowed) && !has_suffix(name) {
        return Ok(());
    }
    let text = format!("{name:?} is no name of a node: 1 to 64 of a-z 0-9 . -, a letter or digit first");
    Err(Problem::new(Status::OutOfRange, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for good in ["hadoopMaster.img", "a", "HadoopMasterGoldenImage", "x_1-2.3"] {
            assert_eq!(file("an image", good), Ok(()), "{good}");
        }
        for bad in
            ["", ".", "..", "../x", "a/b", "a\0", "-rf", "é", "a b", "x.part", "x.PART", &"a".repeat(65)]
        {
            assert_eq!(file("an image", bad).map_err(|e| e.status), Err(Status::OutOfRange), "{bad:?}");
            assert!(node(bad).is_err(), "{bad:?}");
        }
        assert!(node("cisco-5").is_ok() && node("Cisco-5").is_err() && node("a_b").is_err());
    }
}
