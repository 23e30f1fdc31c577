"""Deadlines, identity, instances and built-in methods, from the outside."""

import math

import pytest

from nodes import city

#: 16 bytes or more make an identity; each test has its own.
LONG = "0123456789abcdef"


def identity(name):
    return f"{name}-{LONG}".encode()


# Deadlines


def test_past_its_deadline_a_call_is_not_answered(caller):
    caller.send("echo/delay", '[400,"late"]', user={"ttl_ms": "150"})
    caller.send("echo/delay", '[1200,"late"]', MessageExpiryInterval=1)
    caller.send("echo/delay", '[1200,"late"]', MessageExpiryInterval=1, user={"ttl_ms": "60000"})
    caller.send("echo/delay", '[400,"late"]', MessageExpiryInterval=60, user={"ttl_ms": "150"})
    late = {"jsonrpc": "2.0", "id": 1, "method": "delay", "params": [400, "late"], "ttl_ms": 150}
    caller.send("echo", late)
    caller.silence("echo/delay", '[1800,"over"]')


def test_within_its_deadline_a_call_is_answered(caller):
    assert caller.call("echo/delay", '[200,"x"]', user={"ttl_ms": "5000"}).result == "x"
    assert caller.call("echo/delay", '[200,"x"]', MessageExpiryInterval=5).result == "x"
    sent = {"jsonrpc": "2.0", "id": 1, "method": "delay", "params": [200, "x"], "ttl_ms": 5000}
    assert caller.call("echo", sent).json["result"] == "x"


def test_no_time_left_at_all(caller):
    before = caller.calls("echo/echo")
    caller.send("echo/echo", "1", user={"ttl_ms": "0"})
    caller.silence("echo/rpc.ping", "")
    assert caller.calls("echo/echo") == before


@pytest.mark.parametrize("ttl", ["soon", "", "-1", "1.5", "1e3", " 5", "5 ", "0x10", "9" * 30])
def test_a_malformed_deadline(caller, ttl):
    before = caller.calls("echo/echo")
    error = caller.call("echo/echo", "1", user={"ttl_ms": ttl}).error
    assert (error["code"], error["data"]["path"]) == (-32602, "ttl_ms")
    assert caller.calls("echo/echo") == before


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, 30_000),
        ({"user": {"ttl_ms": "5000"}}, 5_000),
        ({"user": {"ttl_ms": "7300"}}, 7_300),
        ({"MessageExpiryInterval": 9}, 9_000),
        ({"MessageExpiryInterval": 9, "user": {"ttl_ms": "60000"}}, 9_000),
        ({"MessageExpiryInterval": 90, "user": {"ttl_ms": "6000"}}, 6_000),
        ({"user": {"ttl_ms": "36000000"}}, 3_600_000),
        ({"MessageExpiryInterval": 36_000}, 3_600_000),
    ],
)
def test_what_remains_is_passed_on(bus, caller, connect, options, left):
    spy = connect(bus)
    spy.subscribe(f"rantai/call/{city('lembang')}/process", qos=1)
    caller.call(f"{city('bandung')}/process", "lembang", **options)
    message = spy.receive()
    told = int(dict(message.properties["UserProperty"])["ttl_ms"])
    assert left - 2000 < told <= left
    assert message.properties["MessageExpiryInterval"] in (math.ceil(told / 1000), math.ceil(told / 1000) - 1)


# Identity


def test_a_repeated_request_gets_the_same_reply(caller, name):
    before = caller.calls("echo/echo")
    first = caller.call("echo/echo", '["once"]', CorrelationData=identity(name))
    again = caller.call("echo/echo", '["once"]', CorrelationData=identity(name))
    assert first.user == {"status": "ok", "node": "workshop"}
    assert again.user == {"status": "ok", "node": "workshop", "dup": "1"}
    assert again.payload == first.payload == b'"once"'
    assert caller.calls("echo/echo") == before + 1


