"""mosquitto as a bridge to another broker, with its defaults: messages go in both directions, each of them once.
Regression: our broker refused the bridge, because its protocol level has an additional bit, and its will is on a topic
below $SYS."""

import pytest

import brokers
from clients import Process, pub, sub
from tap import PATIENCE

pytestmark = pytest.mark.tcp("mosquitto bridges by TCP here")

STATE = "$SYS/broker/connection/+/state"


@pytest.fixture(params=["mqttv311", "mqttv31", "mqttv50"])
def bridge(request, start_broker, tmp_path):
    """A broker, a mosquitto, and `shared/#` bridged between them both ways; `mqttv311` is the default."""
    far = start_broker()
    user = far.login(brokers.ADMIN)
    login = [f"remote_username {user[0]}", f"remote_password {user[1]}"] if user else []
    version = [] if request.param == "mqttv311" else [f"bridge_protocol_version {request.param}"]
    lines = ["connection workshop", f"address 127.0.0.1:{far.port}", "topic shared/# both 1", *version, *login]
    directory = tmp_path / "near"
    directory.mkdir()
    near = brokers.Broker("mosquitto", directory, bridge=lines)
    try:
        # Its word that it is connected is retained there; before that it may be its will of an earlier try.
        while sub(far, "-t", STATE, "-C", 1, "-W", PATIENCE) != b"1\n":
            pass
        near.wait_for_log("Received SUBACK|SUBACK")
        yield far, near
    finally:
        near.kill()


def test_messages_go_both_ways_and_come_once(bridge, name):
    far, near = bridge
    topic = f"shared/{name}"
    for here, there in [(far, near), (near, far)]:
        readers = [Process("mosquitto_sub", broker, "-t", topic, "-q", 1, "-C", 3) for broker in bridge]
        try:
            for text in ["1", "2", "3"]:
                pub(here, "-t", topic, "-q", 1, "-m", text)
            # A message that came back would stand between them.
            assert [reader.lines() for reader in readers] == [["1", "2", "3"]] * 2
        finally:
            for reader in readers:
                reader.close()


def test_retained_messages_are_retained_on_the_other_side(bridge, name):
    far, near = bridge
    for here, there in [(far, near), (near, far)]:
        topic = f"shared/{name}/{here.port}"
        reader = Process("mosquitto_sub", there, "-t", topic, "-q", 1, "-C", 1)
        pub(here, "-t", topic, "-q", 1, "-r", "-m", "kept")
        assert reader.lines() == ["kept"]
        reader.close()
        assert sub(there, "-t", topic, "-C", 1, "--retained-only", "-W", PATIENCE) == b"kept\n"


def test_the_other_side_is_told_when_the_bridge_is_lost(bridge):
    far, near = bridge
    watcher = Process("mosquitto_sub", far, "-t", STATE, "-C", 2)
    near.process.kill()
    assert watcher.lines() == ["1", "0"]
    watcher.close()
