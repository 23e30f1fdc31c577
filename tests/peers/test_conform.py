"""The conformance kit against nodes that implement PROTOCOL.md without our libraries, in Python, JavaScript and C,
correct and with faults."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

from brokers import ADMIN, CALLER, NODE, rantai_binary
from conform.node import FAULTS
from nodes import Node as RustNode
from tap import PATIENCE

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = HERE / "conform"
NOT_SERVED = 5

pytestmark = pytest.mark.tcp("these nodes speak TCP: they are examined, not the broker")
# Most of them do not log in.
open_bus = pytest.mark.open_bus


@pytest.fixture(scope="module")
def lamp(tmp_path_factory):
    """The device of docs/devices.md, copied from the document."""
    document = (ROOT / "docs" / "devices.md").read_text()
    [source] = re.findall(r"^<!-- file: lamp.py -->\n```python\n(.*?)^```$", document, re.M | re.S)
    path = tmp_path_factory.mktemp("lamp") / "lamp.py"
    path.write_text(source)
    return path


@pytest.fixture(scope="module")
def device_in_c(tmp_path_factory):
    """The device for libmosquitto, compiled."""
    program = tmp_path_factory.mktemp("c") / "device"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"]
    command = ["cc", *flags, str(PEERS / "device.c"), "-o", str(program), "-lmosquitto"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\nlibmosquitto-dev and gcc are needed: .ci/packages installs them"
    return program


@pytest.fixture
def start():
    """Starts nodes that end with the test."""
    started = []

    def run(*command, **environment):
        command = [str(part) for part in command]
        started.append(subprocess.Popen(command, env={**os.environ, **environment}))
        return started[-1]

    yield run
    for node in started:
        node.kill()
        node.wait()


def rantai(broker, *arguments):
    """Runs a subcommand of `rantai`; the examiner is an admin."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RANTAI_")}
    user = CALLER if arguments[0] == "call" else ADMIN
    command = [rantai_binary(), *map(str, arguments), "--broker", broker.url(user)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=4 * PATIENCE)


def examine(broker, *arguments):
    """Returns the report of `rantai conform node`, once the node is present."""
    end = time.monotonic() + PATIENCE
    while True:
        done = rantai(broker, "conform", "node", *arguments, "--json")
        if done.returncode != NOT_SERVED or time.monotonic() > end:
            assert done.returncode in (0, 1), done.stderr
            report = json.loads(done.stdout)
            assert (done.returncode == 0) == (report["failed"] == 0)
            return report


def failures(report):
    return [case for case in report["cases"] if not case["passed"]]


def where(broker):
    return ["127.0.0.1", broker.port]


def test_the_device_of_the_document_has_thirty_lines(lamp):
    lines = [line for line in lamp.read_text().splitlines() if line.strip()]
    assert len(lines) <= 30, len(lines)


@open_bus
def test_the_device_of_the_document_is_a_device(broker, name, lamp, start):
    start(sys.executable, lamp, *where(broker), name, f"{name}-node")
    report = examine(broker, name, "--level", "device")
    assert failures(report) == [] and report["passed"] >= 12
    # It does not claim to be more.
    assert failures(examine(broker, name, "--level", "node", "--case", "a request to the node"))


@open_bus
def test_a_device_in_c_is_a_device(broker, name, device_in_c, start):
    start(device_in_c, *where(broker), name, f"{name}-node")
    report = examine(broker, name, "--level", "device")
    assert failures(report) == [] and report["passed"] >= 12


def test_a_device_of_mqtt_3_is_a_device_and_is_called(broker, name, start):
    login = broker.login(NODE) or ()
    node = f"{login[0]}--{name}" if login else f"{name}-node"
    start(sys.executable, PEERS / "device_311.py", *where(broker), name, node, *login)
    report = examine(broker, name, "--level", "device")
    assert failures(report) == [] and report["passed"] >= 9
    called = rantai(broker, "call", f"{name}.add", "2", "3")
    assert (called.returncode, called.stdout) == (0, "5\n"), called
    failed = rantai(broker, "call", f"{name}.fail", "worn_out", "--json")
    assert json.loads(failed.stdout)["error"]["data"]["kind"] == "worn_out", failed
    at_another_level = rantai(broker, "conform", "node", name, "--level", "full")
    assert at_another_level.returncode == 2 and "json-rpc" in at_another_level.stderr


