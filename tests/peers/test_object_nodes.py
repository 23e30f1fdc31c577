"""Messages of nodes about themselves: registry entries, node states, claims and the end of a node."""

import json
import threading
import time

import pytest

from differences import expected
from layers import first_packet
from nodes import city
from tap import CONNECT, PUBLISH, SUBACK, SUBSCRIBE, Tap, _close

DAY = 24 * 60 * 60


def entry(root, object, node):
    return f"{root}/name/{object}/{node}"


def state(root, node):
    return f"{root}/node/{node}"


# Shape


@pytest.mark.parametrize(
    ("object", "node", "methods", "events"),
    [
        ("calculator", "workshop", ["add", "sub", "mul", "div"], []),
        ("echo", "workshop", ["echo", "bytes", "delay"], []),
        ("server", "workshop", ["welcomeMessage"], []),
        (city("bandung"), "bandung", ["process"], ["hop"]),
        (city("subang"), "subang", ["process"], ["hop"]),
    ],
)
def test_registry_entry(bus, connect, object, node, methods, events):
    reader = connect(bus)
    reader.subscribe(entry("rantai", object, "+"), state("rantai", node), qos=1)
    messages = {message.topic: message for message in (reader.receive(), reader.receive())}
    assert set(messages) == {entry("rantai", object, node), state("rantai", node)}
    for message in messages.values():
        assert message.retain and len(message.payload) <= 16 << 10
        assert DAY - 600 < message.properties["MessageExpiryInterval"] <= DAY
    told = json.loads(messages[entry("rantai", object, node)].payload)
    own = json.loads(messages[state("rantai", node)].payload)
    epoch = own["epoch"]
    assert own == {"v": 1, "state": "ready", "epoch": epoch} and epoch
    version, summary, tags = told.pop("version"), told.pop("summary"), told.pop("tags")
    assert told == {
        "v": 1,
        "object": object,
        "node": node,
        "epoch": epoch,
        "mode": "exclusive",
        "settled": True,
        "methods": methods,
        "events": events,
    }
    assert version.count(".") == 2 and summary and tags and all(type(tag) is str for tag in tags)


# What a node sends


@pytest.fixture
def tap_to_nodes(bus):
    """Makes a tap that outlives the nodes behind it; must be requested before `serve`."""
    taps = []

    def tap(kind):
        taps.append(kind(bus.port, bus.transport))
        return taps[-1]

    yield tap
    for one in taps:
        one.close()


def _will(body):
    """Returns the flags, will topic, will payload and the ids of the properties of a CONNECT of MQTT 5."""
    sizes = {0x11: 4, 0x17: 1, 0x19: 1, 0x21: 2, 0x22: 2, 0x27: 4, 0x18: 4, 0x02: 4, 0x01: 1}
    assert body[:7] == b"\x00\x04MQTT\x05"
    flags, at = body[7], 10

    def properties(at):
        end, found = at + 1 + body[at], []
        assert body[at] < 128
        at += 1
        while at < end:
            found.append(body[at])
            if found[-1] == 0x26:
                for _ in range(2):
                    at += 2 + int.from_bytes(body[at + 1 : at + 3], "big")
                at += 1
            else:
                at += 1 + sizes[found[-1]]
        return found, end

    def string(at):
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        return body[at + 2 : end], end

    told, at = properties(at)
    client, at = string(at)
    _, at = properties(at)
    topic, at = string(at)
    payload, at = string(at)
    return flags, told, client.decode(), topic.decode(), json.loads(payload)


def _filters(packets):
    """Returns the filters of SUBSCRIBE packets and their options."""
    found = {}
    for packet in packets:
        at = 3 + packet.body[2]
        while at < len(packet.body):
            end = at + 2 + int.from_bytes(packet.body[at : at + 2], "big")
            found[packet.body[at + 2 : end].decode()] = packet.body[end]
            at = end + 1
    return found


