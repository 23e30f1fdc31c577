"""Options of mosquitto_sub and mosquitto_pub that no other test covers."""

import json

import pytest

from brokers import ADMIN
from clients import Process, pub, run, sub

pytestmark = pytest.mark.mosquitto_tools


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_json_output(broker, name, subscriber, version):
    reader = subscriber(broker, "-V", version, "-t", name, "-q", 1, "-C", 1, "-F", "%j")
    properties = ["-D", "publish", "content-type", "text/x"] if version == "mqttv5" else []
    pub(broker, "-V", version, "-t", name, "-q", 1, "-m", 'a "quoted" é', *properties)
    got = json.loads(reader.output())
    assert (got["topic"], got["qos"], got["retain"], got["payload"]) == (name, 1, 0, 'a "quoted" é')
    if properties:
        assert got["properties"] == {"content-type": "text/x"}


def test_hexadecimal_and_padded_output(broker, name, subscriber):
    reader = subscriber(broker, "-t", name, "-C", 1, "-F", "%x|%X|%l|%10t|%%|@@")
    pub(broker, "-t", name, "-m", "Zz")
    assert reader.lines() == [f"5a7a|5A7A|2|{name:>10}|%|@"]


def test_verbose_output(broker, name):
    pub(broker, "-t", name, "-q", 1, "-r", "-m", "x")
    assert sub(broker, "-t", name, "-C", 1, "-v") == f"{name} x\n".encode()


def test_several_topics_and_a_filter_out(broker, name, subscriber):
    reader = subscriber(broker, "-t", f"{name}/+", "-t", f"{name}/a/b", "-T", f"{name}/no", "-C", 2, "-F", "%t")
    for topic in ("no", "yes", "a/b"):
        pub(broker, "-t", f"{name}/{topic}", "-m", "x")
    assert reader.lines() == [f"{name}/yes", f"{name}/a/b"]


def test_unsubscribe_at_start(broker, name):
    login = ["-i", name, "-c", "-q", 1]
    sub(broker, *login, "-t", f"{name}/a", "-t", f"{name}/b", "-E")
    assert sub(broker, *login, "-t", f"{name}/c", "-U", f"{name}/a", "-W", 1, code=27) == b""
    for topic in "ab":
        pub(broker, "-t", f"{name}/{topic}", "-q", 1, "-m", topic)
    assert sub(broker, *login, "-t", f"{name}/c", "-C", 1) == b"b\n"


def test_a_timeout(broker, name):
    assert sub(broker, "-t", name, "-W", 1, code=27) == b""


def test_only_retained_messages(broker, name):
    for topic in "abc":
        pub(broker, "-t", f"{name}/{topic}", "-q", 1, "-r", "-m", topic)
    reader = Process("mosquitto_sub", broker, "-t", f"{name}/+", "-q", 1, "--retained-only")
    try:
        # It ends at the first message that is not retained.
        pub(broker, "-t", f"{name}/d", "-q", 1, "-m", "live")
        assert sorted(reader.lines()) == ["a", "b", "c"]
    finally:
        reader.close()


def test_no_stale_messages(broker, name, subscriber):
    pub(broker, "-t", name, "-q", 1, "-r", "-m", "stale")
    reader = subscriber(broker, "-t", name, "-q", 1, "-R", "-C", 1)
    pub(broker, "-t", name, "-q", 1, "-m", "fresh")
    assert reader.lines() == ["fresh"]


def test_retained_messages_are_removed(broker, name):
    for topic in "abc":
        pub(broker, "-t", f"{name}/{topic}", "-q", 1, "-r", "-m", topic)
    got = sub(broker, "-t", f"{name}/+", "-T", f"{name}/b", "--remove-retained", "--retained-only", "-W", 1, code=27)
    assert sorted(got.split()) == [b"a", b"c"]
    assert sub(broker, "-t", f"{name}/+", "-W", 1, code=27) == b"b\n"


@pytest.mark.tcp("what mosquitto knows as a URL is that of a host")
def test_an_address_as_a_url(broker, name):
    pub(broker, "-t", f"{name}/x", "-q", 1, "-r", "-m", "by address")
    got = run("mosquitto_sub", broker, "-L", f"{broker.url(ADMIN)}/{name}/x", "-C", 1)
    assert got == b"by address\n"


def test_a_client_id_prefix(broker, name, connect):
    pub(broker, "-I", name, "-t", name, "-q", 2, "-m", "x")
    broker.wait_for_log(name)


def test_properties_at_every_step(broker, name):
    pairs = ["user-property", "k", "v"]
    sub(
        *(broker, "-V", "5", "-i", name, "-t", name, "-U", f"{name}/x", "-q", 1, "-E"),
        *("-D", "connect", *pairs, "-D", "connect", "request-problem-information", 0),
        *("-D", "connect", "request-response-information", 1, "-D", "connect", "topic-alias-maximum", 10),
        *("-D", "subscribe", *pairs, "-D", "unsubscribe", *pairs),
        *("-D", "disconnect", *pairs, "-D", "disconnect", "session-expiry-interval", 0),
    )


def test_a_will_with_properties(broker, name, subscriber, connect):
    reader = connect(broker)
    reader.subscribe(name, qos=1)
    dying = subscriber(
        *(broker, "-V", "5", "-t", f"{name}/x", "--will-topic", name, "--will-payload", "gone", "--will-qos", 1),
        *("-D", "will", "user-property", "k", "v", "-D", "will", "content-type", "t"),
        *("-D", "will", "message-expiry-interval", 50, "-D", "will", "will-delay-interval", 0),
    )
    dying.kill()
    got = reader.receive()
    assert got.payload == b"gone"
    assert got.properties["UserProperty"] == [("k", "v")] and got.properties["ContentType"] == "t"
