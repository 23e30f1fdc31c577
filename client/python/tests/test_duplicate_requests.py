"""Requests that come twice are carried out once."""

import objects
import pytest
import support

import rantai

KEY = b"0123456789abcdef"


@pytest.fixture
def ask(wire, name, node):
    node.serve(objects.Slow(), name)
    wire.subscribe(f"rantai/reply/{name}/wire")

    def ask(payload, key=KEY, method="wait"):
        wire.publish(
            f"rantai/call/{name}/{method}", payload, response_topic=f"rantai/reply/{name}/wire", correlation=key
        )

    return ask


def test_a_repeat_of_a_finished_call_gets_its_reply_again(ask, wire, client, name):
    ask(b"[0]")
    first = wire.next()
    ask(b"[0]")
    again = wire.next()
    assert first.payload == again.payload and first.properties.get("dup") is None and again.properties.get("dup") == "1"
    assert client[name].counts()["started"] == 1


def test_a_repeat_of_a_running_call_attaches_to_it(ask, wire, client, name):
    ask(b"[1.5]")
    ask(b"[1.5]")
    assert wire.next().properties.get("status") == "ok"
    wire.none_within(0.5)
    assert client[name].counts()["started"] == 1


def test_another_request_of_the_same_identity_is_refused(ask, wire, client, name):
    ask(b"[0]")
    wire.next()
    ask(b"[0.0]")
    assert wire.next().properties.get("status") == "-32014"
    ask(b"", method="counts")
    assert wire.next().properties.get("status") == "-32014"


def test_a_short_correlation_identifies_nothing(ask, wire, client, name):
    for _ in range(2):
        ask(b"[0]", key=b"short")
        assert wire.next().properties.get("dup") is None
    assert client[name].counts()["started"] == 2


def test_a_caller_names_an_identity_of_its_own(client, node, name):
    node.serve(objects.Slow(), name)
    proxy = client[name](identity=KEY, node=node.id)
    assert proxy.wait(0) == proxy.wait(0)
    assert client[name].counts()["started"] == 1
    with pytest.raises(rantai.IdentityReused):
        proxy.wait(0.01)
    with pytest.raises(ValueError):
        client[name](identity=b"short")


def test_a_correlation_of_more_than_64_bytes_is_ignored_and_counted(ask, wire, client, name):
    ask(b"[0]", key=b"x" * 65)
    ask(b"[0]", key=b"x" * 64)
    assert wire.next().properties.correlation == b"x" * 64
    assert client[name].method("rpc.stats")()["refused"]["no_reply_topic"] == 1


def test_a_retained_request_is_an_old_copy(broker, node, name, wire, client):
    wire.publish(f"rantai/call/{name}/wait", b"[0]", retain=True)
    wire.publish(f"rantai/at/{node.id}/{name}/wait", b"[0]", retain=True)
    node.serve(objects.Slow(), name)
    assert client[name].counts()["started"] == 0
    wire.publish(f"rantai/call/{name}/wait", b"", retain=True)
    wire.publish(f"rantai/at/{node.id}/{name}/wait", b"", retain=True)
    support.eventually(lambda: client[name].method("rpc.ping")() == "pong")