def test_what_a_node_sends_at_its_start_and_after_a_lost_connection(tap_to_nodes, serve, name, watch, make_caller):
    tap = tap_to_nodes(Tap)
    node = f"{name}-node"
    seen = watch(f"{name}/node/+", f"{name}/name/+/+")
    serve("echo", port=tap.port, root=name, node=node)
    epoch = seen.value(state(name, node), state="ready")["epoch"]
    seen.value(entry(name, "echo", node), settled=True, epoch=epoch)

    flags, properties, client, topic, payload = _will(tap.wait(False, CONNECT).body)
    assert client == node
    # Will, QoS 1, retained.
    assert flags & 0b0011_1100 == 0b0010_1100
    assert (topic, payload) == (state(name, node), {"v": 1, "state": "lost", "epoch": epoch})
    assert 0x22 not in properties, "a topic alias maximum"

    filters = _filters(tap.seen(False, SUBSCRIBE))
    calls = [f"$share/echo/{name}/call/echo/#", f"{name}/at/{node}/#", f"{name}/all/echo/#"]
    assert set(calls) <= set(filters), filters
    # QoS 1, retain handling 2.
    assert {filters[one] & 0b0011_0011 for one in calls} == {0b0010_0001}

    order = [
        (packet.topic.decode(), json.loads(packet.body[packet.body.index(b"{") :]))
        for packet in tap.seen(False, PUBLISH)
        if b"{" in packet.body
    ]
    told = [(topic, value.get("state", value.get("settled"))) for topic, value in order]
    assert told[0] == (state(name, node), "ready")
    claims = [said for topic, said in told if topic == entry(name, "echo", node)]
    assert (claims[0], claims[-1]) == (False, True)
    # Subscribed to the calls before the name is settled, and not before the claim.
    packets = [p for p in tap.packets if not p.from_broker or p.kind == SUBACK]
    subscribes = next(p for p in packets if p.kind == SUBSCRIBE and calls[0].encode() in p.body)
    granted = next(p for p in packets if p.kind == SUBACK and p.body[:2] == subscribes.body[:2])
    claimed = next(p for p in packets if p.kind == PUBLISH and b'"settled":false' in p.body)
    settled = next(p for p in packets if p.kind == PUBLISH and b'"settled":true' in p.body)
    places = [packets.index(p) for p in (claimed, subscribes, granted, settled)]
    assert places == sorted(places)

    # The connection breaks: lost, and then all of it again, with the epoch it had.
    tap.cut()
    seen.value(state(name, node), state="lost", epoch=epoch)
    seen.value(state(name, node), state="ready", epoch=epoch)
    tap.wait(False, CONNECT, 2)
    seen.until(lambda _: len(tap.seen(False, SUBSCRIBE)) >= 2)
    caller = make_caller(root=name)
    end = time.monotonic() + 10
    while caller.send("echo/rpc.ping", reply=False).reason and time.monotonic() < end:
        time.sleep(0.02)
    assert caller.call("echo/echo", "1").result == 1
    again = _filters(p for p in tap.seen(False, SUBSCRIBE) if p.connection == 2)
    assert set(calls) <= set(again)


class Remembering(Tap):
    """Sets the retain flag of every request on its way to the node while `active`, as a retained copy has it."""

    active = False

    def _relay(self, source, target, from_broker, connection):
        pending = b""
        try:
            while data := source.recv(1 << 16):
                pending += data
                while frame := first_packet(pending):
                    raw = bytearray(frame[0])
                    pending = pending[len(raw) :]
                    if self.active and from_broker and raw[0] >> 4 == PUBLISH and b"/call/echo/echo" in raw:
                        raw[0] |= 1
                    target.sendall(raw)
        except OSError:
            pass
        finally:
            _close(source)
            _close(target)