def test_a_repeated_error_is_the_same_error(caller, name):
    before = caller.calls("calculator/div")
    replies = [caller.call("calculator/div", "[1,0]", CorrelationData=identity(name)) for _ in range(2)]
    assert [reply.code for reply in replies] == [-32000, -32000]
    assert ["dup" in reply.user for reply in replies] == [False, True]
    assert caller.calls("calculator/div") == before + 1


@pytest.mark.parametrize(("target", "payload"), [("echo/echo", "2"), ("echo/delay", "1")])
def test_an_identity_with_another_request(caller, name, target, payload):
    assert caller.call("echo/echo", "1", CorrelationData=identity(name)).result == 1
    before = caller.calls(target)
    assert caller.call(target, payload, CorrelationData=identity(name)).code == -32014
    assert caller.calls(target) == before


def test_a_shorter_correlation_is_no_identity(caller):
    before = caller.calls("echo/echo")
    for payload in ("1", "1", "2"):
        reply = caller.call("echo/echo", payload, CorrelationData=LONG[:15].encode())
        assert (reply.result, "dup" in reply.user) == (int(payload), False)
    assert caller.calls("echo/echo") == before + 3


def test_sixteen_bytes_are_an_identity(caller, name):
    correlation = f"{name}-{LONG}"[:16].encode()
    assert len(correlation) == 16
    assert ["dup" in caller.call("echo/echo", "1", CorrelationData=correlation).user for _ in range(2)] == [False, True]


def test_an_id_is_an_identity(caller, name):
    sent = {"jsonrpc": "2.0", "id": identity(name).decode(), "method": "echo", "params": [1]}
    before = caller.calls("echo/echo")
    dups = []
    for _ in range(2):
        caller.send("echo", sent)
        reply = caller.receive()
        assert reply.json["result"] == 1
        dups.append(reply.user.get("dup"))
    assert dups == [None, "1"]
    caller.send("echo", {**sent, "params": [2]})
    assert caller.receive().json["error"]["code"] == -32014
    assert caller.calls("echo/echo") == before + 1


def test_the_reply_topic_belongs_to_the_identity(make_caller, name):
    one, other = make_caller(), make_caller()
    assert one.call("echo/echo", "1", CorrelationData=identity(name)).result == 1
    reply = other.call("echo/echo", "2", CorrelationData=identity(name))
    assert (reply.result, "dup" in reply.user) == (2, False)


def test_the_number_of_trail_items_belongs_to_the_identity(caller, name):
    for trail in ("[]", '[{"node":"a","us":1}]', '[{"node":"a","us":1},{"node":"b","us":1}]'):
        reply = caller.call("echo/echo", "1", CorrelationData=identity(name), user={"trail": trail})
        assert (reply.result, "dup" in reply.user) == (1, False)
    reply = caller.call("echo/echo", "1", CorrelationData=identity(name), user={"trail": '[{"node":"c","us":2}]'})
    assert reply.user["dup"] == "1"


def test_a_large_reply_is_not_kept(caller, name):
    kept, large = "k" * 4094, "l" * 4200
    assert caller.call("echo/echo", large, CorrelationData=identity(name)).result == large
    assert caller.call("echo/echo", large, CorrelationData=identity(name)).code == -32014
    for dup in (False, True):
        reply = caller.call("echo/echo", kept, CorrelationData=identity(f"{name}-kept"))
        assert (reply.result, "dup" in reply.user) == (kept, dup)


def test_a_repeat_attaches_to_the_running_call(caller, name):
    before = caller.calls("echo/delay")
    for _ in range(3):
        caller.send("echo/delay", '[1000,"x"]', CorrelationData=identity(name))
    reply = caller.receive()
    assert (reply.result, reply.correlation) == ("x", identity(name))
    after = caller.call("echo/delay", '[1000,"x"]', CorrelationData=identity(name))
    assert (after.result, after.user["dup"]) == ("x", "1")
    assert caller.calls("echo/delay") == before + 1


