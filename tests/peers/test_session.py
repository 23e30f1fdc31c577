"""State that outlives a connection: subscriptions, queues, messages in flight; takeover and expiry."""

import pytest

from clients import pub, sub
from differences import expected
from tap import PUBACK, PUBLISH


def _lasting(version):
    return {"SessionExpiryInterval": 60} if version == 5 else {}


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_resumes_with_its_subscriptions_and_its_queue(broker, name, connect, version):
    reader = connect(broker, name, version, clean=False, **_lasting(version))
    assert not reader.connack.session_present
    reader.subscribe(f"{name}/+", qos=2)
    reader.disconnect()
    writer = connect(broker)
    for qos in (1, 2):
        for number in range(50):
            writer.publish(f"{name}/{qos}", str(number), qos=qos)
    assert reader.connect(clean=False, **_lasting(version)).session_present
    got = [reader.receive() for _ in range(100)]
    for qos in (1, 2):
        assert [m.payload for m in got if m.qos == qos] == [str(n).encode() for n in range(50)]
    writer.publish(f"{name}/1", b"live", qos=1)
    assert reader.receive().payload == b"live"


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("version", [4, 5])
def test_clean_start_drops_the_session(broker, name, connect, version):
    reader = connect(broker, name, version, clean=False, **_lasting(version))
    reader.subscribe(name, qos=1)
    reader.disconnect()
    pub(broker, "-t", name, "-q", 1, "-m", "missed")
    assert not reader.connect(clean=True).session_present
    reader.subscribe(f"{name}/end", qos=1)
    pub(broker, "-t", name, "-q", 1, "-m", "missed too")
    pub(broker, "-t", f"{name}/end", "-q", 1, "-m", "end")
    assert reader.receive_until(b"end") == []


@pytest.mark.parametrize("version", [4, 5])
def test_a_clean_session_leaves_nothing(broker, name, connect, version):
    first = connect(broker, name, version)
    first.subscribe(name, qos=1)
    first.disconnect()
    assert not connect(broker, name, version, clean=False).connack.session_present


@pytest.mark.mosquitto_tools
def test_a_session_expires(broker, name, connect):
    reader = connect(broker, name, clean=False, SessionExpiryInterval=1)
    reader.subscribe(name, qos=1)
    reader.cut()
    # Longer than the interval, with the second by which a broker may be late.
    assert sub(broker, "-t", "no/such/topic", "-W", 3, code=27) == b""
    assert not reader.connect(clean=False).session_present


@pytest.mark.mosquitto_tools
def test_a_session_s_expiry_starts_at_the_disconnect(broker, name, connect):
    reader = connect(broker, name, clean=False, SessionExpiryInterval=3)
    assert sub(broker, "-t", "no/such/topic", "-W", 5, code=27) == b""
    reader.cut()
    assert reader.connect(clean=False).session_present


def test_disconnect_can_end_a_session(broker, name, connect):
    reader = connect(broker, name, clean=False, SessionExpiryInterval=60)
    reader.disconnect(SessionExpiryInterval=0)
    assert not reader.connect(clean=False).session_present


@pytest.mark.mosquitto_tools
def test_disconnect_can_prolong_a_session(broker, name, connect):
    reader = connect(broker, name, clean=False, SessionExpiryInterval=1)
    reader.disconnect(SessionExpiryInterval=60)
    assert sub(broker, "-t", "no/such/topic", "-W", 3, code=27) == b""
    assert reader.connect(clean=False).session_present


def test_disconnect_cannot_prolong_a_session_that_was_to_end(broker, name, connect):
    """Zero at CONNECT stays zero: Protocol Error 0x82 [MQTT-3.14.2-2]."""
    reader = connect(broker, name, clean=False)
    reader.disconnect(SessionExpiryInterval=60)
    assert not reader.connect(clean=False).session_present


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("version", [4, 5])
def test_a_takeover_cuts_the_old_connection_off(broker, name, connect, version):
    old = connect(broker, name, version, clean=False, **_lasting(version))
    old.subscribe(name, qos=1)
    new = connect(broker, name, version, clean=False, **_lasting(version))
    assert new.connack.session_present
    told = old.disconnected()
    assert (told and told.reason) == (expected(broker, "takeover-reason") if version == 5 else None)
    pub(broker, "-t", name, "-q", 1, "-m", "for the new one")
    assert new.receive().payload == b"for the new one"
    assert old.messages.empty()


@pytest.mark.mosquitto_tools
def test_a_takeover_crosses_versions(broker, name, connect):
    old = connect(broker, name, 5, clean=False, SessionExpiryInterval=60)
    old.subscribe(name, qos=1)
    new = connect(broker, name, 4, clean=False)
    assert new.connack.session_present
    old.disconnected()
    pub(broker, "-V", "mqttv5", "-t", name, "-q", 1, "-m", "x", "-D", "publish", "user-property", "k", "v")
    assert new.receive().properties == {}


