"""Wills."""

import time

import pytest

from clients import Will, pub, sub
from differences import expected


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_is_sent_when_the_connection_breaks(broker, name, connect, version, qos):
    reader = connect(broker)
    reader.subscribe(name, qos=2)
    connect(broker, version=version, will=Will(name, b"gone", qos)).cut()
    got = reader.receive()
    assert (got.payload, got.qos) == (b"gone", qos)


@pytest.mark.parametrize("version", [4, 5])
def test_a_normal_disconnect_clears_the_will(broker, name, connect, version):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    connect(broker, version=version, will=Will(name)).disconnect()
    connect(broker).publish(name, b"end", qos=1)
    assert reader.receive_until(b"end") == []


def test_disconnect_0x04_sends_the_will(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    connect(broker, will=Will(name)).disconnect(reason=0x04)
    assert reader.receive().payload == b"gone"


@pytest.mark.mosquitto_tools
def test_a_retained_will_is_kept(broker, name, connect):
    connect(broker, will=Will(name, retain=True, qos=1)).cut()
    assert sub(broker, "-t", name, "-C", 1, "-F", "%r %p") == b"1 gone\n"


def test_a_will_keeps_its_properties(broker, name, connect):
    properties = {
        "UserProperty": [("why", "cut"), ("again", "1"), ("why", "really")],
        "ContentType": "text/plain",
        "ResponseTopic": "reply",
        "CorrelationData": b"\x01",
        "PayloadFormatIndicator": 1,
        "MessageExpiryInterval": 100,
    }
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    connect(broker, will=Will(name, properties=properties)).cut()
    got = reader.receive().properties
    assert 99 <= got.pop("MessageExpiryInterval") <= 100
    del properties["MessageExpiryInterval"]
    assert got == properties


def test_a_will_waits_for_its_delay(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    will = Will(name, properties={"WillDelayInterval": 2})
    dying = connect(broker, name, will=will, SessionExpiryInterval=60)
    began = time.monotonic()
    dying.cut()
    assert reader.receive().payload == b"gone"
    assert 1 <= time.monotonic() - began < 30, "before the end of the session"


@pytest.mark.mosquitto_tools
def test_a_reconnect_within_the_delay_cancels_the_will(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=1)
    dying = connect(broker, name, will=Will(name, properties={"WillDelayInterval": 2}), SessionExpiryInterval=60)
    dying.cut()
    # Without a will of its own, so that none can come later.
    connect(broker, name, clean=False, SessionExpiryInterval=60)
    assert sub(broker, "-t", "no/such/topic", "-W", 4, code=27) == b""
    writer.publish(name, b"end", qos=1)
    assert reader.receive_until(b"end") == []


@pytest.mark.mosquitto_tools
def test_a_will_does_not_outwait_its_session(broker, name, connect):
    """The delay ends with the session, here at once [MQTT-3.1.2-8]."""
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=1)
    connect(broker, will=Will(name, properties={"WillDelayInterval": 600})).cut()
    assert sub(broker, "-t", "no/such/topic", "-W", 2, code=27) == b""
    writer.publish(name, b"end", qos=1)
    assert len(reader.receive_until(b"end")) == expected(broker, "wills-at-the-end-of-a-session")


def test_silence_beyond_the_keep_alive_sends_the_will(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    # Its loop is not run: it neither pings nor notices.
    connect(broker, keep_alive=1, loop=False, will=Will(name))
    assert reader.receive().payload == b"gone"


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("version", [4, 5])
def test_a_takeover_sends_the_will_of_the_old_connection(broker, name, connect, version):
    reader = connect(broker)
    reader.subscribe(f"{name}/#", qos=1)
    connect(broker, name, version, will=Will(f"{name}/old"))
    connect(broker, name, version, will=Will(f"{name}/new"))
    pub(broker, "-t", f"{name}/end", "-m", "end", "-q", 1)
    assert [message.topic for message in reader.receive_until(b"end")] == [f"{name}/old"]


@pytest.mark.mosquitto_tools
def test_a_killed_mosquitto_sub_leaves_its_will(broker, name, connect, subscriber):
    reader = connect(broker)
    reader.subscribe(name, qos=2)
    options = ["--will-topic", name, "--will-payload", "killed", "--will-qos", 2, "--will-retain"]
    dying = subscriber(broker, "-t", f"{name}/other", *options)
    dying.kill()
    got = reader.receive()
    assert (got.payload, got.qos) == (b"killed", 2)
    assert sub(broker, "-t", name, "-C", 1) == b"killed\n"
