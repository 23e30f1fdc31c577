"""Objects of this package, called by the command line of the Rust implementation and by mosquitto's tools."""

import json

import objects
import pytest
import support

import rantai


@pytest.fixture
def calc(node, name):
    node.serve(objects.Calc(), name)
    return name


def test_rantai_call(command, calc):
    assert command("call", f"{calc}.add", "2", "3") == (0, "5\n", "")
    assert command("call", f"{calc}.add", "a=2", "b=3.5")[:2] == (0, "5.5\n")
    assert command("call", f"{calc}.add", "2")[:2] == (0, "3\n"), "the default of b"
    assert command("call", f"{calc}.later", "2", "3")[:2] == (0, "5\n")
    code, _, said = command("call", f"{calc}.div", "1", "0")
    assert code == 1 and "b is 0" in said
    code, _, said = command("call", f"{calc}.add", "x", "1")
    assert code == 7 and "a: expected a number" in said
    code, _, said = command("call", f"{calc}.ad", "1")
    assert code == 5 and 'did you mean "add"' in said


def test_rantai_ls_and_describe(command, calc, node):
    code, listed, _ = command("ls")
    assert code == 0
    line = next(line for line in listed.splitlines() if line.startswith(calc + " "))
    assert node.id in line and "served" in line and "add" in line
    code, described, _ = command("describe", calc)
    assert code == 0 and "add(a: number, b?: number) -> number" in described and "Arithmetic, in Python." in described
    assert "The sum of `a` and `b`." in described and "changed: number" in described


def test_rantai_doctor_passes_a_bus_with_a_node_of_this_package(command, calc, client):
    _, said, _ = command("doctor", "--json")
    report = json.loads(said)
    assert report["works"] is True
    assert {item["state"] for item in report["items"] if item["area"] == "bus"} == {"ok"}
    assert client[calc].add(2, 3) == 5, "it is served still"


def test_exceptions_of_a_method_are_its_own_errors(client, calc):
    with pytest.raises(rantai.Failed) as failed:
        client[calc].crash()
    assert failed.value.kind == "lookup_error" and failed.value.message == "not on the shelf"
    with pytest.raises(rantai.BrokenObject):
        client[calc].broken()


def test_types_are_converted_both_ways(client, node, name):
    node.serve(objects.Shapes(), name)
    assert client[name].centre([{"x": 1, "colour": "red"}, {"x": 3, "y": 4}]) == {"x": 2, "y": 2, "colour": "red"}
    centre = client[name].centre([objects.Point(1, 2, objects.Colour.BLUE)])
    assert centre == {"x": 1, "y": 2, "colour": "blue"}
    assert client[name].count(["a", "b", "a"]) == {"a": 2, "b": 1}
    assert [client[name].either(value) for value in (7, "x")] == ["int", "str"]
    for wrong, path, expected in (
        ([{"y": 1}], "points[0]", "`x`"),
        ([{"x": 1}, {"x": "1"}], "points[1].x", "a number"),
        ([{"x": 1, "z": 1}], "points[0].z", "unknown"),
        ([{"x": 1, "colour": "green"}], "points[0].colour", "`red` or `blue`"),
        ("x", "points", "an array"),
    ):
        with pytest.raises(rantai.InvalidParams) as invalid:
            client[name].centre(wrong)
        assert invalid.value.data["path"] == path and expected in invalid.value.message


def test_whole_numbers_and_large_ones(client, calc):
    whole = client[calc].whole
    assert whole(5.0) == 5 and whole(str(2**60)) == str(2**60) and whole(2**60) == str(2**60)
    for wrong in (0.5, "5", True, None):
        with pytest.raises(rantai.InvalidParams):
            whole(wrong)
    with pytest.raises(rantai.InvalidParams) as invalid:
        client[calc].add(2**53 + 1, 1)
    assert "2^53" in invalid.value.message