@pytest.mark.tcp("its tap changes packets")
def test_a_request_with_the_retain_flag_is_ignored_and_counted(tap_to_nodes, serve, name, make_caller):
    tap = tap_to_nodes(Remembering)
    serve("echo", port=tap.port, root=name, replica=True)
    caller = make_caller(root=name)
    assert caller.call("echo/echo", "1").result == 1
    refused = caller.refused("echo")
    tap.active = True
    caller.send("echo/echo", "2")
    caller.silence("echo/rpc.ping", "")
    assert (caller.calls("echo/echo"), caller.refused("echo")) == (1, refused + 1)
    tap.active = False
    assert caller.call("echo/echo", "3").result == 3


def test_a_retained_request_is_not_executed_at_the_start(bus, serve, name, make_caller, connect):
    caller = make_caller(root=name)
    caller.send("echo/echo", "1", retain=True)
    try:
        serve("echo", root=name, replica=True)
        caller.silence("echo/rpc.ping", "")
        assert caller.calls("echo/echo") == 0
    finally:
        connect(bus).publish(f"{name}/call/echo/echo", b"", qos=1, retain=True)


# Self-healing


HOLDERS = {"workshop": "echo"} | {name: city(name) for name in ("bandung", "lembang", "subang")}


@pytest.mark.parametrize(
    ("kind", "foreign"),
    [
        ("name", [b"", b"nonsense", b'{"v":1}', b'{"v":1,"object":"echo","node":"thief"}']),
        ("node", [b"", b"nonsense", b'{"v":1}', b'{"v":1,"state":"ready","epoch":"0"}']),
    ],
)
def test_entries_and_states_heal(bus, connect, kind, foreign):
    vandal = connect(bus)
    readers = []
    # Each node has one to repair, as they do so at a limited rate.
    for (node, object), payload in zip(HOLDERS.items(), foreign, strict=True):
        topic = entry("rantai", object, node) if kind == "name" else state("rantai", node)
        reader = connect(bus)
        reader.subscribe(topic, qos=1)
        readers.append((topic, reader, json.loads(reader.receive().payload), payload))
    for topic, _, _, payload in readers:
        vandal.publish(topic, payload, qos=1, retain=True)
    for topic, reader, own, payload in readers:
        assert reader.receive().payload == payload
        assert json.loads(reader.receive().payload) == own
        late = connect(bus)
        late.subscribe(topic, qos=1)
        message = late.receive()
        assert (message.retain, json.loads(message.payload)) == (True, own)
        assert DAY - 600 < message.properties["MessageExpiryInterval"] <= DAY


def test_the_forged_word_of_its_own_loss(caller, watch):
    topic = state("rantai", "workshop")
    seen = watch(topic)
    own = seen.value(topic, state="ready")
    seen.client.publish(topic, json.dumps({**own, "state": "lost"}), qos=1, retain=True)
    seen.value(topic, state="lost")
    assert seen.value(topic, state="ready") == own
    assert caller.call("echo/echo", "1").result == 1


def test_an_entry_in_its_name_that_is_not_its_own_word(watch):
    topic = entry("rantai", "ghost", "workshop")
    seen = watch(topic)
    forged = {"v": 1, "object": "ghost", "node": "workshop", "epoch": "0", "mode": "exclusive", "settled": True}
    seen.client.publish(topic, json.dumps(forged), qos=1, retain=True)
    try:
        seen.value(topic, object="ghost")
        seen.cleared(topic)
    finally:
        seen.client.publish(topic, b"", qos=1, retain=True)


# Claims


def test_a_second_holder_is_told_who_holds_the_name(caller, serve):
    second = serve("echo", node="second", serving=[])
    assert second.exit_code() == 1
    assert "workshop" in "".join(second.log), second.log
    assert caller.call("echo/echo", "1").node == "workshop"


def test_replica_and_exclusive_do_not_share(caller, serve):
    second = serve("echo", node="second", replica=True, serving=[])
    assert second.exit_code() == 1
    assert caller.call("echo/echo", "1").node == "workshop"


