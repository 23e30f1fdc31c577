"""Retained messages and every subscription option."""

import pytest

from clients import pub, sub


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_the_last_retained_message_is_kept(broker, name, version):
    for value in ("first", "second"):
        pub(broker, "-V", version, "-t", name, "-q", 1, "-r", "-m", value)
    assert sub(broker, "-V", version, "-t", name, "-C", 1, "-F", "%t %p %r") == f"{name} second 1\n".encode()


@pytest.mark.mosquitto_tools
def test_an_empty_retained_message_deletes(broker, name, subscriber):
    pub(broker, "-t", name, "-r", "-q", 1, "-m", "kept")
    pub(broker, "-t", name, "-r", "-q", 1, "-n")
    assert sub(broker, "-t", name, "-W", 1, code=27) == b""


@pytest.mark.mosquitto_tools
def test_an_empty_message_that_is_not_retained_deletes_nothing(broker, name):
    pub(broker, "-t", name, "-r", "-q", 1, "-m", "kept")
    pub(broker, "-t", name, "-q", 1, "-n")
    assert sub(broker, "-t", name, "-C", 1) == b"kept\n"


def test_a_subscriber_is_told_of_a_deletion(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    writer.publish(name, b"kept", qos=1, retain=True)
    reader.subscribe(name, qos=1)
    assert reader.receive().retain
    writer.publish(name, b"", qos=1, retain=True)
    gone = reader.receive()
    assert (gone.payload, gone.retain) == (b"", False)


@pytest.mark.parametrize("version", [4, 5])
def test_a_live_message_is_not_marked_retained(broker, name, connect, version):
    reader, writer = connect(broker, version=version), connect(broker)
    reader.subscribe(name, qos=1)
    writer.publish(name, b"live", qos=1, retain=True)
    assert not reader.receive().retain


def test_retain_as_published_keeps_the_mark(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=1, as_published=True)
    writer.publish(name, b"retained", qos=1, retain=True)
    writer.publish(name, b"not", qos=1)
    assert [reader.receive().retain for _ in range(2)] == [True, False]


def test_retain_handling_0_sends_at_every_subscribe(broker, name, connect):
    assert _retained_per_subscribe(broker, name, connect, handling=0) == [1, 1]


def test_retain_handling_1_sends_at_a_new_subscription_only(broker, name, connect):
    assert _retained_per_subscribe(broker, name, connect, handling=1) == [1, 0]


def test_retain_handling_2_never_sends(broker, name, connect):
    assert _retained_per_subscribe(broker, name, connect, handling=2) == [0, 0]


def _retained_per_subscribe(broker, name, connect, handling):
    reader, writer = connect(broker), connect(broker)
    writer.publish(name, b"retained", qos=1, retain=True)
    counts = []
    for _ in range(2):
        reader.subscribe(name, qos=1, handling=handling)
        writer.publish(name, b"end", qos=1)
        counts.append(len(reader.receive_until(b"end")))
    return counts


def test_retain_handling_1_sends_again_after_an_unsubscribe(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    writer.publish(name, b"retained", qos=1, retain=True)
    for _ in range(2):
        reader.subscribe(name, qos=1, handling=1)
        assert reader.receive().payload == b"retained"
        assert reader.unsubscribe(name) == [0]


def test_no_local_spares_the_publisher_alone(broker, name, connect):
    own, other = connect(broker), connect(broker)
    own.subscribe(name, qos=1, no_local=True)
    other.subscribe(name, qos=1)
    own.publish(name, b"mine", qos=1)
    other.publish(name, b"theirs", qos=1)
    assert own.receive().payload == b"theirs"
    assert other.receive_payloads(2) == [b"mine", b"theirs"]


def test_without_no_local_a_publisher_hears_itself(broker, name, connect):
    own = connect(broker, version=4)
    own.subscribe(name, qos=1)
    own.publish(name, b"mine", qos=1)
    assert own.receive().payload == b"mine"


def test_a_wildcard_gets_every_retained_message(broker, name, connect):
    writer, reader = connect(broker), connect(broker)
    topics = [f"{name}/{number}/state" for number in range(1_000)]
    for topic in topics:
        writer.publish(topic, topic, qos=1, retain=True, wait=False)
    writer.publish(f"{name}/end", b"", qos=1)
    reader.subscribe(f"{name}/+/state", qos=1)
    got = [reader.receive() for _ in topics]
    assert sorted(m.topic for m in got) == sorted(topics)
    assert all(m.retain and m.payload == m.topic.encode() for m in got)


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize(("stored", "subscribed"), [(0, 2), (1, 0), (2, 1), (2, 2)])
def test_a_retained_message_comes_at_the_lower_qos(broker, name, stored, subscribed):
    pub(broker, "-t", name, "-r", "-q", stored, "-m", "x")
    assert sub(broker, "-t", name, "-q", subscribed, "-C", 1, "-F", "%q") == f"{min(stored, subscribed)}\n".encode()


def test_retained_properties_are_kept(broker, name, connect):
    sent = {
        "UserProperty": [("b", "1"), ("a", "2"), ("b", "1")],
        "ContentType": "text/plain",
        "ResponseTopic": f"{name}/reply",
        "CorrelationData": b"\x00\xff",
        "PayloadFormatIndicator": 1,
    }
    connect(broker).publish(name, b"x", qos=1, retain=True, **sent)
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    assert reader.receive().properties == sent


@pytest.mark.mosquitto_tools
def test_a_retained_message_expires_and_reading_does_not_consume_it(broker, name, connect):
    writer = connect(broker)
    writer.publish(name, b"short", qos=1, retain=True, MessageExpiryInterval=4)
    for _ in range(2):
        reader = connect(broker)
        reader.subscribe(name, qos=1)
        assert reader.receive().properties["MessageExpiryInterval"] <= 4
    # The wait is the time that the standard speaks of.
    assert sub(broker, "-t", "no/such/topic", "-W", 5, code=27) == b""
    late = connect(broker)
    late.subscribe(name, qos=1)
    writer.publish(name, b"end", qos=1)
    assert late.receive_until(b"end") == []


def test_the_acknowledgement_of_a_retained_message_that_nobody_reads(broker, name, connect):
    answer = connect(broker).publish(name, b"x", qos=1, retain=True)
    assert answer.reason == 0x10
