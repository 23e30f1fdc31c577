"""Properties of MQTT 5 in transit; a 3.1.1 client gets none of them."""

import pytest

from clients import pub, sub
from differences import expected
from tap import PUBLISH


@pytest.mark.mosquitto_tools
def test_user_properties_keep_order_and_repetition(broker, name, subscriber):
    reader = subscriber(broker, "-V", "5", "-t", name, "-C", 1, "-F", "%P|%p")
    pairs = [("z", "1"), ("a", "2"), ("z", "1"), ("é", "ü €"), ("z", "0"), ("empty", "")]
    options = sum((["-D", "publish", "user-property", key, value] for key, value in pairs), [])
    pub(broker, "-V", "5", "-t", name, "-m", "x", *options)
    assert reader.lines() == [" ".join(f"{key}:{value}" for key, value in pairs) + "|x"]


def test_a_hundred_user_properties(broker, name, connect):
    pairs = [(f"key {number % 7}", f"value {number}" * 10) for number in range(100)]
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    connect(broker).publish(name, b"x", qos=1, UserProperty=pairs)
    assert reader.receive().properties["UserProperty"] == pairs


@pytest.mark.mosquitto_tools
def test_content_type_response_topic_correlation_and_format(broker, name, subscriber):
    reader = subscriber(broker, "-V", "5", "-t", name, "-C", 1, "-F", "%C|%R|%D|%F|%p")
    pub(
        *(broker, "-V", "5", "-t", name, "-m", "x"),
        *("-D", "publish", "content-type", "text/plain; charset=utf-8"),
        *("-D", "publish", "response-topic", f"{name}/réponse"),
        *("-D", "publish", "correlation-data", "request 7"),
        *("-D", "publish", "payload-format-indicator", 1),
    )
    assert reader.lines() == [f"text/plain; charset=utf-8|{name}/réponse|request 7|1|x"]


def test_correlation_data_is_any_bytes(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=2)
    data = bytes(range(256)) * 8
    connect(broker).publish(name, b"x", qos=2, CorrelationData=data)
    assert reader.receive().properties == {"CorrelationData": data}


