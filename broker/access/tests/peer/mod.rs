//! A mosquitto process of one test, with users and an ACL file.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Users and their passwords.
pub(crate) const PASSWORD: &str = "pw";
const USERS: [&str; 3] = ["admin", "ada", "bob"];

/// Running mosquitto process, killed on drop.
pub(crate) struct Mosquitto {
    process: Child,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts mosquitto, and waits until it listens.
    pub(crate) fn start(acl: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("acl"), acl).expect("a file");
        for (position, user) in USERS.iter().enumerate() {
            let create: &[&str] = if position == 0 { &["-c"] } else { &[] };
            let status = Command::new(program("mosquitto_passwd"))
                .args(create)
                .args(["-b", &path("passwords"), user, PASSWORD])
                .status();
            assert!(status.expect("mosquitto_passwd runs").success());
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\npassword_file {}\nacl_file {}\n",
            path("passwords"),
            path("acl")
        );
        fs::write(path("conf"), config).expect("a file");
        let log = fs::File::create(path("log")).expect("a file");
        let mut process = Command::new(program("mosquitto"))
            .args(["-c", &path("conf")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto runs");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let deadline = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(address).is_err() {
            let ended = process.try_wait().expect("its state").is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "{}",
                fs::read_to_string(path("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address, _folder: folder }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the path of a program of mosquitto. Debian installs the broker in a folder that is only in root's path.
fn program(name: &str) -> String {
    let there = Path::new("/usr/sbin").join(name);
    if there.exists() { there.display().to_string() } else { name.to_owned() }
}
