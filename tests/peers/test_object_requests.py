"""Requests and replies of the wire protocol, as a caller in another language writes and reads them."""

import json
import time

import pytest

from clients import rr
from differences import expected
from nodes import check_error, city

BINARY = "application/octet-stream"


# Plain form


@pytest.mark.parametrize(
    ("target", "payload", "result"),
    [
        ("calculator/add", "[2,3]", 5),
        ("calculator/sub", '{"a":2,"b":3}', -1),
        ("calculator/sub", '{"b":2,"a":3}', 1),
        ("calculator/mul", " [ 2.5 , 4 ] ", 10),
        ("calculator/div", "[1,4]", 0.25),
        ("calculator/rpc.ping", "", "pong"),
        ("calculator/rpc.ping", "[]", "pong"),
        ("calculator/rpc.ping", "{}", "pong"),
        ("echo/echo", "5", 5),
        ("echo/echo", "true", True),
        ("echo/echo", "null", None),
        ("echo/echo", '"text"', "text"),
        ("echo/echo", "[[1,[2]]]", [1, [2]]),
        ("echo/echo", '[["a","b"]]', ["a", "b"]),
        ("echo/echo", '[{"a":1}]', {"a": 1}),
        ("echo/echo", '{"message":{"a":1}}', {"a": 1}),
        ("echo/echo", "no JSON, a text", "no JSON, a text"),
        ("echo/echo", "grüße 🎉", "grüße 🎉"),
        ("echo/delay", '[0,"later"]', "later"),
        ("echo/delay", "[0]", None),
        ("echo/delay", "0", None),
        ("echo/delay", '{"ms":0,"message":[1]}', [1]),
    ],
)
def test_plain_parameters(caller, target, payload, result):
    reply = caller.call(target, payload)
    assert reply.result == result
    assert reply.user == {"status": "ok", "node": "workshop"}
    assert reply.topic == caller.reply_topic(target.split("/")[0])


@pytest.mark.parametrize("payload", ["{broken", " [1,", '["\\ud83d"]', '{"message":1,"message":2}', "[1e400]"])
def test_what_looks_like_json_and_is_none_is_refused(caller, payload):
    assert caller.call("echo/echo", payload).error["code"] == -32700


@pytest.mark.parametrize(
    ("payload", "title"),
    [
        ("Dune", "Dune"),
        ('"Dune"', "Dune"),
        ('["Dune"]', "Dune"),
        ('{"name":"Dune"}', "Dune"),
        ("1984", "1984"),
        ("1.50", "1.50"),
        ("-0", "-0"),
        ("true", "true"),
        ("false", "false"),
        ("null", "null"),
        ('"1984"', "1984"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("Negeri 5 Menara", "Negeri 5 Menara"),
    ],
)
def test_a_bare_value_is_text_where_text_is_wanted(caller, payload, title):
    reply = caller.call("server/welcomeMessage", payload)
    assert reply.result == f"Buku dengan judul {title} berhasil dibeli!"


def test_only_a_bare_number_is_text(caller):
    error = caller.call("server/welcomeMessage", "[1984]").error
    assert (error["code"], error["data"]["path"]) == (-32602, "name")


@pytest.mark.parametrize("data", [b"\x00\xff\xfe", b"", b"text", b"[1]", bytes(range(256)) * 300])
def test_binary_parameter_and_result(caller, data):
    reply = caller.call("echo/bytes", data, ContentType=BINARY)
    assert (reply.status, reply.payload) == ("ok", data)


def test_an_empty_payload_is_no_parameter_unless_it_is_binary(caller):
    assert caller.call("echo/bytes", b"").code == -32602
    assert caller.call("echo/bytes", b"", ContentType=BINARY).payload == b""


def test_binary_where_json_is_wanted(caller):
    assert caller.call("echo/echo", b"[1]", ContentType=BINARY).code == -32602


def test_null_is_a_reply_of_four_bytes(caller):
    assert caller.call("echo/echo", "null").payload == b"null"


# JSON-RPC


def request(method, **parts):
    return {"jsonrpc": "2.0", "method": method, **parts}


@pytest.mark.parametrize("id", [1, 0, -7, 9007199254740991, "one", "", "a" * 16])
def test_json_rpc_echoes_the_id(caller, id):
    reply = caller.call("calculator", request("add", id=id, params=[2, 3]))
    assert reply.json == {"jsonrpc": "2.0", "id": id, "result": 5}
    assert reply.user == {"status": "ok", "node": "workshop"}


@pytest.mark.parametrize(
    ("parts", "result"),
    [
        ({"method": "sub", "params": {"b": 2, "a": 3}}, 1),
        ({"method": "rpc.ping"}, "pong"),
        ({"method": "rpc.ping", "params": []}, "pong"),
    ],
)
def test_json_rpc_parameters(caller, parts, result):
    assert caller.call("calculator", {"jsonrpc": "2.0", "id": 1, **parts}).json["result"] == result


@pytest.mark.parametrize(
    ("payload", "code", "id"),
    [
        ("{", -32700, None),
        ("", -32700, None),
        (b"\xff\xfe", -32700, None),
        ('"text"', -32600, None),
        ("[]", -32600, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}]', -32600, None),
        ('{"jsonrpc":"2.0","id":3}', -32600, 3),
        ('{"jsonrpc":"2.0","id":3,"method":5}', -32600, 3),
        ('{"jsonrpc":"1.0","id":3,"method":"add","params":[1,2]}', -32600, 3),
        ('{"jsonrpc":"2.0","id":"x","method":"add","params":5}', -32600, "x"),
        ('{"jsonrpc":"2.0","id":"x","method":"nothing"}', -32601, "x"),
        ('{"jsonrpc":"2.0","id":"x","method":"add","params":[1]}', -32602, "x"),
        ('{"jsonrpc":"2.0","id":"x","method":"div","params":[1,0]}', -32000, "x"),
        ('{"jsonrpc":"2.0","id":"x","method":"add","params":[1,2],"ttl_ms":"soon"}', -32602, "x"),
        ('{"jsonrpc":"2.0","id":"x","method":"add","params":[1,2],"ttl_ms":-1}', -32602, "x"),
    ],
)
def test_json_rpc_errors(caller, payload, code, id):
    reply = caller.call("calculator", payload)
    answer = reply.json
    assert (set(answer), answer["jsonrpc"], answer["id"]) == ({"jsonrpc", "id", "error"}, "2.0", id)
    check_error(answer["error"])
    assert (answer["error"]["code"], reply.status) == (code, str(code))


