//! Detects whether this process runs in a container.

use std::path::Path;

/// Words in the names of control groups that container engines create.
const ENGINES: [&str; 5] = ["docker", "containerd", "kubepods", "libpod", "lxc"];

/// Checks whether this process runs in a container of Docker, Podman, Kubernetes or LXC.
pub(crate) fn is_in_container() -> bool {
    is_container(Path::new("/"))
}

/// Checks the files below `root`: those that engines create, and the control group of process 1.
fn is_container(root: &Path) -> bool {
    let marked = [".dockerenv", "run/.containerenv"].iter().any(|file| root.join(file).exists());
    let groups = || std::fs::read_to_string(root.join("proc/1/cgroup")).unwrap_or_default();
    marked || ENGINES.iter().any(|engine| groups().contains(engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_detected_by_files_and_control_groups() {
        for (file, text, expected) in [
            ("etc/hostname", "pi", false),
            ("proc/1/cgroup", "0::/init.scope\n", false),
            (".dockerenv", "", true),
            ("run/.containerenv", "engine=\"podman-5\"", true),
            ("proc/1/cgroup", "12:pids:/docker/0f3a\n0::/docker/0f3a\n", true),
            ("proc/1/cgroup", "0::/kubepods.slice/pod1\n", true),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
            assert_eq!(is_container(root.path()), expected, "{file}: {text}");
        }
    }
}