@pytest.mark.parametrize("version", [4, 5])
def test_unacknowledged_messages_come_again_in_order(broker, name, connect, version):
    reader = connect(broker, name, version, manual_ack=True, clean=False, **_lasting(version))
    reader.subscribe(name, qos=1)
    writer = connect(broker)
    for number in range(5):
        writer.publish(name, str(number), qos=1)
    first = [reader.receive() for _ in range(5)]
    reader.acknowledge(first[0])
    reader.tap.wait(False, PUBACK)
    # The answer to it proves that the broker has read the PUBACK before it.
    reader.subscribe(f"{name}/other", qos=0)
    reader.cut()
    writer.publish(name, b"5", qos=1)
    assert reader.connect(clean=False, **_lasting(version)).session_present
    again = [reader.receive() for _ in range(5)]
    assert [m.payload for m in again] == [b"1", b"2", b"3", b"4", b"5"]
    assert [m.duplicate for m in again] == [True] * 4 + [False]
    assert [m.mid for m in again[:4]] == [m.mid for m in first[1:]]


@pytest.mark.mosquitto_tools
def test_a_queue_offline_keeps_what_the_subscription_asked_for(broker, name):
    """At QoS 0 a message for a client that is away may be dropped (MQTT 5, 4.1)."""
    sub(broker, "-i", name, "-c", "-t", name, "-q", 1, "-E")
    for qos in (0, 1, 2):
        pub(broker, "-t", name, "-q", qos, "-m", f"at {qos}")
    got = sub(broker, "-i", name, "-c", "-t", f"{name}/other", "-q", 1, "-C", 2, "-F", "%q %p")
    assert got == b"1 at 1\n1 at 2\n"


@pytest.mark.mosquitto_tools
def test_mosquitto_sub_with_version_5_keeps_its_session(broker, name):
    options = ["-V", "mqttv5", "-i", name, "-c", "-x", 60, "-t", name, "-q", 1]
    sub(broker, *options, "-E")
    for number in range(3):
        pub(broker, "-t", name, "-q", 1, "-m", number)
    assert sub(broker, *options, "-C", 3) == b"0\n1\n2\n"


def test_a_subscription_again_replaces_the_first(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    assert reader.subscribe(name, qos=2) == [2]
    assert reader.subscribe(name, qos=0) == [0]
    writer.publish(name, b"x", qos=2)
    writer.publish(name, b"end", qos=2)
    got = [*reader.receive_until(b"end")]
    assert [(m.payload, m.qos) for m in got] == [(b"x", 0)]


@pytest.mark.parametrize("version", [4, 5])
def test_unsubscribe_ends_it(broker, name, connect, version):
    reader, writer = connect(broker, version=version), connect(broker)
    reader.subscribe(name, f"{name}/end", qos=1)
    codes = reader.unsubscribe(name)
    assert codes == ([0] if version == 5 else [])
    writer.publish(name, b"missed", qos=1)
    writer.publish(f"{name}/end", b"end", qos=1)
    assert reader.receive_until(b"end") == []


def test_the_expiry_that_the_broker_grants(start_broker, name, connect):
    broker = start_broker()
    asked = connect(broker, name, SessionExpiryInterval=0xFFFFFFFF)
    granted = asked.connack.properties.get("SessionExpiryInterval", 0xFFFFFFFF)
    assert granted == expected(broker, "longest-session-expiry")


@pytest.mark.mosquitto_tools
def test_sessions_and_retained_messages_outlive_the_broker(start_broker, name, connect):
    broker = start_broker(durable=True)
    sub(broker, "-V", "5", "-i", name, "-c", "-x", 600, "-t", name, "-q", 2, "-E")
    pub(broker, "-V", "5", "-t", name, "-q", 1, "-m", "queued", "-D", "publish", "user-property", "k", "v")
    pub(broker, "-t", f"{name}/kept", "-q", 1, "-r", "-m", "retained")
    assert broker.stop() == 0
    broker.start()
    assert sub(broker, "-t", f"{name}/kept", "-C", 1) == b"retained\n"
    got = sub(broker, "-V", "5", "-i", name, "-c", "-x", 600, "-t", "other", "-q", 2, "-C", 1, "-F", "%p %P %q")
    assert got == b"queued k:v 1\n"


def test_qos_2_resumes_after_a_restart_of_the_broker(start_broker, name, connect):
    broker = start_broker(durable=True)
    reader = connect(broker, f"{name}r", clean=False, SessionExpiryInterval=600)
    reader.subscribe(name, qos=2)
    writer = connect(broker, f"{name}w", clean=False, SessionExpiryInterval=600)
    writer.tap.cut_at(False, 6)
    writer.publish(name, b"once", qos=2, wait=False)
    writer.disconnected()
    assert broker.stop() == 0
    reader.disconnected()
    broker.start()
    for client in (writer, reader):
        client.tap.target = broker.port
        assert client.connect(clean=False, SessionExpiryInterval=600).session_present
    writer.publish(name, b"end", qos=2)
    assert [message.payload for message in reader.receive_until(b"end")] == [b"once"]
    assert writer.tap.seen(False, PUBLISH)
