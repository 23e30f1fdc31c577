//! Each program of `examples/` is run, as it was built with these tests, and has to end by itself with exit code 0.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time limit of one program.
const PATIENCE: Duration = Duration::from_mins(1);

macro_rules! examples {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*
    };
}

examples! {
    cancel
    chain
    client
    embedded_broker
    events
    files
    once
    progress
    service
    streams
    tasks
    users_and_tls
}

/// Returns the program that was built of an example: cargo puts examples beside the folder of the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    folder.join("examples").join(name)
}

fn run(name: &str) {
    let program = program(name);
    let source = format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR"));
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified());
    let source = changed(source.as_ref()).expect("the source is there");
    assert!(
        changed(&program).is_ok_and(|built| built > source),
        "{} is not built, or older than its source: run all tests of the package, or `cargo build -p rantai --examples` before",
        program.display()
    );
    let (output, to) = std::io::pipe().expect("a pipe");
    let errors = to.try_clone().expect("a pipe");
    let mut child =
        Command::new(&program).stdin(Stdio::null()).stdout(to).stderr(errors).spawn().expect("started");
    let reader = std::thread::spawn(move || std::io::read_to_string(output).expect("the output is text"));
    let began = Instant::now();
    let status: Option<ExitStatus> = loop {
        if let Some(status) = child.try_wait().expect("its state is known") {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill().and_then(|()| child.wait()).expect("it ends");
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = reader.join().expect("the output is read");
    match status {
        Some(status) if status.success() => assert!(!output.is_empty(), "{name} does not say what it does"),
        Some(status) => panic!("{name} ended with {status}:\n{output}"),
        None => panic!("{name} has not ended within {PATIENCE:?}:\n{output}"),
    }
}

#[test]
fn every_example_is_run() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("the examples");
    let mut files: Vec<String> = folder
        .map(|file| {
            file.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    files.sort_unstable();
    assert_eq!(files, NAMES);
}