def test_a_notification_is_executed_and_not_answered(caller):
    before = caller.calls("calculator/add")
    caller.send("calculator", request("add", params=[1, 2]))
    caller.send("calculator", request("nothing"))
    caller.silence()
    assert caller.calls("calculator/add") == before + 1


@pytest.mark.open_bus
def test_json_rpc_reply_to(caller):
    sent = request("add", id=4, params=[1, 2], reply_to=caller.reply_topic("elsewhere"))
    reply = caller.call("calculator", sent, reply=False)
    assert (reply.topic, reply.json["result"]) == (caller.reply_topic("elsewhere"), 3)


def test_the_response_topic_wins_over_reply_to(caller):
    sent = request("add", id=4, params=[1, 2], reply_to=caller.reply_topic("elsewhere"))
    assert caller.call("calculator", sent).topic == caller.reply_topic("calculator")


# Callers of MQTT 3.1.1, and the programs of mosquitto


@pytest.fixture
def old(bus, connect):
    """A client of MQTT 3.1.1, subscribed to the public reply topics."""

    def subscribed(*filters):
        client = connect(bus, version=4)
        assert client.subscribe(*filters, qos=1) == [1] * len(filters)
        return client

    return subscribed


@pytest.mark.open_bus
def test_a_3_1_1_caller_is_answered_on_the_objects_topic(old):
    client = old("rantai/reply/calculator")
    client.publish("rantai/call/calculator/add", "[2,3]", qos=1)
    message = client.receive()
    assert (message.topic, message.payload, message.qos, message.retain) == ("rantai/reply/calculator", b"5", 1, False)
    client.publish("rantai/call/calculator/add", "[2]", qos=1)
    error = json.loads(client.receive().payload)["error"]
    check_error(error)
    assert (error["code"], error["data"]["path"]) == (-32602, "b")


@pytest.mark.open_bus
def test_a_3_1_1_caller_names_its_reply_topic(old):
    client = old("rantai/reply/+/old-one")
    sent = request("add", id="first", params={"a": 2, "b": 3}, reply_to="rantai/reply/calculator/old-one", ttl_ms=5000)
    client.publish("rantai/call/calculator", json.dumps(sent), qos=1)
    message = client.receive()
    assert message.topic == "rantai/reply/calculator/old-one"
    assert json.loads(message.payload) == {"jsonrpc": "2.0", "id": "first", "result": 5}