@pytest.mark.mosquitto_tools
def test_no_property_appears_by_itself(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    pub(broker, "-V", "5", "-t", name, "-q", 1, "-m", "x")
    assert reader.receive().properties == {}


@pytest.mark.parametrize("retain", [False, True])
def test_properties_are_dropped_for_3_1_1(broker, name, connect, retain):
    old = connect(broker, version=4)
    if not retain:
        old.subscribe(name, qos=1)
    properties = {
        "UserProperty": ("k", "v"),
        "ResponseTopic": "r",
        "CorrelationData": b"c",
        "ContentType": "t",
        "MessageExpiryInterval": 60,
    }
    connect(broker).publish(name, b"payload", qos=1, retain=retain, **properties)
    if retain:
        old.subscribe(name, qos=1)
    assert old.receive().payload == b"payload"
    raw = old.tap.wait(True, PUBLISH)
    assert len(raw.body) == 2 + len(name) + 2 + len(b"payload")


def test_3_1_1_reaches_5_and_back(broker, name, connect):
    old, new = connect(broker, version=4), connect(broker, version=5)
    for client in (old, new):
        client.subscribe(name, qos=2)
    for writer, reader in ((old, new), (new, old)):
        for qos in (0, 1, 2):
            writer.publish(name, f"{writer.version} {qos}", qos=qos)
            for client in (old, new):
                got = client.receive()
                assert (got.payload, got.qos) == (f"{writer.version} {qos}".encode(), qos)


@pytest.mark.mosquitto_tools
def test_an_expiry_counts_down_in_a_queue(broker, name, connect):
    reader = connect(broker, name, clean=False, SessionExpiryInterval=60)
    reader.subscribe(name, qos=1)
    reader.disconnect()
    writer = connect(broker)
    writer.publish(name, b"short", qos=1, MessageExpiryInterval=1)
    writer.publish(name, b"long", qos=1, MessageExpiryInterval=100)
    writer.publish(name, b"for ever", qos=1)
    assert sub(broker, "-t", "no/such/topic", "-W", 3, code=27) == b""
    reader.connect(clean=False, SessionExpiryInterval=60)
    long, for_ever = reader.receive(), reader.receive()
    assert (long.payload, for_ever.payload) == (b"long", b"for ever")
    assert 90 <= long.properties["MessageExpiryInterval"] <= 98
    assert for_ever.properties == {}


@pytest.mark.mosquitto_tools
def test_expired_messages_do_not_hide_live_ones(broker, name, connect):
    reader = connect(broker, name, clean=False, SessionExpiryInterval=60)
    reader.subscribe(name, qos=1)
    reader.disconnect()
    writer = connect(broker)
    for _ in range(150):
        writer.publish(name, b"old", qos=1, MessageExpiryInterval=1)
    for number in range(20):
        writer.publish(name, str(number), qos=1)
    assert sub(broker, "-t", "no/such/topic", "-W", 3, code=27) == b""
    reader.connect(clean=False, SessionExpiryInterval=60)
    writer.publish(name, b"end", qos=0)
    live = [str(number).encode() for number in range(20)]
    assert [m.payload for m in reader.receive_until(b"end")] == live[: expected(broker, "live-behind-expired")]


@pytest.mark.mosquitto_tools
def test_a_live_message_carries_its_expiry(broker, name, subscriber):
    reader = subscriber(broker, "-V", "5", "-t", name, "-C", 1, "-F", "%E")
    pub(broker, "-V", "5", "-t", name, "-m", "x", "-D", "publish", "message-expiry-interval", 100)
    assert reader.lines()[0] in ("100", "99")


@pytest.mark.mosquitto_tools
def test_a_subscription_identifier_comes_with_each_message(broker, name, subscriber):
    options = ["-D", "subscribe", "subscription-identifier", 268_435_455]
    reader = subscriber(broker, "-V", "5", "-t", f"{name}/#", "-C", 2, "-F", "%S %t", *options)
    pub(broker, "-t", f"{name}/a", "-m", "x")
    pub(broker, "-t", f"{name}/b", "-m", "x")
    assert reader.lines() == [f"268435455 {name}/a", f"268435455 {name}/b"]


@pytest.mark.mosquitto_tools
def test_a_subscription_identifier_comes_with_a_retained_message(broker, name, connect):
    pub(broker, "-t", name, "-q", 1, "-r", "-m", "x")
    reader = connect(broker)
    reader.subscribe(name, qos=1, SubscriptionIdentifier=7)
    assert reader.receive().properties == {"SubscriptionIdentifier": [7]}


@pytest.mark.mosquitto_tools
def test_a_subscription_identifier_can_be_replaced_and_removed(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=1, SubscriptionIdentifier=1)
    reader.subscribe(name, qos=1, SubscriptionIdentifier=2)
    pub(broker, "-t", name, "-q", 1, "-m", "x")
    assert reader.receive().properties == {"SubscriptionIdentifier": [2]}
    reader.subscribe(name, qos=1)
    pub(broker, "-t", name, "-q", 1, "-m", "x")
    assert reader.receive().properties == {}


def test_overlapping_subscriptions(broker, name, connect):
    """One copy at the highest QoS with every identifier, or a copy for each [MQTT-3.3.4-2, 4.3.3]."""
    reader = connect(broker)
    reader.subscribe(f"{name}/+", qos=0, SubscriptionIdentifier=1)
    reader.subscribe(f"{name}/#", qos=2, SubscriptionIdentifier=2)
    reader.subscribe(f"{name}/x", qos=1, SubscriptionIdentifier=3)
    reader.subscribe(f"{name}end", qos=2)
    writer = connect(broker)
    writer.publish(f"{name}/x", b"x", qos=2)
    writer.publish(f"{name}end", b"end", qos=2)
    copies = [[m.qos, *m.properties["SubscriptionIdentifier"]] for m in reader.receive_until(b"end")]
    copies = [[qos, *sorted(identifiers)] for qos, *identifiers in copies]
    assert sorted(copies) == expected(broker, "overlapping-copies")


def test_a_publisher_s_topic_alias_stands_for_its_topic(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    assert writer.connack.properties["TopicAliasMaximum"] >= 10
    reader.subscribe(f"{name}/+", qos=1)
    writer.publish(f"{name}/first", b"1", qos=1, TopicAlias=1)
    writer.publish(f"{name}/second", b"2", qos=1, TopicAlias=10)
    writer.publish("", b"3", qos=1, TopicAlias=1)
    writer.publish("", b"4", qos=1, TopicAlias=10)
    writer.publish(f"{name}/third", b"5", qos=1, TopicAlias=1)
    writer.publish("", b"6", qos=1, TopicAlias=1)
    words = ["first", "second", "first", "second", "third", "third"]
    got = [reader.receive() for _ in words]
    assert [m.topic for m in got] == [f"{name}/{word}" for word in words]
    assert all("TopicAlias" not in m.properties for m in got)


@pytest.mark.mosquitto_tools
def test_mosquitto_pub_with_an_alias(broker, name, subscriber):
    reader = subscriber(broker, "-V", "5", "-t", name, "-C", 3, "-F", "%t|%A|%p")
    options = ["--repeat", 3, "-D", "publish", "topic-alias", 5]
    pub(broker, "-V", "5", "-t", name, "-m", "x", *options)
    assert reader.lines() == [f"{name}||x"] * 3


def test_a_receiver_s_aliases_stay_within_its_maximum(broker, name, connect):
    reader, writer = connect(broker, TopicAliasMaximum=2), connect(broker)
    reader.subscribe(f"{name}/+", qos=1)
    topics = [f"{name}/{number % 4}" for number in range(40)]
    for topic in topics:
        writer.publish(topic, topic, qos=1)
    got = [reader.receive() for _ in topics]
    assert [(m.topic, m.payload) for m in got] == [(topic, topic.encode()) for topic in topics]
    aliases = {m.properties["TopicAlias"] for m in got if "TopicAlias" in m.properties}
    assert aliases <= {1, 2}
    assert any(not p.topic for p in reader.tap.seen(True, PUBLISH)) == expected(broker, "aliases-to-receivers")


def test_a_receiver_that_allows_no_alias_gets_none(broker, name, connect):
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=0)
    for _ in range(10):
        writer.publish(name, b"x", qos=1)
    assert all("TopicAlias" not in reader.receive().properties for _ in range(10))


def test_an_alias_does_not_outlive_its_connection(broker, name, connect):
    writer = connect(broker, name, clean=False, SessionExpiryInterval=60)
    writer.publish(name, b"x", qos=0, TopicAlias=1)
    writer.disconnect()
    writer.connect(clean=False, SessionExpiryInterval=60)
    writer.publish("", b"x", qos=1, wait=False, TopicAlias=1)
    told = writer.disconnected()
    assert (told and told.reason) == 0x82


def test_an_alias_above_the_maximum_is_refused(broker, name, connect):
    writer = connect(broker)
    maximum = writer.connack.properties["TopicAliasMaximum"]
    writer.publish(name, b"x", qos=1, wait=False, TopicAlias=maximum + 1)
    assert writer.disconnected().reason == 0x94