def test_a_book_may_be_called_1984(node, name, broker):
    node.serve(objects.Echo(), name)
    for text in ("1984", "null", "Dune", "2 weeks"):
        assert _rr(broker, f"rantai/call/{name}/say", name, text) == json.dumps(text)
    for wrong in ("[draft", '{"a":1,"a":2}', "1e400", '"\\ud83d"'):
        error = json.loads(_rr(broker, f"rantai/call/{name}/say", name, wrong))["error"]
        assert error["code"] == -32700, wrong


def _rr(broker, topic, name, payload, *options):
    reply = f"rantai/reply/{name}/rr-{support.free_port()}"
    code, said, problem = support.run(
        support.tool("mosquitto_rr"),
        "-p",
        str(broker.port),
        "-V",
        "5",
        "-t",
        topic,
        "-e",
        reply,
        "-m",
        payload,
        "-W",
        "30",
        *options,
    )
    assert code == 0, problem
    return said.strip()


def test_mosquitto_rr_in_both_forms(broker, calc):
    assert _rr(broker, f"rantai/call/{calc}/add", calc, "[2,3]") == "5"
    request = {"jsonrpc": "2.0", "id": 7, "method": "add", "params": {"a": 2, "b": 3}}
    assert json.loads(_rr(broker, f"rantai/call/{calc}", calc, json.dumps(request))) == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": 5,
    }
    del request["jsonrpc"]
    assert json.loads(_rr(broker, f"rantai/call/{calc}", calc, json.dumps(request)))["result"] == 5
    for wrong, code in (("[1]", -32600), ("{", -32700), ('{"id":1,"method":"no_such"}', -32601), ("7", -32600)):
        assert json.loads(_rr(broker, f"rantai/call/{calc}", calc, wrong))["error"]["code"] == code


def test_mosquitto_pub_without_a_reply_topic(broker, calc, wire):
    wire.subscribe(f"rantai/reply/{calc}")
    publish = support.tool("mosquitto_pub")
    support.run(publish, "-p", str(broker.port), "-t", f"rantai/call/{calc}/add", "-m", "[20,3]", "-q", "1")
    assert wire.next().payload == b"23"


def test_a_request_with_too_many_levels_is_refused(wire, calc, broker):
    wire.subscribe(f"rantai/reply/{calc}/wire")
    wire.publish(f"rantai/call/{calc}/add/more", b"[1,2]", response_topic=f"rantai/reply/{calc}/wire", correlation=b"7")
    message = wire.next()
    assert message.properties.get("status") == "-32600" and message.properties.correlation == b"7"


def test_binary_parameters_and_results(client, node, name):
    node.serve(objects.Echo(), name)
    assert client[name].size(b"\0\xff" * 1000) == 2000
    assert client[name].bytes(3) == b"xxx" and client[name].bytes(0) == b""
    with pytest.raises(rantai.InvalidParams):
        client[name].size(7)
    with pytest.raises(rantai.TooLarge) as large:
        client[name].bytes(2 << 20)
    assert large.value.data["limit"] == 1 << 20


def test_events_are_followed_by_rantai_watch_and_by_python(client, calc, broker, process):
    client[calc].set(20.5)
    with client[calc].events() as events:
        state = events.next(support.PATIENCE)
        assert (state.name, state.value, state.retained) == ("changed", 20.5, True)
        watching = process(support.Process(support.rantai(), "watch", calc, "--broker", broker.url))
        watching.until("20.5")
        client[calc].note("hello")
        event = events.next(support.PATIENCE)
        assert (event.name, event.value, event.retained) == ("noted", "hello", False)
        watching.until("hello")


def test_a_class_whose_hints_have_no_json_form_is_refused():
    with pytest.raises(TypeError, match=r"Wrong\.f, parameter x: .* has no JSON form"):

        @rantai.object
        class Wrong:
            def f(self, x: complex) -> None:
                pass

    with pytest.raises(ValueError, match="reserved"):
        rantai.object("tasks")


def test_private_functions_are_not_methods(client, node, name):
    node.serve(objects.Slow(), name)
    with pytest.raises(rantai.MethodNotFound):
        client[name].method("_count")()
