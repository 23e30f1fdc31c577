"""The conformance kit (`rantai conform`) against a node and a client of this package."""

import json
import sys
import threading
from typing import Any, Dict, Iterator

import support

import rantai


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


def examined(*arguments):
    """The report of the kit, all of whose cases have to pass."""
    code, said, problem = support.run(support.rantai(), "conform", *arguments, patience=4 * support.PATIENCE)
    assert said, problem
    report = json.loads(said)
    failed = [case for case in report["cases"] if not case["passed"]]
    assert (code, failed) == (0, []), problem
    return report["passed"]


def test_a_node_is_a_full_node(broker):
    with rantai.Node(broker.url) as node:
        node.serve(Conformance(), "py.conformance")
        passed = examined("node", "py.conformance", "--level", "full", "--broker", broker.url, "--json")
    assert passed >= 55


def test_a_client_is_a_caller(broker, name):
    program = [sys.executable, str(support.HERE / "caller.py"), broker.url]
    assert examined("caller", name, "--broker", broker.url, "--json", "--", *program) >= 16