@pytest.mark.open_bus
def test_a_3_1_1_caller_of_a_chain(old):
    client = old(f"rantai/reply/{city('bandung')}")
    client.publish(f"rantai/call/{city('bandung')}/process", "subang", qos=1)
    result = ["telah melewati bandung", "telah melewati lembang", "selesai pada subang"]
    assert json.loads(client.receive().payload) == result
    sent = request("process", id=9, params=["lembang"])
    client.publish(f"rantai/call/{city('bandung')}", json.dumps(sent), qos=1)
    answer = json.loads(client.receive().payload)
    assert answer == {"jsonrpc": "2.0", "id": 9, "result": ["telah melewati bandung", "selesai pada lembang"]}


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["-t", "rantai/call/calculator/add", "-e", "rantai/reply/calculator/me", "-m", "[2,3]"], b"5\n"),
        pytest.param(
            ["-V", "mqttv311", "-t", "rantai/call/calculator/add", "-e", "rantai/reply/calculator", "-m", "[2,3]"],
            b"5\n",
            marks=pytest.mark.open_bus,
        ),
        (
            ["-t", "rantai/call/example.chainTopology.bandung/process", "-e", "rantai/reply/chain/me", "-m", "hello"],
            b'["telah melewati bandung","telah melewati lembang","telah melewati subang","selesai pada bandung"]\n',
        ),
        (
            ["-t", "rantai/call/server/welcomeMessage", "-e", "rantai/reply/server/me", "-m", "1984"],
            '"Buku dengan judul 1984 berhasil dibeli!"\n'.encode(),
        ),
        (["-t", "rantai/call/calculator/rpc.ping", "-e", "rantai/reply/calculator/me", "-n"], b'"pong"\n'),
    ],
)
def test_mosquitto_rr(bus, arguments, printed):
    assert rr(bus, "-W", 10, *arguments) == printed


@pytest.mark.mosquitto_tools
@pytest.mark.parametrize("looks_on", [False, pytest.param(True, marks=pytest.mark.open_bus)])
@pytest.mark.parametrize("version", ["5", pytest.param("mqttv311", marks=pytest.mark.open_bus)])
def test_mosquitto_rr_to_an_object_that_is_not_there(bus, connect, version, looks_on):
    """mosquitto_rr would wait for its whole time limit, because it ignores acknowledgements."""
    if bus.broker.kind != "rantai":
        pytest.skip("another broker says so by PUBACK 0x10 alone")
    if looks_on:
        # None of them takes a request, whatever else the filters name.
        wide = ["rantai/call/#", "rantai/at/#", "rantai/call/+/add", "rantai/+/calculater/#"]
        connect(bus).subscribe(*wide, "$share/lookers/rantai/call/#", "$share/others/rantai/call/+/add", qos=1)

    def error(target, object):
        # Clients of 3.1.1 that have not logged in name no reply topic: it is the public one of the object.
        reply = f"rantai/reply/{object}" + ("/me" if version == "5" else "")
        options = ["-V", version, "-W", 30, "-e", reply, "-m", "[2,3]"]
        return json.loads(rr(bus, "-t", f"rantai/{target}/{object}/add", *options))["error"]

    began = time.monotonic()
    told = error("call", "calculater")
    assert told["code"] == -32003 and told["data"]["did_you_mean"] == ["calculator"]
    elsewhere = error("at/elsewhere", "calculator")
    assert elsewhere["code"] == -32004 and elsewhere["data"]["node"] == "workshop"
    assert time.monotonic() - began < 20


@pytest.mark.mosquitto_tools
def test_status_and_node_are_user_properties(bus):
    options = ["-W", 10, "-e", "rantai/reply/calculator/me", "-F", "%P"]
    told = rr(bus, "-t", "rantai/call/calculator/add", "-m", "[2,3]", *options).decode().split()
    assert sorted(set(told) - {"caller:pi"}) == ["node:workshop", "status:ok"]
    told = rr(bus, "-t", "rantai/call/calculator/add", "-m", "[2]", *options).decode().split()
    assert sorted(set(told) - {"caller:pi"}) == ["node:workshop", "status:-32602"]


# The reply topic and the correlation


