//! Roles of this binary as a child process. Every child exits when its stdin is closed, so that none survives a
//! comparison that is killed.

use std::io::{self, Read as _};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use rantai_load::failure::Failure;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

use crate::{grpc, nats};

/// First argument of a child; followed by its role and the role's arguments.
pub(crate) const MARK: &str = "--as-child";
/// Role that starts the program in its arguments, prints the program's process id on stdout (stderr is the program's),
/// and kills the program when stdin is closed.
pub(crate) const GUARD: &str = "guard";

pub(crate) fn run(role: &str, arguments: &[String]) -> ExitCode {
    let outcome = match (role, arguments) {
        (GUARD, [program, arguments @ ..]) => guard(program, arguments),
        ("nats", [url]) => serve(&mut Builder::new_current_thread(), nats::serve(url)),
        ("grpc", []) => serve(&mut Builder::new_current_thread(), grpc::serve()),
        ("grpc-threads", []) => serve(&mut Builder::new_multi_thread(), grpc::serve()),
        _ => Err(Failure::new("no such role")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{role}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn guard(program: &str, arguments: &[String]) -> Result<(), Failure> {
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let pid = Pid::from_child(&child);
    println!("{}", child.id());
    // If the program exits, the guard exits too, so that a parent waiting for output of the program sees the end of the stream.
    thread::spawn(move || {
        let code = child.wait().ok().and_then(|status| status.code()).unwrap_or(1);
        std::process::exit(code);
    });
    wait_for_stdin();
    // Fails if the program has just exited by itself.
    let _ = kill_process(pid, Signal::KILL);
    // Waits for the thread above, which exits the process once the program has ended.
    loop {
        thread::park();
    }
}

fn serve(runtime: &mut Builder, server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    thread::spawn(|| {
        wait_for_stdin();
        std::process::exit(0);
    });
    println!("{}", std::process::id());
    runtime.enable_all().build()?.block_on(server)
}

fn wait_for_stdin() {
    let mut stdin = io::stdin().lock();
    // Nothing is written to this pipe: the read returns when the parent has closed its end or has died.
    while stdin.read(&mut [0; 16]).is_ok_and(|read| read > 0) {}
}
