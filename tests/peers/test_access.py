"""User names and passwords, and the sender's name that a receiver gets."""

import pytest

from clients import pub, sub
from differences import expected

USERS = {"ada": "s3cret", "grâce": "pässwörd €"}


@pytest.mark.parametrize("version", [4, 5])
def test_users_log_in_with_their_passwords(start_broker, client, version):
    broker = start_broker(users=USERS)
    for user in USERS.items():
        assert client(broker, version=version, user=user).connect().reason == 0
    bad, nobody = client(broker, version=version, user=("ada", "wrong")), client(broker, version=version)
    unknown = client(broker, version=version, user=("eve", "s3cret"))
    for stranger, case in ((bad, "wrong"), (unknown, "wrong"), (nobody, "anonymous")):
        stranger.connect()
        assert _connack_code(stranger) == expected(broker, f"connack-{case}-{version}")


def _connack_code(client):
    """Returns the code on the wire: paho converts the codes of 3.1.1 to those of 5."""
    return client.tap.wait(True, 2).body[1]


@pytest.mark.mosquitto_tools
def test_mosquitto_clients_log_in(start_broker, name):
    broker = start_broker(users=USERS)
    login = ["-u", "ada", "-P", "s3cret"]
    pub(broker, *login, "-t", name, "-q", 1, "-r", "-m", "x")
    assert sub(broker, *login, "-t", name, "-C", 1) == b"x\n"
    pub(broker, "-u", "ada", "-P", "wrong", "-t", name, "-m", "x", code=expected(broker, "connack-wrong-4"))
    pub(broker, "-V", "5", "-t", name, "-m", "x", code=expected(broker, "connack-anonymous-5"))


def test_one_log_line_per_connect_and_refusal(start_broker, client):
    broker = start_broker(users=USERS)
    client(broker, "welcome-7", user=("ada", "s3cret")).connect()
    broker.wait_for_log("welcome-7")
    client(broker, "stranger-9", user=("ada", "no")).connect()
    broker.wait_for_log(expected(broker, "refusal-log-line"))
    assert not any("s3cret" in line for line in broker.log)


def test_a_user_name_is_free_where_nobody_is_configured(start_broker, connect):
    broker = start_broker(users={})
    assert connect(broker, user=("anybody", "anything")).connack.reason == 0


def test_the_caller_below_a_root(start_broker, name, connect):
    """Below the root of a bus, the broker replaces the sender's `caller` [MQTT-3.3.2-17]."""
    broker = start_broker(users=USERS, bus_roots=["bus"])
    reader = connect(broker, user=("ada", "s3cret"))
    reader.subscribe("bus/call/+", "open", qos=1)
    writer = connect(broker, user=("grâce", USERS["grâce"]))
    sent = [("before", "1"), ("caller", "ada"), ("after", "2")]
    writer.publish("bus/call/x", b"x", qos=1, UserProperty=sent)
    got = reader.receive().properties["UserProperty"]
    assert [pair for pair in got if pair[0] != "caller"] == [("before", "1"), ("after", "2")]
    assert [value for key, value in got if key == "caller"] == [expected(broker, "caller")]
    writer.publish("open", b"x", qos=1, UserProperty=sent)
    assert reader.receive().properties["UserProperty"] == sent