def test_of_two_claims_at_one_time_one_wins(serve, name, make_caller):
    nodes = [serve("echo", root=name, node=f"{name}-{one}", serving=[]) for one in "ab"]
    said = {}

    def wait(node):
        said[node.node] = node.exit_code()

    threads = [threading.Thread(target=wait, args=(node,), daemon=True) for node in nodes]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while not said and time.monotonic() < end:
        time.sleep(0.02)
    assert list(said.values()) == [1]
    winner = next(node for node in nodes if node.node not in said)
    winner.wait_for_log("^serving echo on node ")
    loser = next(node for node in nodes if node is not winner)
    assert winner.node in "".join(loser.log), loser.log
    assert make_caller(root=name).call("echo/echo", "1").node == winner.node
    winner.terminate()
    for thread in threads:
        thread.join(10)
    assert said[winner.node] == 0


def test_replace_takes_a_name_over(serve, name, make_caller, watch):
    seen = watch(f"{name}/name/echo/+")
    serve("echo", root=name, node=f"{name}-old")
    seen.value(entry(name, "echo", f"{name}-old"), settled=True)
    serve("echo", root=name, node=f"{name}-new", replace=True)
    seen.value(entry(name, "echo", f"{name}-new"), settled=True)
    seen.cleared(entry(name, "echo", f"{name}-old"))
    caller = make_caller(root=name)
    assert {caller.call("echo/echo", "1").node for _ in range(5)} == {f"{name}-new"}


def test_replicas_share_requests(serve, name, make_caller, watch):
    seen = watch(f"{name}/#")
    ids = [f"{name}-{one}" for one in "ab"]
    nodes = [serve("echo", root=name, node=id, replica=True) for id in ids]
    for id in ids:
        seen.value(entry(name, "echo", id), mode="replica", settled=True)
    seen.close()
    caller = make_caller(root=name)
    for number in range(40):
        caller.send("echo/echo", str(number), CorrelationData=b"%d" % number)
    replies = [caller.receive() for _ in range(40)]
    assert sorted(reply.result for reply in replies) == list(range(40))
    assert {reply.node for reply in replies} == set(ids)
    counts = {id: caller.call(f"{id}/echo/rpc.stats", via="at").result["methods"]["echo"]["calls"] for id in ids}
    assert counts == {id: sum(reply.node == id for reply in replies) for id in ids}

    for id in ids:
        assert caller.call(f"{id}/echo/echo", "1", via="at").node == id
    caller.send("echo/echo", '"all"', via="all", CorrelationData=b"all")
    replies = [caller.receive() for _ in ids]
    assert {(reply.node, reply.result, reply.correlation) for reply in replies} == {(id, "all", b"all") for id in ids}

    seen = watch(f"{name}/node/+")
    nodes[0].kill()
    seen.value(state(name, ids[0]), state="lost")
    assert {caller.call("echo/echo", "1").node for _ in range(10)} == {ids[1]}


@pytest.mark.parametrize("reserved", ["registry", "tasks", "rpc", "a/b", "a+b", "", "x" * 65, "blank space"])
def test_names_that_cannot_be(serve, tmp_path, name, reserved):
    config = tmp_path / "nodes.toml"
    config.write_text(f'[[echo]]\nname = "{reserved}"\n')
    node = serve(root=name, config=config)
    assert node.exit_code() == 2
    assert f'"{reserved}"' in "".join(node.log), node.log


def test_the_longest_name(serve, tmp_path, name, make_caller):
    longest = "aZ09._-" + "x" * 57
    assert len(longest) == 64
    config = tmp_path / "nodes.toml"
    config.write_text(f'[[echo]]\nname = "{longest}"\nreplica = true\n')
    serve(root=name, config=config, serving=[longest])
    assert make_caller(root=name).call(f"{longest}/echo", "1").result == 1


def test_busy(serve, tmp_path, name, make_caller):
    config = tmp_path / "nodes.toml"
    config.write_text('[[echo]]\nname = "echo"\nreplica = true\nconcurrent = 2\n')
    serve(root=name, config=config, serving=["echo"])
    caller = make_caller(root=name)
    for correlation in (b"first", b"second"):
        caller.send("echo/delay", '[1500,"x"]', CorrelationData=correlation)
    error = caller.call("echo/delay", '[500,"x"]').error
    assert (error["code"], error["data"]["retryable"]) == (-32005, True)
    assert type(error["data"]["retry_after_ms"]) is int and error["data"]["retry_after_ms"] > 0
    assert {caller.receive().correlation for _ in range(2)} == {b"first", b"second"}
    assert caller.call("echo/delay", '[1,"x"]').result == "x"


