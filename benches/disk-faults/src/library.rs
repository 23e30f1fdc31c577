//! Building the library that is preloaded.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the library by the cargo of this build, with its output in `target`, and returns where it is. Takes seconds the first
/// time, and a fraction of one later. Several processes may do so at the same time: cargo lets them wait for each other.
///
/// It is not the library of a dependency, because that would have the functions in the test's own process as well: crates
/// have their features for all that link them.
///
/// # Errors
///
/// Cargo cannot be started, or fails; its output is in the error.
pub fn build_library(target: &Path) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from(env!("CARGO")));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--features", "preload", "--message-format", "json"]);
    command.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"]);
    let output = command.arg(target).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("cannot build the library for disk errors: {why}")));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    // Where it is depends on the target of the build: among the file names in cargo's messages, which are JSON.
    let file = messages.split('"').find(|text| text.ends_with("/librantai_disk_faults.so"));
    file.map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo built no library for disk errors: {messages}")))
}
