//! The key `bus_roots`, and the error for its former name `caller_topics`.

use toml::Spanned;

use super::super::complaint::Complaint;
use crate::bus;

/// Checks the roots of buses, none of which may be below another.
pub(super) fn check(written: Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, Complaint> {
    let mut roots: Vec<String> = Vec::new();
    for root in written.into_inner() {
        if !bus::is_root(root.as_ref()) {
            let message = "not a root: levels of 1 to 64 characters of A-Z a-z 0-9 . _ -, joined by /, at most 128 bytes, \
                           as in \"rantai\" or \"acme/rantai\"";
            return Err(Complaint::at(&root, message));
        }
        if let Some(other) = roots.iter().find(|other| bus::overlap(other, root.as_ref())) {
            let message =
                format!("topics below it would belong to the root \"{other}\" too; remove one of them");
            return Err(Complaint::at(&root, message));
        }
        roots.push(root.into_inner());
    }
    Ok(roots)
}

/// Returns a hint about `bus_roots` if the unknown key is its former name `caller_topics`, whose values were filters.
pub(super) fn instead_of(message: &str) -> Option<&'static str> {
    message.starts_with("unknown field `caller_topics`").then_some(
        "the key is bus_roots now, with the roots of buses instead of filters; write bus_roots = [\"rantai\"], or leave it \
         out, which says the same",
    )
}