@open_bus
@pytest.mark.parametrize("kind", ["paho", "mqtt.js"])
def test_a_node_is_a_node(broker, name, start, kind):
    arguments = [f"mqtt://127.0.0.1:{broker.port}", name, f"{name}-node"]
    if kind == "paho":
        start(sys.executable, PEERS / "node.py", *arguments)
    else:
        start("node", PEERS / "node.js", *arguments, NODE_PATH=str(ROOT / "target" / "node" / "node_modules"))
    report = examine(broker, name, "--level", "node")
    assert failures(report) == [] and report["passed"] >= 40


@open_bus
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_case(broker, name, start, fault):
    start(sys.executable, PEERS / "node.py", f"mqtt://127.0.0.1:{broker.port}", name, f"{name}-node", fault)
    found = failures(examine(broker, name, "--level", "node", "--case", FAULTS[fault]))
    [case] = [case for case in found if case["case"] == FAULTS[fault]]
    assert case["problem"] and case["step"] >= 1
    headings = [line.lstrip("#").strip() for line in (ROOT / "PROTOCOL.md").read_text().splitlines() if line[:1] == "#"]
    assert case["heading"] in headings


@open_bus
def test_what_a_dead_device_left_is_forgotten(broker, name, lamp, start):
    node = f"{name}-node"
    device = start(sys.executable, lamp, *where(broker), name, node)
    examine(broker, name, "--level", "device", "--case", "entry and state")
    refused = rantai(broker, "forget", node)
    assert refused.returncode == 1 and f"answers as {name}" in refused.stderr
    device.kill()
    device.wait()
    forgotten = rantai(broker, "forget", node, "--json")
    assert forgotten.returncode == 0, forgotten
    cleared = [f"rantai/name/{name}/{node}", f"rantai/node/{node}"]
    assert json.loads(forgotten.stdout) == {"node": node, "cleared": cleared, "left": []}
    again = rantai(broker, "forget", node)
    assert again.returncode == NOT_SERVED and "has left nothing" in again.stderr


def packet(page, title):
    """Returns the lines of a packet below this sentence of PROTOCOL.md, as bytes."""
    [block] = re.findall(re.escape(title) + r"\n\n```hex\n(.*?)^```$", page, re.M | re.S)
    rows = [re.match(r"(?:[0-9A-F]{2} ?)+", line)[0] for line in block.splitlines()]
    # A line without a comment goes on in the next one.
    joined, parts = b"", []
    for row, line in zip(rows, block.splitlines()):
        joined += bytes.fromhex(row)
        if len(line) > 72:
            parts.append(joined)
            joined = b""
    return parts


def string(text):
    return len(text).to_bytes(2, "big") + text.encode()


def exchange(sock, sent, wanted):
    """Sends a packet; returns the next packet of this type."""
    sock.sendall(sent)
    while True:
        head = sock.recv(2, socket.MSG_WAITALL)
        assert head[1] < 0x80, "a packet of less than 128 bytes"
        body = sock.recv(head[1], socket.MSG_WAITALL)
        if head[0] >> 4 == wanted:
            return head + body


@open_bus
def test_the_packets_of_the_page_are_those_on_the_wire(broker):
    page = (ROOT / "PROTOCOL.md").read_text()
    request = packet(page, "as MQTT 5 sends it to the node `pi-east`; properties may stand in any order:")
    reply = packet(page, "The reply:")
    node = RustNode(broker, "calculator", node="pi-east")
    try:
        with socket.create_connection(("127.0.0.1", broker.port), PATIENCE) as sock:
            connect = string("MQTT") + b"\x05\x02\x00\x3c\x00" + string("me")
            assert exchange(sock, b"\x10" + bytes([len(connect)]) + connect, 2)[3] == 0
            subscribe = b"\x00\x01\x00" + string("rantai/reply/+/me") + b"\x01"
            assert exchange(sock, b"\x82" + bytes([len(subscribe)]) + subscribe, 9)[-1] == 1
            got = exchange(sock, b"".join(request), 3)
    finally:
        node.close()
    # The broker chooses the packet id and the order of properties.
    assert len(got) == sum(map(len, reply)) and got[0] == reply[0][0]
    assert all(part in got for part in reply[1:])
