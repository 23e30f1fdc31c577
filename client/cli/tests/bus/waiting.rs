//! Calls that wait for their object.

use super::process::{Server, bus};

#[test]
fn a_call_waits_for_an_object_that_is_not_there_yet() {
    let bus = bus();
    let mut call =
        Server::spawn(&mut bus.command(&["call", "echo.echo", "here", "--wait", "--timeout", "60s"]));
    assert_eq!(bus.run(&["call", "echo.echo", "here"]).code, 5, "nobody serves it");
    assert!(call.is_running());
    let mut node = bus.serve(&["echo"]);
    node.wait_for("serving echo");
    call.wait_for("here");
    assert_eq!(call.exit_code(), 0);
    assert_eq!(bus.ok(&["call", "echo.echo", "there", "--wait"]), "there\n");
    let done = bus.run(&["call", "nobody.echo", "x", "--wait", "--timeout", "300ms"]);
    assert_eq!((done.code, done.stderr.contains("was not served within 0.3 s")), (5, true), "{done:?}");
}
