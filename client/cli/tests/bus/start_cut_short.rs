//! A node that was told to end while it still claimed names left behind what it served already: its start was
//! given up, and nothing was taken back.

use rustix::process::Signal;

use super::process::bus;

#[test]
fn a_node_that_ends_while_it_starts_leaves_nothing_behind() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("nodes.toml");
    // The name that is shared is served at once, the other may be contested for a second.
    let objects = "[[echo]]\nname = 'shared'\nreplica = true\n[[echo]]\nname = 'alone'\n";
    std::fs::write(&config, objects).expect("written");
    let mut node = bus.serve(&["--config", config.to_str().expect("UTF-8")]);
    node.wait_for("serving shared");
    node.signal(Signal::TERM);
    assert_eq!(node.exit_code(), 0);
    assert_eq!(bus.ok(&["ls", "--json"]).trim(), "[]");
}
