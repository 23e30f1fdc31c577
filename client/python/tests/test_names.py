"""Names: claims, self-healing, drain, and nodes that are lost."""

import json
import threading
import time

import objects
import pytest
import support

import rantai


def test_of_two_nodes_that_claim_a_name_exactly_one_serves(broker, client, name):
    nodes = [rantai.Node(broker.url) for _ in range(4)]
    results = []

    def claim(node):
        try:
            node.serve(objects.Echo.__new__(Exclusive), name)
            results.append(node.id)
        except rantai.NameTaken as taken:
            results.append(taken)

    try:
        threads = [threading.Thread(target=claim, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = {node.id for node in nodes}
        winners = [result for result in results if isinstance(result, str)]
        assert len(winners) == 1, results
        assert all(result.data["holder"] in ids for result in results if isinstance(result, rantai.NameTaken))
        assert {client[name].who() for _ in range(5)} == {winners[0]}
    finally:
        for node in nodes:
            node.stop()


@rantai.object
class Exclusive(objects.Echo):
    pass


def test_a_name_of_the_rust_node_is_taken_and_the_other_way_round(broker, client, rust_node, node, name, command):
    with pytest.raises(rantai.NameTaken) as taken:
        node.serve(objects.Calc(), "calculator")
    assert taken.value.data["holder"].startswith("node-")
    assert client.calculator.add(1, 2) == 3
    node.serve(objects.Calc(), name)
    with pytest.raises(ValueError, match="already"):
        node.serve(objects.Calc(), name)


def test_a_name_is_replaced_when_its_holder_is_asked_to_yield(broker, client, name):
    with rantai.Node(broker.url) as old, rantai.Node(broker.url) as new:
        old.serve(Exclusive(), name)
        with pytest.raises(rantai.NameTaken):
            new.serve(Exclusive(), name)
        new.serve(Exclusive(), name, replace=True)
        assert client[name].who() == new.id
        new.stop()
        # The old holder waits for the name.
        client.wait_for(name, support.PATIENCE)
        assert client[name].who() == old.id


def test_rpc_yield_is_denied_to_whoever_claims_nothing(client, node, name):
    node.serve(Exclusive(), name)
    with pytest.raises(rantai.Denied):
        client[name].method("rpc.yield")()
    assert client[name].who() == node.id


def test_replicas_share_the_calls(broker, client, name):
    with rantai.Node(broker.url) as one, rantai.Node(broker.url) as two:
        one.serve(objects.Echo(), name)
        two.serve(objects.Echo(), name)
        assert {client[name].who() for _ in range(20)} == {one.id, two.id}
        assert {answer.result for answer in client[name].who.all(within=1.0)} == {one.id, two.id}
        assert client[name](node=two.id).who() == two.id
        with pytest.raises(rantai.UnknownObject):
            client[f"{name}.x"](node=two.id).who()


def test_entries_and_states_are_repaired(broker, client, node, name, wire):
    node.serve(Exclusive(), name)
    entry, state = f"rantai/name/{name}/{node.id}", f"rantai/node/{node.id}"
    wire.subscribe(entry, state)
    truth = {}
    while len(truth) < 2:
        message = wire.next()
        truth[message.topic] = message.payload
    wire.publish(entry, b"", retain=True)
    wire.publish(state, b'{"v":1,"state":"lost","epoch":"0"}', retain=True)
    seen = dict(truth)
    seen[entry] = seen[state] = b"?"

    def repaired():
        while not wire.messages.empty():
            message = wire.next()
            seen[message.topic] = message.payload
        return seen == truth

    support.eventually(repaired)
    strange = f"rantai/name/{name}.strange/{node.id}"
    wire.subscribe(strange)
    wire.publish(strange, truth[entry], retain=True)
    assert wire.next().payload == truth[entry]
    assert wire.next().payload == b"", "an entry of an object that is not served is removed"


def test_entries_say_what_the_contract_asks_for(node, name, wire):
    node.serve(objects.Calc(), name)
    wire.subscribe(f"rantai/name/{name}/{node.id}")
    message = wire.next()
    entry = json.loads(message.payload)
    assert entry == {
        "v": 1,
        "object": name,
        "node": node.id,
        "epoch": entry["epoch"],
        "mode": "exclusive",
        "settled": True,
        "version": "1.2.0",
        "summary": "Arithmetic, in Python.",
        "tags": ["math"],
        "methods": ["add", "later", "div", "whole", "broken", "crash", "set", "note"],
        "events": ["changed", "noted"],
    }
    assert len(entry["epoch"]) == 16 and 0 < message.properties.expiry <= 86400


def test_drain_finishes_what_runs_and_clears_the_registry(broker, client, name, wire):
    node = rantai.Node(broker.url)
    node.serve(objects.Slow(), name)
    call = client[name].wait.start(1.5)
    support.eventually(lambda: client[name].counts()["started"] == 1)
    wire.subscribe(f"rantai/node/{node.id}", f"rantai/name/{name}/{node.id}")
    node.stop()
    assert call.result(support.PATIENCE) == node.id
    said = []
    while len(said) < 5 and not (said and said[-1] == b""):
        message = wire.next()
        if message.topic.startswith("rantai/node/"):
            said.append(message.payload)
    assert [json.loads(state)["state"] for state in said if state][:2] == ["ready", "draining"]
    with pytest.raises((rantai.UnknownObject, rantai.NodeLost)):
        client[name](deadline=10.0).counts()


def test_drain_ends_what_lasts_too_long(broker, client, name):
    node = rantai.Node(broker.url)
    node.serve(objects.Slow(), name)
    call = client[name].wait.start(600)
    support.eventually(lambda: client[name].counts()["started"] == 1)
    node.stop(timeout=0.5)
    error = call.exception(support.PATIENCE)
    assert isinstance(error, rantai.NodeLost) and error.maybe_executed


@pytest.mark.parametrize("caller", ["python", "rantai"])
def test_the_caller_of_a_node_that_is_killed_hears_of_it_promptly(broker, client, name, process, caller, command):
    node = process(support.python_node(broker.url, f"Slow={name}"))
    node.until("^ready")
    if caller == "python":
        call = client[name].wait.start(600)
    else:
        call = process(
            support.Process(support.rantai(), "call", f"{name}.wait", "600", "--broker", broker.url, "--json")
        )
    support.eventually(lambda: client[name].counts()["started"] == 1)
    time.sleep(0.5)
    began = time.monotonic()
    node.kill()
    if caller == "python":
        error = call.exception(support.PATIENCE)
        assert isinstance(error, rantai.NodeLost) and error.code == -32004 and error.maybe_executed
    else:
        call.until("lost|-32004")
    assert time.monotonic() - began < 10


def test_an_idempotent_call_goes_to_another_node(broker, client, name, process):
    @rantai.object(replica=True)
    class Replica(objects.Slow):
        pass

    lost = process(support.python_node(broker.url, f"Replica={name}"))
    lost.until("^ready")
    call = client[name](idempotent=True).wait.start(2.0)
    support.eventually(lambda: client[name].counts()["started"] == 1)
    with rantai.Node(broker.url) as other:
        other.serve(Replica(), name)
        lost.kill()
        assert call.result(support.PATIENCE) == other.id


def test_a_second_node_of_the_same_id_ends_the_first(own_broker, name):
    first = rantai.Node(own_broker.url, f"twin-{time.monotonic_ns()}")
    with rantai.Node(own_broker.url, first.id):
        support.eventually(lambda: first.error is not None)
        assert "give each node an id of its own" in str(first.error)
    first.stop()


def test_a_call_that_is_on_its_way_while_a_node_drains_is_carried_out(broker, client, name):
    node = rantai.Node(broker.url)
    node.serve(objects.Echo(), name)
    calls = [client[name].say.start(str(number)) for number in range(200)]
    node.stop()
    outcomes = [call.exception(support.PATIENCE) or call.result() for call in calls]
    answered = [outcome for outcome in outcomes if isinstance(outcome, str)]
    refused = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    # What the node did not get any more is told to be served by nobody, and not to have been lost.
    assert all(isinstance(fault, (rantai.UnknownObject, rantai.NodeLost)) for fault in refused), refused
    assert len(answered) + len(refused) == 200
