"""Connections that are lost, refused, encrypted, and with users."""

import gc
import time

import objects
import pytest
import support

import rantai


def test_a_reconnect_repairs_the_registry_and_calls_go_on(tmp_path):
    broker = support.Broker("rantai", tmp_path)
    with rantai.Node(broker.url) as node, rantai.Client(broker.url) as client:
        node.serve(objects.Calc(), "py.calc")
        client["py.calc"].set(21.0)
        broker.kill()
        broker.start()
        client.wait_for("py.calc", support.PATIENCE)
        assert client["py.calc"].add(2, 3) == 5
        with client["py.calc"].events("changed") as events:
            # State of before, which the broker had lost.
            assert events.next(support.PATIENCE).value == 21
    broker.stop()


def test_a_call_that_is_sent_while_the_broker_is_away_waits_for_it(tmp_path):
    broker = support.Broker("rantai", tmp_path)
    with rantai.Node(broker.url) as node, rantai.Client(broker.url) as client:
        node.serve(objects.Replica(), "py.replica")
        broker.kill()
        support.eventually(lambda: not client._bus.connection.online)
        call = client["py.replica"](idempotent=True).counts.start()
        broker.start()
        try:
            assert call.result(support.PATIENCE)["started"] == 0
        except rantai.UnknownObject:
            # The caller was there before the node.
            client.wait_for("py.replica", support.PATIENCE)
    broker.stop()


def test_subscriptions_go_on_after_a_reconnect(tmp_path):
    broker = support.Broker("rantai", tmp_path)
    with rantai.Node(broker.url) as node, rantai.Client(broker.url) as client:
        node.serve(objects.Calc(), "py.calc")
        with client["py.calc"].events("noted") as events:
            broker.kill()
            broker.start()
            client.wait_for("py.calc", support.PATIENCE)
            client["py.calc"].note("again")
            assert events.next(support.PATIENCE).value == "again"
    broker.stop()


def test_a_broker_that_is_not_there_is_told():
    url = f"mqtt://127.0.0.1:{support.free_port()}"
    began = time.monotonic()
    with pytest.raises(rantai.ConnectError, match=f"cannot connect to {url}.*refused"):
        rantai.Client(url, timeout=1.0)
    assert time.monotonic() - began < 20
    for wrong in ("http://localhost", "mqtt://", "mqtt://host:port"):
        with pytest.raises(ValueError):
            rantai.Client(wrong)


def test_the_next_address_is_tried(own_broker):
    url = f"mqtt://127.0.0.1:{support.free_port()},{own_broker.url}"
    with rantai.Client(url) as client, pytest.raises(rantai.UnknownObject):
        client["py.nobody"].x()


USERS = """
[[listeners]]
protocol = "tcp"
address = "127.0.0.1:{port}"

[[listeners]]
protocol = "tls"
address = "127.0.0.1:{tls}"
certificate = "{folder}/server.pem"
key = "{folder}/server.key"

[[listeners]]
protocol = "wss"
address = "127.0.0.1:{wss}"
certificate = "{folder}/server.pem"
key = "{folder}/server.key"

[[users]]
name = "ada"
password = "{ada}"
roles = ["caller"]

[[users]]
name = "pi"
password = "{pi}"
roles = ["node"]

[[users]]
name = "eve"
password = "{eve}"
roles = ["observer"]
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A broker with users and TLS; its address by protocol, and the file of the authority."""
    folder = tmp_path_factory.mktemp("secure")
    support.certificates(folder)
    ports = {"port": support.free_port(), "tls": support.free_port(), "wss": support.free_port()}
    hashes = {user: support.password_hash(f"{user}-secret") for user in ("ada", "pi", "eve")}
    broker = support.Broker("rantai", folder, USERS.format(folder=folder, **ports, **hashes), ports["port"])
    yield {
        "mqtt": broker.url,
        "mqtts": f"mqtts://127.0.0.1:{ports['tls']}",
        "wss": f"wss://127.0.0.1:{ports['wss']}/mqtt",
        "ca": str(folder / "ca.pem"),
    }
    broker.stop()


@pytest.mark.parametrize("protocol", ["mqtt", "mqtts", "wss"])
def test_users_log_in_and_objects_know_who_calls(secure, protocol, name):
    ca = secure["ca"] if protocol != "mqtt" else None
    with rantai.Node(secure[protocol], user="pi", password="pi-secret", ca=ca) as node:
        assert node.id.startswith("pi--")
        node.serve(objects.Echo(), name)
        node.serve(objects.Numbers(), f"{name}.numbers")
        with rantai.Client(secure[protocol], user="ada", password="ada-secret", ca=ca) as client:
            assert client.id.startswith("ada--")
            assert client[name].caller() == "ada"
            assert client[name].say("x" * 100_000) == "x" * 100_000
            assert list(client[f"{name}.numbers"].count.stream(20_000)) == list(range(20_000))
            items = client[f"{name}.numbers"].count.stream(10_000_000)
            assert next(items) == 0
            items.close()
            support.eventually(lambda: client[f"{name}.numbers"].state()["closed"] == 2)


def test_what_the_rules_do_not_allow_is_denied(secure, name):
    with rantai.Node(secure["mqtt"], user="pi", password="pi-secret") as node:
        node.serve(objects.Echo(), name)
        with rantai.Client(secure["mqtt"], user="eve", password="eve-secret") as client:
            with pytest.raises(rantai.Denied):
                client[name].say("x")
    # The will is the state of a node, which callers may not write.
    with pytest.raises(rantai.ConnectError, match="no rule of user ada allows writing rantai/node"):
        rantai.Node(secure["mqtt"], user="ada", password="ada-secret")


# The MQTT library leaves a socket to the garbage collector whose TLS handshake has failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_password_and_an_unknown_authority_are_told(secure):
    with pytest.raises(rantai.ConnectError, match="check user and password"):
        rantai.Client(secure["mqtt"], user="ada", password="wrong")
    with pytest.raises(rantai.ConnectError, match="certificate verify failed"):
        rantai.Client(secure["mqtts"], user="ada", password="ada-secret", timeout=3.0)
    with pytest.raises(rantai.ConnectError, match="cannot read the authorities"):
        rantai.Client(secure["mqtts"], ca="/no/such/file")
    gc.collect()
