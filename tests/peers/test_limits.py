"""Flow control and limits, those of the client and those of the broker."""

import pytest

from clients import pub, sub
from differences import expected
from tap import DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC


def test_a_client_s_receive_maximum_holds_the_broker_back(broker, name, connect):
    reader = connect(broker, manual_ack=True, ReceiveMaximum=3)
    reader.subscribe(name, qos=1)
    writer = connect(broker)
    for number in range(20):
        writer.publish(name, str(number), qos=1)
    # A message that needs no acknowledgement is not held back, and shows that nothing else is coming.
    writer.publish(name, b"free", qos=0)
    first = reader.receive_until(b"free")
    assert [m.payload for m in first] == [b"0", b"1", b"2"]
    rest = []
    for _ in range(17):
        reader.acknowledge(first.pop(0))
        first.append(reader.receive())
        rest.append(first[-1].payload)
    assert rest == [str(number).encode() for number in range(3, 20)]


def test_a_client_s_receive_maximum_counts_qos_2_to_the_end(broker, name, connect):
    """A message counts until PUBCOMP, not until PUBREC [MQTT-3.3.4-9]."""
    reader = connect(broker, manual_ack=True, ReceiveMaximum=3)
    reader.subscribe(name, qos=2)
    writer = connect(broker)
    for number in range(20):
        writer.publish(name, str(number), qos=2)
    reader.receive_payloads(3)
    writer.publish(name, b"free", qos=0)
    reader.receive_until(b"free")
    assert len(reader.tap.seen(True, PUBLISH)) == 3 + 1


def test_a_packet_too_large_for_a_client_is_not_sent(broker, name, connect):
    small, writer = connect(broker, MaximumPacketSize=200), connect(broker)
    small.subscribe(name, qos=1)
    writer.publish(name, b"x" * 400, qos=1)
    writer.publish(name, b"fits", qos=1)
    assert small.receive().payload == b"fits"


@pytest.mark.mosquitto_tools
def test_a_retained_packet_too_large_for_a_client_is_not_sent(broker, name, connect):
    pub(broker, "-t", f"{name}/large", "-q", 1, "-r", "-m", "x" * 400)
    pub(broker, "-t", f"{name}/small", "-q", 1, "-r", "-m", "fits")
    small = connect(broker, MaximumPacketSize=200)
    small.subscribe(f"{name}/+", qos=1)
    assert small.receive().payload == b"fits"


def test_the_size_with_properties_counts(broker, name, connect):
    small, writer = connect(broker, MaximumPacketSize=200), connect(broker)
    small.subscribe(name, qos=1)
    writer.publish(name, b"tiny", qos=1, UserProperty=("key", "v" * 400))
    writer.publish(name, b"fits", qos=1)
    assert small.receive().payload == b"fits"


def test_a_packet_too_large_for_the_broker(start_broker, name, connect):
    broker = start_broker(packet_bytes=2_000)
    writer = connect(broker)
    assert writer.connack.properties["MaximumPacketSize"] == 2_000
    assert writer.publish(name, b"x" * 1_900, qos=1).reason == 0x10
    # mosquitto_pub would obey the limit, paho does not.
    writer.publish(name, b"x" * 2_000, qos=1, wait=False)
    told = writer.disconnected()
    assert (told and told.reason) == 0x95


@pytest.mark.mosquitto_tools
def test_the_broker_announces_its_receive_maximum(start_broker, name, connect):
    broker = start_broker(receive_maximum=7)
    assert connect(broker).connack.properties["ReceiveMaximum"] == 7
    # mosquitto_pub keeps to it.
    lines = b"".join(b"%d\n" % number for number in range(100))
    pub(broker, "-V", "5", "-t", name, "-q", 2, "-l", stdin=lines)


def test_the_broker_announces_its_topic_alias_maximum(start_broker, connect):
    broker = start_broker(topic_aliases=5)
    assert connect(broker).connack.properties["TopicAliasMaximum"] == 5


def test_the_server_s_keep_alive_wins(start_broker, connect):
    broker = start_broker(keep_alive=30)
    assert connect(broker, keep_alive=600).connack.properties["ServerKeepAlive"] == 30
    assert "ServerKeepAlive" not in connect(broker, keep_alive=10).connack.properties


def test_a_silent_client_is_told_why(broker, connect):
    silent = connect(broker, keep_alive=1, loop=False)
    silent.tap.wait_for_end()
    told = [packet.body[0] for packet in silent.tap.seen(True, DISCONNECT)]
    assert told == expected(broker, "keep-alive-reason")


def test_pings_keep_a_connection(broker, name, connect):
    client = connect(broker, keep_alive=3)
    client.tap.wait(True, 13, 2)
    client.subscribe(name)


def test_a_client_without_an_id_is_given_one(broker, connect):
    ids = {connect(broker).connack.properties["AssignedClientIdentifier"] for _ in range(3)}
    assert len(ids) == 3 and all(ids)


def test_an_assigned_id_can_be_used_again(broker, connect):
    first = connect(broker, clean=True, SessionExpiryInterval=60)
    first.disconnect()
    assigned = first.connack.properties["AssignedClientIdentifier"]
    assert connect(broker, assigned, clean=False, SessionExpiryInterval=60).connack.session_present


