"""Telemetry, upcalls and insults, from the point of view of a client that implements PROTOCOL.md, and of mosquitto's
tools."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from brokers import ADMIN, rantai_binary
from clients import pub
from tap import PATIENCE

CONFIG = pathlib.Path(__file__).parents[2] / "config"


def config(name, folder, *changes):
    """Returns a built-in configuration with changes."""
    text = (CONFIG / name).read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.mosquitto_tools
def test_a_sensor_is_heard_by_whoever_knows_its_topics(bus, serve, subscriber, connect, name, tmp_path):
    reader = subscriber(bus.broker, "-t", f"{name}/+", "-C", 4, "-F", "%t %q %r %p")
    changes = ('"sister/', f'"{name}/'), ("period_ms = 1000", "period_ms = 100")
    serve(config=config("telemetry.toml", tmp_path, *changes), root=name, serving=["sister"])
    shown = reader.lines()
    for line, (reading, unit, low, high) in zip(shown, [("temp", "°C", 20, 35), ("humidity", "%", 30, 50)] * 2):
        found = re.fullmatch(rf"{name}/{reading} 0 0 (\d+){unit}", line)
        assert found and low <= int(found[1]) <= high, shown
    late = connect(bus)
    late.subscribe(f"{name}/event/sister/temp", qos=1)
    present = late.receive()
    value = json.loads(present.payload)
    assert present.retain and value["text"] == f"{value['value']}°C" and set(value) == {"value", "text", "time"}


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_what_others_publish_is_printed_and_kept(bus, name, tmp_path, version):
    log = tmp_path / "log"
    command = [rantai_binary(), "sub", f"{name}/#", f"{name}/temp", "--count", "3", "--log", log]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RANTAI_")} | bus.broker.environment()
    command += ["--broker", bus.broker.url(ADMIN)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as sub:
        while b"subscribed" not in sub.stderr.readline():
            assert sub.poll() is None
        for qos, text in enumerate(["28°C", "本 📖", "x" * 10_000]):
            pub(bus.broker, "-V", version, "-q", qos, "-t", f"{name}/temp", "-m", text)
        out, err = sub.communicate(timeout=PATIENCE)
    expected = [f"Received message: {text} (Topic: {name}/temp)" for text in ["28°C", "本 📖", "x" * 10_000]]
    assert (sub.returncode, out.decode().splitlines()) == (0, expected), err
    assert log.read_text(encoding="utf-8").splitlines() == expected


def test_a_sender_is_called_back_on_its_own_topic(serve, make_caller, name):
    serve(config=CONFIG / "upcall.toml", root=name, serving=["upcall"])
    caller, other = make_caller(root=name), make_caller(root=name)
    for one in (caller, other):
        topics = [f"{name}/event/upcall/{event}" for event in (f"upcall/{one.id}", f"pushed/{one.id}", "pushed")]
        assert one.client.subscribe(*topics, qos=1) == [1] * 3
    caller.send("upcall/send", "halo", CorrelationData=b"it")
    upcall, reply = sorted((caller.client.receive(), caller.client.receive()), key=lambda m: m.topic)
    assert json.loads(upcall.payload) == "Upcall event: Processing halo"
    assert upcall.topic == f"{name}/event/upcall/upcall/{caller.id}" and not upcall.retain
    assert upcall.properties["CorrelationData"] == b"it"
    assert reply.payload == b"null" and reply.properties["CorrelationData"] == b"it"
    caller.send("upcall/push", "news", CorrelationData=b"push")
    assert json.loads(other.client.receive().payload) == "news", "nothing of the other's came before"
    payloads = {caller.client.receive().payload, caller.client.receive().payload}
    assert payloads == {b'"news"', b"null"}
    # Whose reply topic names nobody cannot be called back.
    public = f"{name}/reply/upcall"
    assert caller.client.subscribe(public, qos=1) == [1]
    caller.send("upcall/send", "x", reply=public)
    assert json.loads(caller.client.receive().payload)["error"]["data"]["kind"] == "no_client"


def test_insults_are_registered_and_called_back(serve, make_caller, name, tmp_path):
    times = ("period_ms = 5000", "period_ms = 100"), ("lease_ms = 30000", "lease_ms = 3000")
    objects = ["InsultStore", "InsultService", "InsultFilterService", "Notifier"]
    serve(config=config("insult.toml", tmp_path, *times), root=name, serving=objects)
    caller = make_caller(root=name)
    assert caller.call("InsultService/add_insult", [["Tonto", "tonto"]]).result == [
        "Insulto registrado: tonto",
        "Insulto ya registrado: tonto",
    ]
    assert caller.call("InsultService/add_insult", "1984").result == ["Insulto registrado: 1984"]
    assert caller.call("InsultService/get_insults").result == ["tonto", "1984"]
    told = caller.call("InsultFilterService/add_text", {"text": "¡TONTO! 1984"}).result
    assert told == ["Texto registrado: ¡CENSORED! CENSORED"]
    (kept,) = caller.call("InsultFilterService/get_texts").result
    assert (kept["id"], kept["text"], set(kept)) == (1, "¡CENSORED! CENSORED", {"id", "text", "timestamp"})
    ears = make_caller(root=name)
    topic = f"{name}/event/Notifier/insult/{caller.id}"
    assert ears.client.subscribe(topic, qos=1) == [1]
    subscribed = caller.call("Notifier/subscribe").result
    assert subscribed == {"subscriber": caller.id, "lease_ms": 3000}
    assert json.loads(ears.client.receive().payload) in ("tonto", "1984")
    # Nobody subscribes again: it is forgotten.
    while caller.call("Notifier/subscribers").result > 0:
        pass
