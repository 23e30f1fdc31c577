"""The conformance cases of docs/protocol/cases, against a node and a client of this package."""

import json
import os
import pathlib
import re
import secrets
import threading
import time
from typing import Any, Dict, Iterator

import pytest
import support

import rantai
from rantai.wire import text

#: An sdist has no cases: CI names their folder.
CASES = pathlib.Path(os.environ.get("RANTAI_CASES", support.HERE.parents[2] / "docs" / "protocol" / "cases"))
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(CASES.glob("*.json"))}


def cases(role):
    found = [(name, case) for name, file in FILES.items() if file["role"] == role for case in file["cases"]]
    assert found, f"no cases in {CASES}: set RANTAI_CASES"
    return [pytest.param(case, id=f"{name}: {case['name']}") for name, case in found]


@rantai.object
class Conformance:
    """The object of the cases."""

    def __init__(self) -> None:
        self._runs = 0
        self._lock = threading.Lock()

    def add(self, a: float, b: float) -> float:
        return a + b

    def whole(self, number: int) -> int:
        return number

    def say(self, text: str) -> str:
        return text

    def echo(self, value: Any = None) -> Any:
        return value

    def fail(self, kind: str) -> None:
        raise rantai.Failed(kind, "as asked")

    def size(self, data: bytes) -> int:
        return len(data)

    def blob(self, count: int) -> bytes:
        return b"x" * count

    def wait(self, ms: int) -> None:
        with self._lock:
            self._runs += 1
        rantai.context().sleep(ms / 1000)

    def runs(self) -> Dict[str, int]:
        return {"runs": self._runs}

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)


@pytest.fixture(scope="module")
def served(broker):
    with rantai.Node(broker.url) as node:
        node.serve(Conformance(), "py.conformance")
        yield node


class Runner:
    """One run of a case: what stands for its placeholders, and the messages that come."""

    def __init__(self, wire, node):
        self.wire = wire
        client = f"case-{secrets.token_hex(6)}"
        self.names = {"root": "rantai", "object": "py.conformance", "node": node, "client": client}
        self.names["key"] = secrets.token_hex(16)
        self.names["reply"] = f"rantai/reply/py.conformance/{client}"

    def fill(self, value):
        if isinstance(value, str):
            value = re.sub(r"\{\[\*(\d+)\}", lambda found: "[" * int(found[1]) + "]" * int(found[1]), value)
            return re.sub(r"\{(\w+)\}", lambda found: self.names.get(found[1], found[0]), value)
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {name: self.fill(item) for name, item in value.items()}
        return value

    def publish(self, step):
        payload = bytes.fromhex(step["payload_hex"]) if "payload_hex" in step else step.get("payload", "").encode()
        correlation = bytes.fromhex(step["correlation"]) if "correlation" in step else None
        self.wire.publish(
            step["topic"],
            payload,
            retain=step.get("retain", False),
            response_topic=step.get("response_topic"),
            correlation=correlation,
            expiry=step.get("expiry"),
            content_type=step.get("content_type"),
            user=[tuple(pair) for pair in step.get("user", [])],
        )

    def expect(self, step):
        self.check(step, self.wire.next(max(step.get("within_ms", 10_000) / 1000, support.PATIENCE)))

    def expect_any_order(self, steps):
        messages = [self.wire.next() for _ in steps]
        for step in steps:
            found = [message for message in messages if self.fits(step, message)]
            assert found, (step, messages)
            messages.remove(found[0])

    def fits(self, step, message):
        try:
            self.check(step, message)
        except (AssertionError, TypeError, ValueError):
            return False
        return True

    def check(self, step, message):
        properties = message.properties
        assert message.topic == step.get("topic", message.topic)
        if "json" in step:
            assert properties.get("status") in ("ok", None), message
            assert text.read(message.payload) == step["json"]
        if "payload_hex" in step:
            assert message.payload.hex() == step["payload_hex"]
        if "code" in step:
            error = text.read(message.payload)["error"]
            assert error["code"] == step["code"] and properties.get("status") == str(step["code"]), message
            assert isinstance(error["data"]["retryable"], bool) and error["message"]
            assert error["data"].items() >= step.get("data", {}).items()
        for name, value in step.get("user", {}).items():
            assert properties.get(name) == value, message
        for name in step.get("absent", []):
            assert properties.get(name) is None, message
        if "correlation" in step:
            assert properties.correlation is not None and properties.correlation.hex() == step["correlation"]

    def items(self, expected):
        items = []
        while True:
            message = self.wire.next()
            assert message.topic == self.names["reply"] and message.properties.get("from") == str(len(items))
            items += text.read(message.payload)
            if message.properties.get("more") != "1":
                break
        assert items == expected

    def silence_ms(self, ms):
        self.wire.none_within(ms / 1000)

    def retained(self, step):
        self.wire.subscribe(step["topic"])
        message = self.wire.next()
        assert message.topic == step["topic"] and message.retain
        assert text.read(message.payload).items() >= step["json"].items()
        assert 0 < message.properties.expiry <= step["expiry_at_most"]