@pytest.mark.open_bus
@pytest.mark.parametrize("topic", ["rantai/reply", "rantai/reply/", "rantai/replies/x", "elsewhere/x", "$SYS/x", "Rantai/reply/x/y"])
def test_a_reply_topic_outside_is_refused(bus, caller, connect, topic):
    listener = connect(bus)
    listener.subscribe("rantai/reply/#", "rantai/replies/#", "elsewhere/#", "Rantai/#", qos=1)
    calls, refused = caller.calls("echo/echo"), caller.refused("echo")
    caller.send("echo/echo", "1", reply=topic)
    caller.send("echo", request("echo", id=1, params=[1]), reply=topic)
    caller.send("echo", request("echo", id=1, params=[1], reply_to=topic), reply=False)
    assert (caller.calls("echo/echo"), caller.refused("echo")) == (calls, refused + 3)
    caller.silence(payload='"marked"')
    arrived = [message.topic for message in listener.receive_until(b'"marked"')]
    assert set(arrived) <= {caller.reply_topic("echo")}, arrived


@pytest.mark.open_bus
@pytest.mark.parametrize("topic", ["rantai/reply/+/x", "rantai/reply/#", "rantai/reply/x/" + "y" * 242])
def test_a_reply_to_with_wildcards_or_too_long_is_refused(caller, topic):
    calls, refused = caller.calls("echo/echo"), caller.refused("echo")
    caller.send("echo", request("echo", id=1, params=[1], reply_to=topic), reply=False)
    caller.silence()
    assert (caller.calls("echo/echo"), caller.refused("echo")) == (calls + 1, refused + 1)


def test_a_response_topic_with_a_wildcard(bus, caller, connect):
    """MQTT 5 forbids it; a broker that forwards it leaves the check to the object."""
    client = connect(bus)
    refused, calls = caller.refused("echo"), caller.calls("echo/echo")
    client.publish("rantai/call/echo/echo", b"1", qos=1, wait=False, ResponseTopic="rantai/reply/+/x")
    if reason := expected(bus, "wildcard-response-topic"):
        assert client.disconnected().reason == reason
    else:
        client.publish("rantai/call/echo/rpc.ping", qos=1)
        assert caller.refused("echo") == refused + 1
    assert caller.calls("echo/echo") == calls


@pytest.mark.open_bus
def test_the_length_of_a_reply_topic(bus, caller, connect):
    listener = connect(bus)
    listener.subscribe("rantai/reply/long/+", qos=1)
    longest = "rantai/reply/long/" + "y" * 238
    assert len(longest) == 256
    calls, refused = caller.calls("echo/echo"), caller.refused("echo")
    caller.send("echo/echo", "1", reply=longest + "y")
    caller.send("echo/echo", "2", reply=longest)
    message = listener.receive()
    assert (message.topic, message.payload) == (longest, b"2")
    assert (caller.calls("echo/echo"), caller.refused("echo")) == (calls + 1, refused + 1)


@pytest.mark.parametrize("length", [1, 16, 64])
def test_a_correlation_is_echoed(caller, length):
    data = bytes(255 - number for number in range(length))
    assert caller.call("echo/echo", "1", CorrelationData=data).correlation == data


def test_a_call_that_takes_long_is_accepted(caller):
    """By an event for its caller only, and not on the reply topic."""
    correlation = bytes(range(16))
    caller.client.subscribe(f"rantai/event/+/accepted/{caller.id}")
    caller.send("echo/delay", '[1000,"late"]', CorrelationData=correlation)
    accepted = caller.receive()
    assert accepted.topic == f"rantai/event/echo/accepted/{caller.id}"
    assert accepted.correlation == correlation
    assert json.loads(accepted.payload)["node"] == "workshop"
    reply = caller.receive()
    assert (reply.payload, reply.correlation) == (b'"late"', correlation)


def test_no_correlation(caller):
    caller.send("echo/echo", "1")
    assert caller.receive().correlation is None


def test_a_correlation_that_is_too_long(caller):
    calls, refused = caller.calls("echo/echo"), caller.refused("echo")
    caller.send("echo/echo", "1", CorrelationData=b"c" * 65)
    caller.silence("calculator/rpc.ping", "")
    assert (caller.calls("echo/echo"), caller.refused("echo")) == (calls, refused + 1)


def test_replies_are_not_retained_and_of_qos_1(bus, caller):
    message = caller.call("echo/echo", "1").message
    assert (message.qos, message.retain) == (1, False)


def test_oneway(caller):
    before = caller.calls("echo/echo")
    caller.send("echo/echo", "1", user={"oneway": "1"})
    caller.send("echo/nothing", "1", user={"oneway": "1"})
    caller.silence("echo/rpc.ping", "")
    assert caller.calls("echo/echo") == before + 1