def test_a_client_with_an_id_is_not_given_another(broker, name, connect):
    assert "AssignedClientIdentifier" not in connect(broker, name).connack.properties


def test_client_ids_may_hold_anything(broker, connect):
    for client_id in ("a/b", "+", "#", "$x", "é ü", "日本" * 20, "x" * 1_000):
        for _ in range(2):
            connect(broker, client_id).subscribe("anything")


@pytest.mark.parametrize("qos", [1, 2])
def test_nobody_subscribed_is_told(broker, name, connect, qos):
    writer = connect(broker)
    writer.publish(name, b"x", qos=qos)
    told = writer.tap.wait(True, {1: PUBACK, 2: PUBREC}[qos]).reason
    assert told == expected(broker, f"nobody-subscribed-qos-{qos}")
    if qos == 2:
        writer.tap.wait(True, PUBCOMP)


@pytest.mark.parametrize("qos", [1, 2])
def test_somebody_subscribed_is_success(broker, name, connect, qos):
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name)
    writer.publish(name, b"x", qos=qos)
    assert writer.tap.wait(True, {1: PUBACK, 2: PUBREC}[qos]).reason == 0


def test_suback_grants_each_filter_its_qos(broker, name, connect):
    client = connect(broker)
    for qos in (0, 1, 2):
        assert client.subscribe(f"{name}/a", f"{name}/+", qos=qos) == [qos, qos]


def test_unsuback_0x11_without_a_subscription(broker, name, connect):
    client = connect(broker)
    client.subscribe(name)
    assert client.unsubscribe(name, f"{name}/other") == [0x00, 0x11]
    assert client.unsubscribe(name) == [0x11]


def test_a_publish_to_a_topic_of_the_broker_s(broker, name, connect):
    writer = connect(broker)
    assert writer.publish("$SYS/broker/version", b"x", qos=1).reason == 0x87
    assert writer.publish(f"${name}", b"x", qos=1).reason == expected(broker, "publish-to-dollar")


@pytest.mark.mosquitto_tools
def test_mqtt_3_1(broker, name, subscriber):
    reader = subscriber(broker, "-V", "mqttv31", "-i", name, "-t", name, "-q", 1, "-C", 1)
    pub(broker, "-V", "mqttv31", "-t", name, "-q", 2, "-m", "x")
    assert reader.lines() == ["x"]


@pytest.mark.mosquitto_tools
def test_mosquitto_sub_tells_its_limits(broker, name, subscriber):
    """A packet that is too large is dropped as if it had been sent [MQTT-3.1.2-25]: it does not count as in flight."""
    reader = subscriber(
        *(broker, "-V", "5", "-t", name, "-q", 1, "-C", 3, "-W", 6),
        *("-D", "connect", "receive-maximum", 1),
        *("-D", "connect", "maximum-packet-size", 100),
        *("-D", "connect", "user-property", "who", "me"),
        *("-D", "subscribe", "user-property", "what", "this"),
    )
    for payload in ("1", "x" * 200, "2", "3"):
        pub(broker, "-t", name, "-q", 1, "-m", payload)
    lines = expected(broker, "lines-around-one-too-large")
    assert reader.lines(code=0 if len(lines) == 3 else 27) == lines


@pytest.mark.mosquitto_tools
def test_mosquitto_sub_takes_a_burst_at_qos_2(broker, name, subscriber):
    """It announces a Receive Maximum of 20, and gives up on a broker that sends more [MQTT-3.3.4-9]."""
    reader = subscriber(broker, "-V", "5", "-t", name, "-q", 2, "-C", 300)
    pub(broker, "-t", name, "-q", 2, "-l", stdin=b"".join(b"%d\n" % number for number in range(300)))
    out, _ = reader.process.communicate(timeout=20)
    in_flight, most = 0, 0
    for packet in reader.tap.packets:
        in_flight += (packet.kind == PUBLISH) - (packet.kind == PUBCOMP)
        most = max(most, in_flight)
    assert (most <= 20) == expected(broker, "receive-maximum-kept-in-a-burst")
    if most <= 20:
        assert out.decode().splitlines() == [str(number) for number in range(300)]


def test_connack_names_what_is_there(broker, connect):
    """Absent means available (MQTT 5, 3.2.2.3); both brokers have everything."""
    properties = connect(broker).connack.properties
    for feature in ("RetainAvailable", "WildcardSubscriptionAvailable", "SubscriptionIdentifierAvailable"):
        assert properties.get(feature, 1) == 1
    assert properties.get("SharedSubscriptionAvailable", 1) == 1
    assert properties.get("MaximumQoS", 2) == 2


@pytest.mark.mosquitto_tools
def test_session_expiry_of_zero_ends_with_the_connection(broker, name):
    sub(broker, "-V", "5", "-i", name, "-c", "-x", 0, "-t", name, "-q", 1, "-E")
    pub(broker, "-t", name, "-q", 1, "-m", "missed")
    assert sub(broker, "-V", "5", "-i", name, "-c", "-t", name, "-q", 1, "-W", 1, code=27) == b""