@pytest.mark.parametrize("case", cases("node"))
def test_a_node(served, wire, case):
    run = Runner(wire, served.id)
    wire.subscribe(run.names["reply"], f"rantai/event/py.conformance/+/{run.names['client']}")
    for step in case["steps"]:
        [(kind, arguments)] = step.items()
        getattr(run, kind)(run.fill(arguments))


@pytest.mark.parametrize("case", cases("caller"))
def test_a_caller(client, wire, case, name):
    names = {"root": "rantai", "object": name}
    node = f"case-{secrets.token_hex(6)}"
    entry = {"v": 1, "object": name, "node": node, "epoch": "00000000", "settled": True}
    state = {"v": 1, "state": "ready", "epoch": "00000000"}
    wire.publish(f"rantai/node/{node}", json.dumps(state).encode(), retain=True)
    wire.publish(f"rantai/name/{name}/{node}", json.dumps(entry).encode(), retain=True)
    wire.subscribe(f"$share/{name}/rantai/call/{name}/#", f"rantai/at/+/{name}/#", f"rantai/all/{name}/#")
    call, asked, outcome = case["call"], case["request"], case["outcome"]
    method = client[name](deadline=call.get("deadline_ms", 30_000) / 1000).method(call["method"])
    began = time.monotonic()
    params = call["params"]
    future = method.start(**params) if isinstance(params, dict) else method.start(*params)
    request = wire.next()
    properties = request.properties
    assert request.topic == asked.get("topic", request.topic).format(**names)
    assert properties.response_topic == f"rantai/reply/{name}/{client.id}" and len(properties.correlation) >= 16
    assert properties.expiry is not None and not request.retain
    assert all(properties.get(wanted) is not None for wanted in asked.get("user", []))
    if "json" in asked:
        assert text.read(request.payload) == asked["json"]
    for answer in case["reply"]:
        payload = bytes.fromhex(answer["payload_hex"]) if "payload_hex" in answer else answer["payload"].encode()
        wire.publish(
            properties.response_topic,
            payload,
            correlation=properties.correlation,
            content_type=answer.get("content_type"),
            user=[*(tuple(pair) for pair in answer.get("user", [])), ("node", node)],
        )
    if "code" in outcome:
        fault = future.exception(support.PATIENCE)
        assert fault.code == outcome["code"] and ("kind" not in outcome or fault.kind == outcome["kind"])
        assert "within_ms" not in outcome or time.monotonic() - began < max(
            outcome["within_ms"] / 1000, support.PATIENCE
        )
    elif "result_hex" in outcome:
        assert future.result(support.PATIENCE) == bytes.fromhex(outcome["result_hex"])
    else:
        assert future.result(support.PATIENCE) == outcome["result"]
    for topic in (f"rantai/name/{name}/{node}", f"rantai/node/{node}"):
        wire.publish(topic, b"", retain=True)
