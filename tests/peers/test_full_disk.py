"""A disk that is really full: a small tmpfs, which needs root to be mounted. Does not depend on the broker."""

import json
import os
import subprocess
import time

import pytest

from brokers import Missing, rantai_binary
from nodes import Process
from tap import PATIENCE

pytestmark = pytest.mark.tcp("it is about disks")

CONFIG = """
[tasks]
[[pages]]
name = "pages"
"""


class Disk:
    """A separate file system of this size, in KiB."""

    def __init__(self, directory, kib):
        self.path = directory / "disk"
        self.path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(self.path)]
        if subprocess.run(mount, capture_output=True).returncode:
            raise Missing("no tmpfs can be mounted here: run the peer tests as root")

    def fill(self, leave=0):
        """Takes all free room except for this many KiB."""
        about = os.statvfs(self.path)
        left = about.f_bavail * about.f_frsize - leave * 1024
        with open(self.path / "fill", "wb") as file:
            file.write(bytes(max(left, 0)))

    def free(self):
        (self.path / "fill").unlink()

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path):
    mounted = []

    def mount(kib):
        mounted.append(Disk(tmp_path, kib))
        return mounted[-1]

    yield mount
    for one in mounted:
        one.close()


def call(port, method, *params):
    """Returns exit code, result and stderr."""
    command = [rantai_binary(), "call", method, *params, "--json", "--broker", f"mqtt://127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 3)
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture
def running():
    started = []

    def start(*arguments):
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_tasks_and_calls_that_run_once_go_on_when_the_disk_has_room_again(disk, running, tmp_path):
    broker = running("broker", "--port", "0")
    port = broker.wait_for_log(r"listening on \S+:(\d+)")[1]
    full = disk(6 << 10)
    config = tmp_path / "nodes.toml"
    config.write_text(CONFIG)
    data = full.path / "data"
    node = running(
        "serve", "--config", config, "--data-dir", data, "--node", "keeper", "--broker", f"mqtt://127.0.0.1:{port}"
    )
    for name in ("tasks", "pages"):
        node.wait_for_log(f"serving {name}")

    def submit(size=2_000):
        return call(port, "tasks.submit", "nobody", "add", json.dumps(["x" * size]))

    kept = []
    for _ in range(2):
        code, result, said = submit()
        assert code == 0, said
        kept.append(json.loads(result))
        full.fill()
        refused = []
        while len(refused) < 3:
            # What was allocated before may still take some.
            code, result, said = submit(60_000)
            if code == 0:
                kept.append(json.loads(result))
            else:
                refused.append(result + said)
        assert all("-32005" in one or "busy" in one or "try again later" in one for one in refused), refused
        full.free()
        deadline = time.monotonic() + PATIENCE
        while (code := submit()[0]) != 0:
            assert time.monotonic() < deadline, f"still refused, exit code {code}: {''.join(node.log[-5:])}"
        deadline = time.monotonic() + PATIENCE
        while call(port, "pages.add", "4", "120")[:2] != (0, "124"):
            assert time.monotonic() < deadline, "".join(node.log[-5:])
    for task in kept:
        code, result, said = call(port, "tasks.get", json.dumps(task))
        assert code == 0 and json.loads(result)["id"] == task, said
    assert node.process.poll() is None


@pytest.mark.parametrize("left", [0, 64, 600, 1100])
def test_a_start_on_a_full_disk_obeys_sigterm(disk, running, tmp_path, left):
    full = disk(4 << 10)
    full.fill(leave=left)
    config = tmp_path / "nodes.toml"
    config.write_text(CONFIG)
    process = running("up", "--port", "0", "--config", config, "--data-dir", full.path / "data")
    # It says that it cannot start, or begins to and is told to stop.
    process.wait_for_log("No space left on device|listening on|error")
    process.terminate()
    # A failure where it takes longer.
    process.process.wait(10)


def test_a_file_larger_than_the_free_disk_is_refused_and_leaves_nothing(disk, running, tmp_path):
    full = disk(4 << 10)
    shared = full.path / "shared"
    shared.mkdir()
    config = tmp_path / "nodes.toml"
    config.write_text(f'[[files]]\nname = "books"\nfolder = "{shared}"\nquota_bytes = 1_000_000_000\n')
    process = running("up", "--port", "0", "--config", config)
    port = process.wait_for_log(r"listening on \S+:(\d+)")[1]
    process.wait_for_log("serving books")
    for name, size, fits in (("large", 5 << 20, False), ("small", 1 << 20, True)):
        file = tmp_path / name
        file.write_bytes(bytes(size))
        command = [rantai_binary(), "put", "books", str(file), "--broker", f"mqtt://127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 3)
        assert (done.returncode == 0) == fits, done.stderr
        assert fits or "the disk has room for" in done.stderr, done.stderr
        assert [path.name for path in shared.iterdir()] == ([name] if fits else [])
