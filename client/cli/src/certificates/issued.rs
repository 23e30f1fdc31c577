//! List of all certificates that an authority has signed: a certificate stays valid when it is renewed, so that revoking a
//! client needs the serial numbers of all its certificates.

use std::fmt::Write as _;
use std::fs;

use super::folder::{Folder, failed, rewrite_secret};
use crate::exit::Failure;

/// Line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issued {
    /// Serial number in hexadecimal digits.
    pub(super) serial: String,
    /// End of the validity, in seconds since 1970.
    pub(super) ends: i64,
    pub(super) is_client: bool,
    pub(super) name: String,
}

/// Reads the list; ignores lines that cannot be parsed.
pub(super) fn read(folder: &Folder) -> Result<Vec<Issued>, Failure> {
    let path = folder.index();
    let text = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// Adds a certificate to the list.
pub(super) fn add(folder: &Folder, issued: Issued) -> Result<(), Failure> {
    let mut all = read(folder)?;
    all.push(issued);
    write(folder, &all)
}

pub(super) fn write(folder: &Folder, all: &[Issued]) -> Result<(), Failure> {
    let mut text = String::new();
    for Issued { serial, ends, is_client, name } in all {
        let kind = if *is_client { "client" } else { "server" };
        let _ = writeln!(text, "{serial}\t{ends}\t{kind}\t{name}");
    }
    rewrite_secret(&folder.index(), &text)
}

fn parse(line: &str) -> Option<Issued> {
    let mut columns = line.splitn(4, '\t');
    let (serial, ends) = (columns.next()?.to_owned(), columns.next()?.parse().ok()?);
    let is_client = columns.next()? == "client";
    Some(Issued { serial, ends, is_client, name: columns.next()?.to_owned() })
}
