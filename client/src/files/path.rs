//! Validation of the paths of shared files.

/// Maximum length of a path, in bytes.
const MAX_PATH_BYTES: usize = 1_024;
/// Maximum number of parts.
const MAX_DEPTH: usize = 32;
/// Maximum length of one part, in bytes: the name of a part of a transfer is longer, and limited to 255.
const MAX_NAME_BYTES: usize = 200;

/// Reason why hidden files are not shared.
pub const HIDDEN: &str = "a name must not begin with a dot: hidden files are not shared";

/// Checks the path of a shared file: relative, without hidden parts and without `..`.
///
/// # Errors
///
/// The rule that the path breaks.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let denied = |why: &'static str| Err(why);
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return denied("a path must have 1 to 1,024 bytes");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return denied("a path must not contain control characters or backslashes");
    }
    let mut depth = 0;
    for part in path.split('/') {
        depth += 1;
        if part.is_empty() {
            return denied("a path must be relative, with one / between two names");
        }
        if part.starts_with('.') {
            return denied(HIDDEN);
        }
        if part.len() > MAX_NAME_BYTES {
            return denied("a name must have at most 200 bytes");
        }
    }
    if depth > MAX_DEPTH { denied("a path must be at most 32 folders deep") } else { Ok(()) }
}
