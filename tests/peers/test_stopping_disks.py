"""SIGTERM ends a server within 10 s while its disk is full, and while it neither writes nor fails."""

import json
import shutil
import subprocess

import pytest

from brokers import Missing
from tap import DISCONNECT, PATIENCE, PUBACK, PUBLISH, SUBACK
from test_disk_under_load import Raw, fill, string
from test_full_disk import call, disk, running  # noqa: F401, fixtures

pytestmark = pytest.mark.tcp("it is about disks")

#: Waits in every sync for as long as a file is there: what a disk does that does not answer.
SHIM = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
static void wait_for_disk(void) {
    const char *gate = getenv("DISK_GATE");
    while (gate && access(gate, F_OK) == 0) usleep(10000);
}
int fsync(int fd) { wait_for_disk(); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { wait_for_disk(); return syscall(SYS_fdatasync, fd); }
"""


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """A file; while it exists, the disk of every process that is started does not respond."""
    if shutil.which("cc") is None:
        raise Missing("no C compiler `cc`: install gcc")
    source, library, file = tmp_path / "gate.c", tmp_path / "gate.so", tmp_path / "gate"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("DISK_GATE", str(file))
    yield file
    file.unlink(missing_ok=True)


def stop(process):
    process.terminate()
    # A failure where it takes longer.
    assert process.process.wait(10) == 0, "".join(process.log[-5:])


def keep_for(port):
    """Creates a persistent session, for which messages on `t` are queued."""
    client = Raw(port, "keeper", persistent=True)
    client.send(8, b"\0\1\0" + string("t") + b"\1", 2)
    assert client.next(PATIENCE)[0] == SUBACK
    client.close()


def publish(client, number):
    client.send(PUBLISH, string("t") + number.to_bytes(2, "big") + b"\0x" + bytes(5_000), 2)


def broker(running, *arguments):  # noqa: F811
    process = running("broker", "--port", "0", *arguments)
    return process, int(process.wait_for_log(r"listening on \S+:(\d+)")[1])


def test_a_broker_on_a_disk_that_is_full_obeys_sigterm(disk, running):  # noqa: F811
    full = disk(8 << 10)
    process, port = broker(running, "--data-dir", full.path / "data")
    keep_for(port)
    client = Raw(port, "")
    fill(full)
    reason, number = 0, 0
    while reason == 0:
        number += 1
        publish(client, number)
        # A message that the disk refused when it was taken already has no PUBACK: after `disk_wait_s`, as long as the
        # patience, its connection ends.
        kind, _, body = client.next(2 * PATIENCE)
        assert kind in (PUBACK, DISCONNECT)
        codes = body[2:] if kind == PUBACK else body
        reason = codes[0] if codes else 0
    assert reason == 0x97
    stop(process)


def test_a_broker_on_a_disk_that_does_not_answer_obeys_sigterm_and_keeps_what_it_acknowledged(gate, running, tmp_path):  # noqa: F811
    process, port = broker(running, "--data-dir", tmp_path / "data")
    keep_for(port)
    client = Raw(port, "")
    publish(client, 1)
    assert client.next(PATIENCE)[0] == PUBACK
    gate.touch()
    publish(client, 2)
    assert client.next(1) is None, "it waits for the disk"
    stop(process)
    gate.unlink()
    process, port = broker(running, "--data-dir", tmp_path / "data")
    client = Raw(port, "keeper", persistent=True)
    assert client.resumed and client.next(PATIENCE)[0] == PUBLISH


@pytest.mark.parametrize("hangs", [False, True], ids=["full", "does-not-answer"])
def test_a_ledger_on_a_disk_that_does_not_work_obeys_sigterm(disk, gate, running, tmp_path, hangs):  # noqa: F811
    process, port = broker(running)
    full = disk(8 << 10)
    config = tmp_path / "nodes.toml"
    config.write_text("[tasks]\n")
    data = full.path / "data"
    url = f"mqtt://127.0.0.1:{port}"
    node = running("serve", "--config", config, "--data-dir", data, "--node", "keeper", "--broker", url)
    node.wait_for_log("serving tasks")
    if hangs:
        gate.touch()
    else:
        fill(full)
    submit = ["nobody", "add", json.dumps(["x" * 60_000])]
    for _ in range(3):
        # What was allocated before may still take some; on a disk that does not answer its deadline ends the call.
        code = 0
        while code == 0:
            code, _, _ = call(port, "tasks.submit", *submit, "--timeout", "1")
    stop(node)
    gate.unlink(missing_ok=True)
    stop(process)
