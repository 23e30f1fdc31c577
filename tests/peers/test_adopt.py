"""Devices that speak MQTT 3.1.1 and JSON-RPC and nothing else, whose objects a node serves: mosquitto's programs, paho, and the
device of docs/devices.md."""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest

from brokers import ADMIN, CALLER, rantai_binary
from clients import pub
from nodes import Node
from tap import PATIENCE

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "devices.md"
SERVED = ("adopted.py", "bell.json", "inline.toml", "bell.toml")


def rantai(broker, *arguments):
    """Runs a subcommand of `rantai`; callers call, and the examiner is an admin."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RANTAI_")}
    user = ADMIN if arguments[0] == "conform" else CALLER
    command = [rantai_binary(), *map(str, arguments), "--broker", broker.url(user)]
    environment |= broker.environment()
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=4 * PATIENCE)


@pytest.fixture
def folder(tmp_path, name):
    """The files of docs/devices.md, with a name of the test's own for the object."""
    for file in SERVED:
        [text] = re.findall(rf"^<!-- file: {re.escape(file)} -->\n```\w+\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
        (tmp_path / file).write_text(text if file.endswith(".py") else text.replace('"bell"', f'"{name}"'))
    return tmp_path


@pytest.fixture
def adopt(broker, name, folder):
    """Serves the object of the device."""
    node = Node(broker, config=folder / "bell.toml", serving=[name])
    yield node
    node.close()


def device_of(broker, object):
    """What the node says of the device."""
    told = rantai(broker, "call", f"{object}.rpc.stats", "--json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)["device"]


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)


class Calling(threading.Thread):
    """A call that goes on beside the test."""

    def __init__(self, broker, *arguments):
        super().__init__(daemon=True)
        self._run = lambda: rantai(broker, "call", *arguments, "--json")
        self.start()

    def run(self):
        self.done = self._run()

    def result(self):
        self.join(4 * PATIENCE)
        return json.loads(self.done.stdout)


def test_the_adopted_device_of_the_document_has_thirty_lines(folder):
    lines = [line for line in (folder / "adopted.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 30, len(lines)


def test_the_configurations_of_the_document_are_right(folder):
    for file in ("bell.toml", "inline.toml"):
        done = subprocess.run([rantai_binary(), "up", "--check", "--config", folder / file], capture_output=True, text=True)
        assert (done.returncode, done.stdout.strip()) == (0, "the configuration is right"), done


@pytest.mark.tcp("the device of the document speaks TCP")
def test_the_adopted_device_of_the_document_passes_the_cases_of_devices(broker, name, folder, adopt):
    command = [sys.executable, folder / "adopted.py", "127.0.0.1", broker.port, name, *(broker.login(ADMIN) or ())]
    device = subprocess.Popen(list(map(str, command)))
    try:
        until("it is online", lambda: device_of(broker, name)["state"] == "online")
        done = rantai(broker, "conform", "node", name, "--level", "device", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 0 and report["failed"] == 0 and report["passed"] >= 12, report
        called = rantai(broker, "call", f"{name}.add", "2", "3")
        assert (called.returncode, called.stdout) == (0, "5\n"), called
        described = rantai(broker, "describe", name)
        assert "The sum of two numbers." in described.stdout, described
        meant = rantai(broker, "call", f"{name}.ad", "2", "3")
        assert meant.returncode != 0 and "add" in meant.stderr, meant
        device.kill()
        device.wait()
        until("its will is published", lambda: device_of(broker, name)["state"] == "offline")
        lost = rantai(broker, "call", f"{name}.add", "2", "3", "--json")
        assert json.loads(lost.stdout)["error"]["code"] == -32004, lost
    finally:
        device.kill()
        device.wait()


@pytest.mark.mosquitto_tools
def test_the_programs_of_mosquitto_are_a_device(broker, name, adopt, subscriber):
    topic = f"rantai/device/{name}"
    device = subscriber(broker, "-V", "mqttv311", "-q", "1", "-C", "1", "-t", f"{topic}/call")
    pub(broker, "-V", "mqttv311", "-q", "1", "-r", "-t", f"{topic}/state", "-m", "online")
    until("it is online", lambda: device_of(broker, name)["state"] == "online")
    call = Calling(broker, f"{name}.say", "hello", "--timeout", "30")
    [request] = map(json.loads, device.lines())
    assert (request["method"], request["params"]) == ("say", ["hello"]) and 0 < request["ttl_ms"] <= 30_000
    for answer in ({"id": "another", "result": "forged"}, {"id": request["id"], "result": "hello"}):
        pub(broker, "-V", "mqttv311", "-q", "1", "-t", f"{topic}/reply", "-m", json.dumps(answer))
    assert call.result() == "hello"
    assert device_of(broker, name)["ignored"]["unknown_id"] == 1
    # It has ended, and says so to nobody: its node hears that nobody subscribes.
    lost = rantai(broker, "call", f"{name}.say", "hello", "--json")
    assert json.loads(lost.stdout)["error"]["code"] == -32004, lost
    pub(broker, "-V", "mqttv311", "-r", "-n", "-t", f"{topic}/state")


def test_calls_wait_for_a_device_of_paho_that_sleeps(broker, name, adopt, connect):
    topic = f"rantai/device/{name}"
    device = connect(broker, version=3)
    device.publish(f"{topic}/state", "asleep", qos=1, retain=True)
    device.disconnect()
    until("it is asleep", lambda: device_of(broker, name)["state"] == "asleep")
    calls = [Calling(broker, f"{name}.say", text, "--timeout", "40") for text in ("one", "two")]
    until("they wait", lambda: device_of(broker, name)["waiting"] == 2)
    expired = rantai(broker, "call", f"{name}.say", "three", "--timeout", "1", "--json")
    assert json.loads(expired.stdout)["error"]["code"] == -32001, expired
    device = connect(broker, version=3)
    assert device.subscribe(f"{topic}/call", qos=1) == [1]
    device.publish(f"{topic}/state", "online", qos=1, retain=True)
    for _ in calls:
        request = json.loads(device.receive().payload)
        assert 0 < request["ttl_ms"] < 39_000, request
        device.publish(f"{topic}/reply", json.dumps({"id": request["id"], "result": request["params"][0]}), qos=1)
    assert sorted(call.result() for call in calls) == ["one", "two"]
    device.publish(f"{topic}/state", b"", qos=1, retain=True)
