"""QoS 0, 1 and 2 from publisher to subscriber, payloads, order."""

import hashlib
import os

import pytest

from clients import pub
from tap import PUBLISH, PUBREC, PUBREL


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("subscribed", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_mosquitto_clients_get_the_lower_qos(broker, name, subscriber, published, subscribed):
    reader = subscriber(broker, "-t", name, "-q", subscribed, "-C", 1, "-F", "%q %r %p")
    pub(broker, "-t", name, "-q", published, "-m", "hello")
    assert reader.lines() == [f"{min(published, subscribed)} 0 hello"]


@pytest.mark.parametrize("reader_version", [4, 5])
@pytest.mark.parametrize("writer_version", [4, 5])
def test_paho_clients_get_the_lower_qos(broker, name, connect, writer_version, reader_version):
    writer = connect(broker, version=writer_version)
    reader = connect(broker, version=reader_version)
    for subscribed in (0, 1, 2):
        assert reader.subscribe(f"{name}/{subscribed}", qos=subscribed) == [subscribed]
        for published in (0, 1, 2):
            answer = writer.publish(f"{name}/{subscribed}", b"hello", qos=published)
            assert answer.reason == 0
            got = reader.receive()
            assert (got.qos, got.payload, got.retain) == (min(published, subscribed), b"hello", False)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publisher_s_messages_keep_their_order(broker, name, connect, qos):
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=qos)
    for number in range(500):
        writer.publish(name, str(number), qos=qos, wait=False)
    assert reader.receive_payloads(500) == [str(number).encode() for number in range(500)]


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_payload_of_one_mebibyte_arrives_whole(broker, name, subscriber, tmp_path, qos):
    file = tmp_path / "payload"
    file.write_bytes(os.urandom(1 << 20))
    reader = subscriber(broker, "-t", name, "-q", qos, "-C", 1, "-N")
    pub(broker, "-t", name, "-q", qos, "-f", file)
    got = reader.output()
    assert len(got) == 1 << 20
    assert hashlib.sha256(got).digest() == hashlib.sha256(file.read_bytes()).digest()


@pytest.mark.mosquitto_tools
def test_an_empty_payload_is_a_message(broker, name, subscriber):
    reader = subscriber(broker, "-t", name, "-q", 1, "-C", 2, "-F", "%l|%p")
    pub(broker, "-t", name, "-q", 1, "-n")
    pub(broker, "-t", name, "-q", 1, "-m", "x")
    assert reader.lines() == ["0|", "1|x"]


def test_any_byte_may_stand_in_a_payload(broker, name, connect):
    reader, writer = connect(broker), connect(broker, version=4)
    reader.subscribe(name, qos=1)
    writer.publish(name, bytes(range(256)), qos=1)
    assert reader.receive().payload == bytes(range(256))


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_a_line_each(broker, name, subscriber, version):
    reader = subscriber(broker, "-V", version, "-t", name, "-q", 1, "-C", 100)
    lines = [f"line {number}" for number in range(100)]
    pub(broker, "-V", version, "-t", name, "-q", 1, "-l", stdin="\n".join(lines).encode() + b"\n")
    assert reader.lines() == lines


@pytest.mark.mosquitto_tools
def test_standard_input_as_one_message(broker, name, subscriber):
    reader = subscriber(broker, "-t", name, "-q", 1, "-C", 1)
    pub(broker, "-t", name, "-q", 1, "-s", stdin=b"two\nlines")
    assert reader.lines() == ["two", "lines"]


@pytest.mark.mosquitto_tools
def test_one_publisher_that_repeats(broker, name, subscriber):
    reader = subscriber(broker, "-t", name, "-q", 1, "-C", 5)
    pub(broker, "-t", name, "-q", 1, "-m", "again", "--repeat", 5, "--repeat-delay", 0)
    assert reader.lines() == ["again"] * 5


def test_one_subscriber_of_many_gets_every_message(broker, name, connect):
    readers = [connect(broker, version=version) for version in (4, 5) * 10]
    writer = connect(broker)
    for reader in readers:
        reader.subscribe(name, qos=1)
    for number in range(20):
        writer.publish(name, str(number), qos=1)
    for reader in readers:
        assert reader.receive_payloads(20) == [str(number).encode() for number in range(20)]


@pytest.mark.parametrize("version", [4, 5])
def test_qos_1_is_sent_again_when_its_puback_was_lost(broker, name, connect, version):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    writer = connect(broker, name, version, clean=False, **_lasting(version))
    writer.tap.cut_at(True, 4)
    writer.publish(name, b"once or twice", qos=1, wait=False)
    writer.disconnected()
    assert writer.connect(clean=False, **_lasting(version)).session_present
    assert writer.tap.wait(False, PUBLISH, 2).duplicate
    writer.publish(name, b"end", qos=1)
    copies = reader.receive_until(b"end")
    assert {copy.payload for copy in copies} == {b"once or twice"} and len(copies) in (1, 2)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("lost", ["PUBREC", "PUBREL", "PUBCOMP"])
def test_qos_2_arrives_once_whatever_answer_to_its_publisher_is_lost(broker, name, connect, version, lost):
    reader = connect(broker)
    reader.subscribe(name, qos=2)
    writer = connect(broker, name, version, clean=False, **_lasting(version))
    writer.tap.cut_at(*{"PUBREC": (True, 5), "PUBREL": (False, 6), "PUBCOMP": (True, 7)}[lost])
    writer.publish(name, b"once", qos=2, wait=False)
    writer.disconnected()
    assert writer.connect(clean=False, **_lasting(version)).session_present
    writer.publish(name, b"end", qos=2)
    assert [message.payload for message in reader.receive_until(b"end")] == [b"once"]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("lost", ["PUBLISH", "PUBREC", "PUBREL", "PUBCOMP"])
def test_qos_2_arrives_once_whatever_the_subscriber_s_connection_loses(broker, name, connect, version, lost):
    writer = connect(broker)
    reader = connect(broker, name, version, clean=False, **_lasting(version))
    reader.subscribe(name, qos=2)
    reader.tap.cut_at(*{"PUBLISH": (True, 3), "PUBREC": (False, 5), "PUBREL": (True, 6), "PUBCOMP": (False, 7)}[lost])
    writer.publish(name, b"once", qos=2)
    reader.disconnected()
    assert reader.connect(clean=False, **_lasting(version)).session_present
    writer.publish(name, b"end", qos=2)
    assert [message.payload for message in reader.receive_until(b"end")] == [b"once"]


def test_qos_2_is_delivered_before_its_publisher_knows(broker, name, connect):
    """Delivery does not wait for PUBREL, or the subscriber gets it after PUBREL; it must get it either way."""
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=2)
    assert writer.publish(name, b"x", qos=2).reason == 0
    assert reader.receive().payload == b"x"
    assert writer.tap.wait(True, PUBREC).reason == 0
    assert writer.tap.wait(False, PUBREL).packet_id == writer.tap.wait(False, PUBLISH).packet_id


def _lasting(version):
    return {"SessionExpiryInterval": 60} if version == 5 else {}
