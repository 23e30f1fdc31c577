//! `lending`: lends books, which are files that another object serves, and logs the loans.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use parking_lot::Mutex;
use rantai_client::interface;
use rantai_client::object::Context;
use rantai_client::registry::similar;
use rantai_client::wire::fault::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use rantai_nodes::kind::{Building, Configured, Kind};

/// Maximum size of a request, in bytes.
const MAX_REQUEST_BYTES: usize = 1 << 10;

/// Data for fetching a borrowed book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loan {
    /// Title of the book.
    pub title: String,
    /// Name of the object that transfers it.
    pub files: String,
    /// Path of its file at that object.
    pub path: String,
    /// Suggested file name. A borrower may choose another one.
    pub received: String,
    /// Message to the borrower after the complete transfer; not part of the book.
    pub finished: String,
}

/// Counter of the library.
#[interface(version = "1.0.0", tags("library"))]
pub trait Lending {
    /// Lends a book, requested by its title or in the library's own form. A repeated request is not a second loan.
    #[method(once)]
    async fn borrow(&self, request: String, context: Context) -> Result<Loan, Fault>;

    /// Returns the titles of all books.
    #[method(read_only)]
    async fn titles(&self) -> Result<Vec<String>, Fault>;
}

/// Implementation of [`Lending`].
#[derive(Clone, Debug)]
pub struct Counter {
    /// Text of a request in the library's own form; `{title}` stands for the title.
    pub request: String,
    /// Message to the borrower after the transfer.
    pub finished: String,
    /// Name of the object that serves the books as files.
    pub files: String,
    /// File name that is suggested to borrowers.
    pub received: String,
    /// Path of the file for each title.
    pub books: BTreeMap<String, String>,
    /// Log of loans, one JSON line each; `None` for no log.
    pub log: Option<PathBuf>,
    /// Lock that is held while a line of the log is written.
    pub writing: Arc<Mutex<()>>,
}

impl Lending for Counter {
    async fn borrow(&self, request: String, context: Context) -> Result<Loan, Fault> {
        if request.len() > MAX_REQUEST_BYTES {
            return Err(Fault::too_large(MAX_REQUEST_BYTES));
        }
        let title = self.title(&request);
        let Some(path) = self.books.get(title) else {
            let meant = similar(title, self.books.keys().map(String::as_str));
            let fault = Fault::failed("no_such_book", format!("there is no book {title:?}"));
            return Err(fault.with("did_you_mean", meant));
        };
        self.write_down(title, &context).await?;
        Ok(Loan {
            title: title.to_owned(),
            files: self.files.clone(),
            path: path.clone(),
            received: self.received.clone(),
            finished: self.finished.clone(),
        })
    }

    async fn titles(&self) -> Result<Vec<String>, Fault> {
        Ok(self.books.keys().cloned().collect())
    }
}

impl Counter {
    /// Returns the title in a request: the part at `{title}`, or the whole request if it has another form.
    fn title<'a>(&self, request: &'a str) -> &'a str {
        let words = self.request.split_once("{title}");
        let inner = words.and_then(|(before, after)| request.strip_prefix(before)?.strip_suffix(after));
        inner.unwrap_or(request).trim()
    }

    /// Writes the loan to the log before the borrower gets the reply.
    async fn write_down(&self, title: &str, context: &Context) -> Result<(), Fault> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        let line = json!({
            "time": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "title": title,
            "borrower": context.caller_text(),
        });
        let writing = self.writing.clone();
        let written = tokio::task::spawn_blocking(move || {
            let _alone = writing.lock();
            append(&log, &line.to_string()).map_err(|error| format!("{}: {error}", log.display()))
        });
        let failed = |text: String| {
            tracing::error!("the log of loans was not written: {text}");
            Fault::failed("not_written_down", "the loan cannot be written down; nothing is lent")
        };
        match written.await {
            Ok(result) => result.map_err(failed),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn append(log: &Path, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

/// Settings of an object that lends books.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LendingSettings {
    /// Name the object is served under.
    pub name: String,
    /// Name of the object that serves the books as files.
    pub files: String,
    /// Text of a request; `{title}` stands for the title.
    pub request: String,
    /// Message to the borrower after the transfer.
    pub finished: String,
    /// File name that is suggested to borrowers.
    pub received: String,
    /// Log of loans; `None` for no log.
    pub log: Option<PathBuf>,
    /// Path of the file for each title.
    pub books: BTreeMap<String, String>,
}

impl Kind for LendingSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        building.other(&self.files)?;
        Ok(building.object(LendingObject(Counter {
            request: self.request.clone(),
            finished: self.finished.clone(),
            files: self.files.clone(),
            received: self.received.clone(),
            books: self.books.clone(),
            log: self.log.as_ref().map(|log| building.path(log)),
            writing: Arc::default(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_is_extracted_from_the_configured_request() {
        let counter = Counter {
            request: "Pinjam Buku {title}!".to_owned(),
            finished: String::new(),
            files: String::new(),
            received: String::new(),
            books: BTreeMap::new(),
            log: None,
            writing: Arc::default(),
        };
        for (request, title) in [
            ("Pinjam Buku Programming GO!", "Programming GO"),
            ("Programming GO", "Programming GO"),
            (" Programming GO ", "Programming GO"),
            ("Pinjam Buku ", "Pinjam Buku"),
            ("Pinjam Buku !", ""),
            ("!", "!"),
        ] {
            assert_eq!(counter.title(request), title, "{request:?}");
        }
    }
}
