//! Build of the preloaded library.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the library with the cargo of this build, with its output in `target`, and returns the library's path. Takes
/// seconds the first time, and a fraction of a second later. Several processes may call this at the same time: cargo
/// makes them wait for each other.
///
/// The library is not taken from a dependency, because its functions would then also be in the test's own process:
/// features apply to all users of a crate in a build.
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
    // The path depends on the target of the build, so it is taken from the file names in cargo's messages, which are
    // JSON.
    let file = messages.split('"').find(|text| text.ends_with("/librantai_disk_faults.so"));
    file.map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo built no library for disk errors: {messages}")))
}