# Instances


def test_at_reaches_one_node(caller):
    assert caller.call("workshop/echo/echo", "1", via="at").result == 1
    sent = {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": ["x"]}
    assert caller.call("workshop/echo", sent, via="at").json == {"jsonrpc": "2.0", "id": 1, "result": "x"}


@pytest.mark.parametrize("node", ["bandung", "lembang", "subang"])
def test_at_a_node_without_the_object(caller, node):
    reply = caller.call(f"{node}/echo/echo", "1", via="at")
    assert (reply.code, reply.node) == (-32003, node)


def test_at_nobody(caller):
    assert caller.send("nobody/echo/echo", "1", via="at").reason == 0x10


def test_all_reaches_every_instance(caller):
    assert caller.call("echo/echo", "[[1]]", via="all").result == [1]
    sent = {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": ["x"]}
    assert caller.call("echo", sent, via="all").json["result"] == "x"


# Built-in methods


@pytest.mark.parametrize("object", ["echo", "calculator", "server", city("bandung"), city("subang")])
def test_ping(caller, object):
    assert caller.call(f"{object}/rpc.ping").result == "pong"


@pytest.mark.parametrize(("object", "node"), [("echo", "workshop"), ("calculator", "workshop"), (city("lembang"), "lembang")])
def test_info_is_the_registry_entry(caller, watch, object, node):
    topic = f"rantai/name/{object}/{node}"
    assert caller.call(f"{object}/rpc.info").result == watch(topic).value(topic)


def test_stats(caller):
    before = caller.stats("calculator")["methods"].get("div", {"calls": 0, "errors": 0})
    caller.call("calculator/div", "[1,2]")
    caller.call("calculator/div", "[1,0]")
    stats = caller.stats("calculator")
    div = stats["methods"]["div"]
    assert (div["calls"] - before["calls"], div["errors"] - before["errors"], div["in_flight"]) == (2, 1, 0)
    assert div["last_error"]["code"] == -32000
    assert 0 <= div["p50_us"] <= div["p99_us"]
    assert all(type(count) is int for count in stats["refused"].values())


def test_stats_tell_what_runs(caller, name):
    caller.send("echo/delay", "[10000]", CorrelationData=identity(name))
    assert caller.stats("echo")["methods"]["delay"]["in_flight"] == 1
    caller.send("echo/rpc.cancel", identity(name).hex(), via="all", CorrelationData=b"cancel")
    replies = {reply.correlation: reply for reply in (caller.receive(), caller.receive())}
    assert set(replies) == {b"cancel", identity(name)}
    assert replies[identity(name)].code == -32008
    assert replies[b"cancel"].status == "ok"
    assert caller.stats("echo")["methods"]["delay"]["in_flight"] == 0


@pytest.mark.parametrize("correlation", ["abcd", "zz" * 16, "0" * 30])
def test_cancel_wants_sixteen_bytes_in_hex(caller, correlation):
    assert caller.call("echo/rpc.cancel", f'"{correlation}"', via="all").code == -32602


@pytest.mark.parametrize(
    ("object", "methods"),
    [
        ("calculator", {"add": ["a", "b"], "sub": ["a", "b"], "mul": ["a", "b"], "div": ["a", "b"]}),
        ("echo", {"echo": ["message"], "bytes": ["data"], "delay": ["ms", "message"]}),
        ("server", {"welcomeMessage": ["name"]}),
    ],
)
def test_discover_is_an_openrpc_document(caller, object, methods):
    document = caller.call(f"{object}/rpc.discover").result
    assert document["openrpc"].startswith("1.")
    assert (document["info"]["title"], document["info"]["version"]) == (object, "1.0.0")
    described = {m["name"]: [p["name"] for p in m["params"]] for m in document["methods"]}
    assert described == methods
    for method in document["methods"]:
        assert "schema" in method["result"] and all("schema" in param for param in method["params"]), method
