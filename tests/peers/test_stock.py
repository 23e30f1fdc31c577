"""Clients with their default settings, and Nagle's algorithm on: a call must not wait for an acknowledgement that TCP
delays by 40 ms. On mosquitto it does, so these tests run on our broker only."""

import array
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import time

import paho.mqtt.client as paho
import pytest

import brokers
from nodes import Node
from tap import PATIENCE

pytestmark = pytest.mark.tcp("its clients speak TCP alone")

STOCK = brokers.ROOT / "benches" / "rivals" / "stock"
#: Half of what TCP delays an acknowledgement by; a call takes about one millisecond.
DELAYED_MS = 20
SECONDS = 1.5


def assert_not_delayed(milliseconds):
    """Asserts that most calls are fast: a TCP delay affects nearly every call, a busy machine only some."""
    lower_quartile = statistics.quantiles(milliseconds)[0]
    assert lower_quartile < DELAYED_MS, milliseconds


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    broker = brokers.Broker("rantai", tmp_path_factory.mktemp("stock"), users={})
    node = Node(broker, "echo")
    yield broker.port
    node.close()
    broker.kill()


def paho_caller():
    return [sys.executable, STOCK / "paho_caller.py"], {}


def mqttjs_caller():
    modules = pathlib.Path(brokers.ROOT, "target", "node", "node_modules")
    if not (modules / "mqtt").exists():
        raise brokers.Missing(f"no mqtt.js in {modules}: `. .ci/packages; install_node_clients`")
    return ["node", STOCK / "mqttjs_caller.js"], {"NODE_PATH": str(modules)}


@pytest.mark.parametrize("client", [paho_caller, mqttjs_caller])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_sequential_calls_do_not_wait_for_tcp(port, client, qos):
    command, variables = client()
    request = f"{port} {qos} 0.5 {SECONDS}\n".encode()
    done = subprocess.run(
        command, input=request, capture_output=True, timeout=3 * PATIENCE, env=os.environ | variables
    )
    assert done.returncode == 0, done.stderr.decode()
    head, _, times = done.stdout.partition(b"\n")
    counted = array.array("Q", times)
    assert len(counted) == int(head.split()[1])
    assert_not_delayed([time / 1e6 for time in counted])


def test_a_device_that_answers_does_not_wait_for_tcp(port):
    """Its PUBACK for a request is sent before its reply, and delays the reply."""
    device, subscribed = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5), queue.Queue()
    requests, answers, times = queue.Queue(), queue.Queue(), []
    device.on_connect = lambda client, *_: client.subscribe("device/request", 1)
    device.on_subscribe = lambda *_: subscribed.put(None)
    device.on_message = lambda _client, _data, message: requests.put(message.payload)
    caller = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    caller.on_connect = lambda client, *_: client.subscribe("device/answer", 1)
    caller.on_subscribe = lambda *_: subscribed.put(None)
    caller.on_message = lambda _client, _data, message: answers.put(message.payload)
    for client in (device, caller):
        client.connect("127.0.0.1", port)
        client.loop_start()
        subscribed.get(timeout=PATIENCE)
    for number in range(60):
        began = time.monotonic()
        caller.publish("device/request", str(number), 1)
        device.publish("device/answer", requests.get(timeout=PATIENCE), 1)
        assert answers.get(timeout=PATIENCE) == str(number).encode()
        times.append((time.monotonic() - began) * 1000)
    for client in (device, caller):
        client.disconnect()
        client.loop_stop()
    # The kernel acknowledges at once while a connection is young.
    assert_not_delayed(times[20:])
