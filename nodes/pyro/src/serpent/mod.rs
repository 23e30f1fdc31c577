//! Serpent, the default serializer of Pyro: literals of Python in UTF-8, after a comment in the first line.

mod read;
mod text;
mod write;

pub(crate) use read::read;
pub(crate) use write::write;

/// Maximum nesting depth: that of JSON on the bus, with the tuple of a call or a batch around it.
const MAX_DEPTH: usize = rantai_client::wire::json::MAX_DEPTH + 8;

/// Error of reading serpent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SerpentError {
    #[error("the text is not UTF-8")]
    NotUtf8,
    #[error("expected {expected} at byte {at}")]
    Syntax {
        /// What is expected.
        expected: &'static str,
        /// Offset in bytes.
        at: usize,
    },
    #[error("more than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("more than {} values", crate::value::MAX_VALUES)]
    TooMany,
}

#[cfg(test)]
mod tests;
