//! Keys of submissions. Each owner has its own.

use std::borrow::Cow;

use redb::ReadableTable;

use super::read;
use crate::task::Task;

/// Returns the row of a user's key. Neither users nor keys contain NUL.
pub(super) fn row<'a>(user: Option<&str>, key: &'a str) -> Cow<'a, str> {
    match user {
        Some(user) => Cow::Owned(format!("{user}\0{key}")),
        None => Cow::Borrowed(key),
    }
}

/// Returns the rows that may contain a key: earlier versions stored the keys of users together with those of everybody
/// else.
pub(super) fn rows<'a>(user: Option<&str>, key: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let own = user.map(|_| row(user, key));
    own.into_iter().chain([Cow::Borrowed(key)])
}

/// Returns the task that this user's key belongs to.
pub(super) fn find(
    keys: &impl ReadableTable<&'static str, &'static [u8; 16]>,
    tasks: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    user: Option<&str>,
    key: &str,
) -> Result<Option<Task>, redb::Error> {
    for row in rows(user, key) {
        let Some(id) = keys.get(&*row)?.map(|id| *id.value()) else { continue };
        let known = tasks.get(&id)?.and_then(|bytes| read(bytes.value()));
        if let Some(known) = known.filter(|known| known.user.as_deref() == user) {
            return Ok(Some(known));
        }
    }
    Ok(None)
}
