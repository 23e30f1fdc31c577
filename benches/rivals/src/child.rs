//! What this binary does when it runs itself. Every child ends when its stdin does, so that nothing is left behind by
//! a comparison that is killed.

use std::io::{self, Read as _};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use rantai_load::failure::Failure;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

use crate::{grpc, nats};

/// The first argument of a child; its role and the role's arguments follow.
pub(crate) const MARK: &str = "--as-child";
/// Starts the program in its arguments, says its process id on stdout (stderr is the program's) and ends it in time.
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
    // Whoever waits for a word of the program learns by this that none will come.
    thread::spawn(move || {
        let code = child.wait().ok().and_then(|status| status.code()).unwrap_or(1);
        std::process::exit(code);
    });
    wait_for_stdin();
    // It may have ended by itself in this very moment.
    let _ = kill_process(pid, Signal::KILL);
    // Until the thread above has seen the end of it.
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
    // Nobody writes here: the read returns when the parent has closed its end, or is gone.
    while stdin.read(&mut [0; 16]).is_ok_and(|read| read > 0) {}
}