# Errors


@pytest.mark.parametrize(
    ("target", "meant"),
    [("calculator/ad", "add"), ("calculator/Add", "add"), ("echo/bites", "bytes"), ("calculator/rpc.pin", "rpc.ping")],
)
def test_no_such_method(caller, target, meant):
    error = caller.call(target, "[1,2]").error
    assert (error["code"], error["data"]["did_you_mean"]) == (-32601, [meant])


@pytest.mark.parametrize("method", ["_secret", "rpc.nothing", "entirely"])
def test_no_such_method_and_nothing_like_it(caller, method):
    error = caller.call(f"calculator/{method}").error
    assert (error["code"], error["data"]) == (-32601, {"did_you_mean": [], "retryable": False})


@pytest.mark.parametrize(
    ("target", "payload", "path"),
    [
        ("calculator/add", "[1]", "b"),
        ("calculator/add", '["x",1]', "a"),
        ("calculator/add", '{"a":1}', "b"),
        ("calculator/add", '{"a":1,"b":null}', "b"),
        ("calculator/add", '{"a":1,"b":2,"c":3}', "c"),
        ("calculator/add", "", "a"),
        ("calculator/add", "text", "a"),
        ("server/welcomeMessage", "", "name"),
        ("echo/delay", "[-1]", "ms"),
        ("echo/delay", "[1.5]", "ms"),
    ],
)
def test_wrong_parameters(caller, target, payload, path):
    error = caller.call(target, payload).error
    assert (error["code"], error["data"]["path"]) == (-32602, path)
    assert error["data"]["expected"] and error["data"]["retryable"] is False


@pytest.mark.parametrize(("target", "payload"), [("calculator/add", "[1,2,3]"), ("server/welcomeMessage", '["a","b"]')])
def test_too_many_parameters(caller, target, payload):
    error = caller.call(target, payload).error
    assert error["code"] == -32602 and {"path", "expected"} <= set(error["data"])


def test_the_methods_own_error(caller):
    error = caller.call("calculator/div", "[1,0]").error
    assert (error["code"], error["data"]["kind"], error["data"]["retryable"]) == (-32000, "division_by_zero", False)
    error = caller.call("calculator/mul", "[1e308,10]").error
    assert error["code"] == -32000 and error["data"]["kind"]


def test_not_utf_8(caller):
    assert caller.call("echo/echo", b"\xff\xfe").code == -32700


def test_a_result_that_is_too_large(caller):
    error = caller.call("echo/echo", "x" * (1 << 20)).error
    assert (error["code"], error["data"]["limit"]) == (-32007, 1 << 20)
    assert caller.call("echo/echo", "x" * 1_000_000).result == "x" * 1_000_000


@pytest.mark.parametrize(
    ("target", "via"),
    [("echo/echo/more", "call"), ("echo/echo/more/yet", "call"), ("workshop/echo/echo/more", "at"), ("echo/echo/", "call")],
)
def test_more_levels_than_the_table(caller, target, via):
    before = caller.calls("echo/echo")
    assert caller.call(target, "1", via=via).code == -32600
    assert caller.calls("echo/echo") == before


def test_nobody_has_the_name(caller):
    assert caller.send("nobody/echo", "1").reason == 0x10


# Numbers and depth


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("9007199254740991", 9007199254740991),
        ("-9007199254740991", -9007199254740991),
        ("9007199254740992", "9007199254740992"),
        ("9007199254740993", "9007199254740993"),
        ("-9007199254740993", "-9007199254740993"),
        ("18446744073709551615", "18446744073709551615"),
        ('"9007199254740993"', "9007199254740993"),
        ('[{"deep":[9007199254740993]}]', {"deep": ["9007199254740993"]}),
        ("184467440737095516160", "184467440737095516160"),
    ],
)
def test_large_integers_are_strings(caller, sent, received):
    result = caller.call("echo/echo", sent).result
    assert (type(result), result) == (type(received), received)


@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_depth(caller, pair):
    def nested(levels):
        """Returns arrays around `pair`; the innermost counts, and so does the list of the parameters."""
        return "[" * (levels - 1) + pair + "]" * (levels - 1)

    assert caller.call("echo/echo", nested(64)).result == json.loads(nested(63))
    for levels in (65, 66, 1000, 100_000):
        before = caller.calls("echo/echo")
        assert caller.call("echo/echo", nested(levels)).code == -32600
        assert caller.calls("echo/echo") == before
