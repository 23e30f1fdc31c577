//! The library in a process of its own: this test program, started again as a writer.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rantai_disk_faults::{Control, Faults, IS_SUPPORTED, build_library};

/// Runs as the child process: writes to a file, and prints the results.
#[test]
#[ignore = "a process of the other test"]
fn writer() {
    let Ok(path) = std::env::var("WRITER_PATH") else { return };
    let opened = File::options().write(true).create(true).truncate(true).open(&path);
    let say = |what: &str, error: Option<std::io::Error>| {
        println!("{what}: {:?}", error.map(|error| error.kind()));
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) => return say("opened", Some(error)),
    };
    say("opened", None);
    println!("wrote: {:?}", (&file).write(&[1; 100]).map_err(|error| error.kind()));
    println!("wrote: {:?}", file.write_at(&[2; 100], 100).map_err(|error| error.kind()));
    say("synced", file.sync_all().err());
    say("synced", file.sync_data().err());
    say("resized", file.set_len(5_000).err());
    say("renamed", std::fs::rename(&path, format!("{path}.new")).err());
}

struct Disk {
    control: Control,
    library: std::path::PathBuf,
}

impl Disk {
    /// Runs the writer, and returns the lines that it prints.
    fn write(&self, path: &Path) -> Vec<String> {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "writer", "--ignored", "--nocapture"]).env("WRITER_PATH", path);
        self.control.preload(&mut command, &self.library);
        let output = command.stderr(Stdio::inherit()).output().expect("it starts");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines = text.lines().map(|line| line.trim_start_matches("test writer ... "));
        lines.filter(|line| line.contains("ed: ") || line.contains("wrote: ")).map(str::to_owned).collect()
    }
}

#[test]
fn each_fault_affects_only_files_of_the_directory_while_faults_are_on() {
    if !IS_SUPPORTED {
        println!("left out: LD_PRELOAD needs Linux with glibc");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let below = folder.path().join("data");
    std::fs::create_dir(&below).expect("made");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk-faults");
    let library = build_library(&target).expect("built");
    let control = Control::create(&folder.path().join("control"), &below).expect("made");
    let disk = Disk { control, library };
    let (inside, outside) = (below.join("a"), folder.path().join("data-not"));
    let healthy = [
        "opened: None",
        "wrote: Ok(100)",
        "wrote: Ok(100)",
        "synced: None",
        "synced: None",
        "resized: None",
        "renamed: None",
    ];
    assert_eq!(disk.write(&inside), healthy);
    assert_eq!(disk.control.counts().expect("read").loaded, 1);
    assert_eq!(disk.control.counts().expect("read").faults(), 0);

    let errors = Faults { errors: 10_000, ..Faults::default() };
    disk.control.begin(&errors, 1).expect("begun");
    assert_eq!(
        disk.write(&inside),
        [format!("opened: Some({:?})", std::io::Error::from_raw_os_error(5).kind())]
    );
    assert_eq!(disk.write(&outside), healthy);

    disk.control.begin(&Faults { short: 10_000, ..Faults::default() }, 1).expect("begun");
    let lines = disk.write(&inside);
    assert_eq!(lines[1..3], ["wrote: Ok(50)", "wrote: Ok(50)"]);
    assert_eq!((lines.len(), disk.control.counts().expect("read").short), (7, 2));

    disk.control.begin(&Faults { no_space: 10_000, ..Faults::default() }, 1).expect("begun");
    assert_eq!(disk.write(&inside), [format!("opened: Some({:?})", ErrorKind::StorageFull)]);
    assert_eq!(disk.control.counts().expect("read").full, 1);

    // The writer makes seven calls.
    disk.control.begin(&Faults { stalls: 10_000, stall_ms: 100, ..Faults::default() }, 1).expect("begun");
    let began = Instant::now();
    assert_eq!(disk.write(&inside), healthy);
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(disk.control.counts().expect("read").stalled, 7);

    disk.control.end().expect("ended");
    let counts = disk.control.counts().expect("read");
    assert_eq!(disk.write(&inside), healthy);
    assert_eq!(disk.control.counts().expect("read").faults(), counts.faults());
    // Half of the failing writes have written a part; for some seed, this happens to a file that could be opened.
    let mut torn = false;
    for seed in 0..200 {
        disk.control.begin(&Faults { errors: 5_000, ..Faults::default() }, seed).expect("begun");
        let lines = disk.write(&inside);
        if lines.len() > 2 && lines[1].contains("Err") && lines[2].contains("Err") {
            torn |= [inside.clone(), below.join("a.new")].iter().any(|file| {
                std::fs::read(file).is_ok_and(|bytes| bytes.starts_with(&[1; 50]) && bytes.len() == 50)
            });
        }
        if torn {
            return;
        }
    }
    panic!("no write failed in its middle");
}
