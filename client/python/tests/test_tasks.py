"""The ledger of the Rust implementation calls objects of this package, and Python submits tasks."""

import objects
import pytest

import rantai


@pytest.fixture(autouse=True)
def _served(rust_node):
    pass


def test_rantai_task_calls_python(command, node, name, client):
    node.serve(objects.Calc(), name)
    assert command("task", "submit", f"{name}.add", "2", "3", "--wait")[:2] == (0, "5\n")
    code, _, said = command("task", "submit", f"{name}.div", "1", "0", "--wait")
    assert code == 1 and "b is 0" in said
    node.serve(objects.Numbers(), f"{name}.numbers")
    code, _, said = command("task", "submit", f"{name}.numbers.count", "3", "--wait")
    assert code == 1 and "stream" in said, "a task keeps one result"


def test_python_submits_tasks(client, node, name):
    node.serve(objects.Calc(), name)
    first = client.tasks.submit(name, "add", [4, 120])
    assert client.tasks.result(first, 30_000)["result"] == 124
    then = client.tasks.submit(name, "add", [{"$result": 0}, 1], {"after": [first]})
    assert client.tasks.result(then, 30_000)["result"] == 125
    with pytest.raises(rantai.Failed) as unknown:
        client.tasks.get("00000000-0000-7000-8000-000000000000")
    assert unknown.value.kind == "no_such_task"
