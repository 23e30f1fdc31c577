"""Topic names and filters."""

import re

import pytest

from clients import pub, sub

FILTERS = {
    "sport/tennis/player1": {"sport/tennis/player1", "sport/tennis/+", "sport/tennis/#", "sport/#", "#", "+/+/+"},
    "sport/tennis": {"sport/+", "sport/tennis/#", "sport/#", "#", "+/+"},
    "sport": {"sport/#", "+", "#"},
    "/finance": {"/finance", "/+", "+/+", "#", "/#", "+/finance"},
    "a//b": {"a//b", "a/+/b", "#", "+/+/+", "a/#"},
    "a/": {"a/", "a/+", "a/#", "+/+", "#"},
    "/": {"/", "+/+", "/+", "/#", "#"},
    "Sport": {"Sport", "+", "#"},
    "white space ": {"white space ", "+", "#"},
}


@pytest.mark.parametrize("version", [4, 5])
def test_exactly_the_matching_filters_get_a_message(broker, name, connect, version):
    """Below a level of the test's own, one subscriber for each filter of the table."""
    readers = {wanted: connect(broker, version=version) for wanted in sorted(set().union(*FILTERS.values()))}
    writer = connect(broker, version=version)
    for wanted, reader in readers.items():
        reader.subscribe(f"{name}/{wanted}", f"{name}end", qos=1)
    for topic in FILTERS:
        writer.publish(f"{name}/{topic}", b"x", qos=1)
    writer.publish(f"{name}end", b"end", qos=1)
    for wanted, reader in readers.items():
        got = [m.topic.removeprefix(f"{name}/") for m in reader.receive_until(b"end")]
        assert got == [topic for topic, matching in FILTERS.items() if wanted in matching], wanted


@pytest.mark.mosquitto_tools
def test_a_multi_level_wildcard_matches_its_parent(broker, name, subscriber):
    reader = subscriber(broker, "-t", f"{name}/#", "-C", 2, "-F", "%t")
    pub(broker, "-t", name, "-m", "x")
    pub(broker, "-t", f"{name}/child", "-m", "x")
    assert reader.lines() == [name, f"{name}/child"]


TOPICS = ["é/x", "日本/東京", "🚲/lane", "\ufeffbom", "a b/c d", "x" * 10_000, "/", "//", "a/b/c/d/e/f/g/h/i/j", "🇮🇩", "%s/%n"]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("topic", TOPICS, ids=[ascii(topic[:12]) for topic in TOPICS])
def test_any_topic_that_the_standard_allows(broker, connect, topic, version):
    reader, writer, other = connect(broker, version=version), connect(broker, version=version), connect(broker)
    other.subscribe("#", qos=1, handling=2)
    assert reader.subscribe(topic, qos=1) == [1]
    assert writer.publish(topic, topic, qos=1).reason == 0
    for client in (reader, other):
        got = client.receive()
        assert (got.topic, got.payload) == (topic, topic.encode())


@pytest.mark.mosquitto_tools
def test_mosquitto_clients_with_unicode(broker, subscriber):
    reader = subscriber(broker, "-t", "température/+/été", "-C", 1, "-v")
    pub(broker, "-t", "température/café/été", "-m", "39 °C")
    assert reader.lines() == ["température/café/été 39 °C"]


@pytest.mark.mosquitto_tools
def test_wildcards_leave_the_broker_s_topics_alone(broker, connect):
    reader = connect(broker)
    reader.subscribe("#", "+/broker/#", "+/#", qos=0, handling=2)
    # Two updates' time: $SYS is published every second.
    sub(broker, "-t", "$SYS/broker/uptime", "-C", 3, "-W", 8)
    pub(broker, "-t", "unrelated", "-q", 1, "-m", "end")
    assert not [m.topic for m in reader.receive_until(b"end") if m.topic.startswith("$")]


SYS = [
    ("version", r"\S+ version \S+"),
    ("uptime", r"\d+ seconds"),
    ("clients/connected", r"[1-9]\d*"),
    ("clients/total", r"[1-9]\d*"),
    ("messages/received", r"[1-9]\d*"),
    ("messages/sent", r"[1-9]\d*"),
    ("bytes/received", r"[1-9]\d*"),
    ("bytes/sent", r"[1-9]\d*"),
    ("retained messages/count", r"[1-9]\d*"),
    ("subscriptions/count", r"[1-9]\d*"),
    ("publish/messages/dropped", r"\d+"),
    ("publish/messages/received", r"\d+"),
    ("publish/messages/sent", r"\d+"),
]


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize(("topic", "pattern"), SYS, ids=[topic for topic, _ in SYS])
def test_the_broker_reports_on_itself(broker, name, connect, topic, pattern):
    if topic == "publish/messages/dropped" and broker.kind == "mosquitto":
        pytest.skip("mosquitto tells it once it has dropped a message")
    pub(broker, "-t", name, "-q", 1, "-r", "-m", "retained")
    reader = connect(broker)
    reader.subscribe(f"$SYS/broker/{topic}", "$SYS/broker/#", qos=0)
    # As many as two rounds of $SYS bring, whoever's it is.
    seen = []
    for _ in range(300):
        got = reader.receive()
        if got.topic == f"$SYS/broker/{topic}" and re.fullmatch(pattern, got.payload.decode()):
            return
        seen.append((got.topic, got.payload))
    pytest.fail(f"$SYS/broker/{topic} never is {pattern}: {seen}")
