"""Imaging with a real target and a real initiator: qemu's, which is libiscsi's."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess

import pytest

from brokers import CALLER, ROOT, Missing, rantai_binary
from nodes import Node
from tap import PATIENCE

SIZE = 32 << 20


def program(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found:
        raise Missing(f"no {name}: install tgt, libiscsi-bin, qemu-utils and qemu-block-extra")
    return found


def free_port():
    """Returns a port below the kernel's ephemeral range, as the target requires."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class Imaging:
    """A server with an image, a target of its own, and the commands of `rantai imaging`."""

    def __init__(self, bus, directory):
        self.bus = bus
        self.folder = directory / "imaging"
        (self.folder / "images").mkdir(parents=True)
        self.image = self.folder / "images" / "hadoopMaster.img"
        self.golden = random.Random(7).randbytes(SIZE)
        self.image.write_bytes(self.golden)
        text = (ROOT / "config" / "imaging.toml").read_text()
        target = f'target = {{ tgt = {{ portal = "127.0.0.1:{free_port()}" }} }}'
        assert 'target = "files"' in text
        self.config = directory / "imaging.toml"
        self.config.write_text(text.replace('target = "files"', target))
        self.start()

    def start(self):
        self.node = Node(self.bus.broker, "example.mainserver", config=str(self.config))

    def close(self):
        self.node.close()

    def run(self, *arguments):
        """Returns exit code and reply."""
        broker = ["--broker", self.bus.broker.url(CALLER), "--json"]
        done = subprocess.run(
            [rantai_binary(), "imaging", *arguments, *broker],
            capture_output=True,
            text=True,
            timeout=PATIENCE * 3,
            env=os.environ | self.bus.broker.environment(),
        )
        return done.returncode, json.loads(done.stdout)

    def ok(self, *arguments):
        code, reply = self.run(*arguments)
        assert code == 0 and reply["status_code"] == 200, reply
        return reply


@pytest.fixture(scope="module")
def imaging(bus, tmp_path_factory):
    for name in ("tgtd", "tgtadm", "qemu-img", "qemu-io", "iscsi-ls", "iscsi-inq"):
        program(name)
    running = Imaging(bus, tmp_path_factory.mktemp("imaging"))
    try:
        running.ok("create_snapshot", "hadoopMaster.img", "HadoopMasterGoldenImage")
        yield running
    finally:
        running.close()


def url(disk, secret=None):
    secret = disk["secret"] if secret is None else secret
    return f"iscsi://{disk['user']}%{secret}@{disk['portal']}/{disk['target']}/{disk['lun']}"


def options(disk, secret=None, initiator=None):
    """Returns the disk as an option of qemu."""
    parts = {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": disk["portal"],
        "target": disk["target"],
        "lun": disk["lun"],
        "user": disk["user"],
        "password-secret": "chap",
        "initiator-name": initiator or disk["initiator"],
    }
    secret = disk["secret"] if secret is None else secret
    return ["--object", f"secret,id=chap,data={secret}", "--image-opts", ",".join(f"{k}={v}" for k, v in parts.items())]


def initiate(*command):
    return subprocess.run([program(command[0]), *command[1:]], capture_output=True, text=True, timeout=PATIENCE * 3)


def read(disk, directory, **other):
    """Reads the whole disk through the initiator; returns None if it is refused."""
    copy = pathlib.Path(directory) / "copy"
    opts = options(disk, **other)
    done = initiate("qemu-img", "convert", *opts, "-O", "raw", str(copy))
    return copy.read_bytes() if done.returncode == 0 else None


def test_a_node_reads_its_disk_and_writes_to_it(imaging, tmp_path):
    disk = imaging.ok("provision", "node-1")["disk"]
    assert disk["target"].endswith(":node-1") and disk["lun"] == 1
    listed = initiate("iscsi-ls", "-s", "-i", disk["initiator"], url(disk).rsplit("/", 2)[0])
    assert listed.returncode == 0 and disk["target"] in listed.stdout, listed
    disks = [line for line in listed.stdout.splitlines() if "DIRECT_ACCESS" in line]
    assert len(disks) == 1 and disks[0].startswith("Lun:1"), listed.stdout
    asked = initiate("iscsi-inq", "-i", disk["initiator"], url(disk))
    assert asked.returncode == 0 and "Peripheral" in asked.stdout, asked
    assert hashlib.sha256(read(disk, tmp_path)).digest() == hashlib.sha256(imaging.golden).digest()
    written = initiate("qemu-io", *options(disk), "-c", "write -P 0xab 4096 8192")
    assert written.returncode == 0 and "wrote 8192" in written.stdout, written
    expected = bytearray(imaging.golden)
    expected[4096 : 4096 + 8192] = b"\xab" * 8192
    assert read(disk, tmp_path) == bytes(expected)
    assert imaging.image.read_bytes() == imaging.golden, "the image is as it was"
    snapshot = imaging.folder / "snapshots" / "hadoopMaster.img" / "HadoopMasterGoldenImage"
    assert snapshot.read_bytes() == imaging.golden, "and so is the snapshot"
    imaging.ok("detach_node", "node-1")
    assert read(disk, tmp_path / "gone") is None


def test_who_does_not_know_the_secret_is_refused(imaging, tmp_path):
    disk = imaging.ok("provision", "node-2")["disk"]
    other = imaging.ok("provision", "node-20")["disk"]
    assert read(disk, tmp_path) == imaging.golden
    assert read(disk, tmp_path, secret="0" * 16) is None
    assert read(disk, tmp_path, secret=other["secret"]) is None
    assert read(disk, tmp_path, initiator=other["initiator"]) is None
    assert read({**disk, "user": other["user"], "secret": other["secret"]}, tmp_path) is None
    code, reply = imaging.run("provision", "node-2")
    assert (code, reply["status_code"]) == (1, 440)
    assert read(disk, tmp_path) == imaging.golden, "the first is untouched"
    imaging.ok("detach_node", "node-2")
    assert read(other, tmp_path) == imaging.golden, "names are taken to the letter"
    imaging.ok("detach_node", "node-20")


def test_targets_come_back_after_a_crash(imaging, tmp_path):
    disk = imaging.ok("provision", "node-3")["disk"]
    written = initiate("qemu-io", *options(disk), "-c", "write -P 0xcd 0 4096")
    assert written.returncode == 0, written
    imaging.node.kill()
    imaging.start()
    again = read(disk, tmp_path)
    assert again[:4096] == b"\xcd" * 4096 and again[4096:] == imaging.golden[4096:]
    listed = imaging.ok("list_nodes")["retval"]
    assert ("node-3", "ready") in [(node["node"], node["state"]) for node in listed]
    assert "secret" not in json.dumps(listed) and disk["secret"] not in json.dumps(listed)
    assert disk["secret"] not in (imaging.folder / "audit.log").read_text()
    assert os.stat(imaging.folder / "state.redb").st_mode & 0o77 == 0
    imaging.ok("detach_node", "node-3")