# The end of a node


def test_a_killed_node_is_lost_and_returns(serve, name, make_caller, watch):
    node, heir = f"{name}-node", f"{name}-heir"
    first = serve("echo", "calculator", root=name, node=node)
    seen = watch(f"{name}/node/+", f"{name}/name/+/+")
    epoch = seen.value(state(name, node), state="ready")["epoch"]
    told = seen.value(entry(name, "echo", node), settled=True)
    first.kill()
    lost = {"v": 1, "state": "lost", "epoch": epoch}
    assert seen.value(state(name, node), state="lost") == lost
    late = watch(f"{name}/node/+", f"{name}/name/+/+")
    assert late.value(state(name, node)) == lost
    assert late.value(entry(name, "echo", node)) == told
    caller = make_caller(root=name)
    assert caller.send("echo/echo", "1").reason == 0x10

    # A lost holder does not keep a name from another, nor from itself under another epoch.
    other = serve("echo", root=name, node=heir, serving=[])
    serve("calculator", root=name, node=node)
    other.wait_for_log("^serving echo on node ")
    assert caller.call("echo/echo", "1").node == heir
    assert caller.call("calculator/add", "[1,2]").node == node
    again = seen.value(state(name, node), state="ready")["epoch"]
    assert len({epoch, again, seen.value(state(name, heir), state="ready")["epoch"]}) == 3
    seen.value(entry(name, "calculator", node), settled=True, epoch=again)


def test_sigterm_drains(bus, serve, name, make_caller, watch, connect):
    node = f"{name}-node"
    running = serve("echo", "calculator", root=name, node=node)
    seen = watch(f"{name}/node/+", f"{name}/name/+/+")
    epoch = seen.value(state(name, node), state="ready")["epoch"]
    for object in ("echo", "calculator"):
        seen.value(entry(name, object, node), settled=True)
    caller = make_caller(root=name)
    caller.send("echo/delay", '[1500,"finished"]', CorrelationData=b"running")
    assert caller.stats("echo")["methods"]["delay"]["in_flight"] == 1
    running.terminate()
    seen.value(state(name, node), state="draining", epoch=epoch)
    reply = caller.receive()
    assert (reply.result, reply.correlation) == ("finished", b"running")
    for topic in (entry(name, "echo", node), entry(name, "calculator", node), state(name, node)):
        seen.cleared(topic)
    assert running.exit_code() == 0
    assert [value and value["state"] for topic, value in seen.history if topic == state(name, node)] == [
        "ready",
        "draining",
        None,
    ]
    assert caller.send("echo/echo", "1").reason == 0x10
    late = connect(bus)
    late.subscribe(f"{name}/#", qos=1)
    late.publish(f"{name}/end", b"end", qos=1)
    assert late.receive_until(b"end") == []


def test_sigterm_while_the_broker_is_away(serve, tap_to_nodes, name, watch):
    tap = tap_to_nodes(Tap)
    node = serve("echo", port=tap.port, root=name, node=f"{name}-node", replica=True)
    seen = watch(f"{name}/node/+")
    seen.value(state(name, f"{name}-node"), state="ready")
    tap.close()
    seen.value(state(name, f"{name}-node"), state="lost")
    node.terminate()
    try:
        assert node.process.wait(5) == 0
    finally:
        node.kill()


def test_a_node_that_is_taken_over_stops(bus, serve, name, connect):
    node = serve("echo", root=name, node=f"{name}-node", replica=True)
    if expected(bus, "takeover-reason") != 0x8E:
        return
    connect(bus, f"{name}-node")
    assert node.exit_code() != 0
    assert f"{name}-node" in "".join(node.log)
