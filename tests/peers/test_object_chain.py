"""Chains, and a device in another language as a caller and as a link of one."""

import json
import threading
import uuid

import pytest

from clients import Client, Will
from nodes import RING, check_error, city
from tap import PATIENCE

BANDUNG = f"{city('bandung')}/process"
ROUND = ["telah melewati bandung", "telah melewati lembang", "telah melewati subang", "selesai pada bandung"]


def hops(count):
    return json.dumps([{"node": f"x{number}", "us": number} for number in range(count)])


# The journey


@pytest.mark.parametrize(
    ("payload", "result", "node"),
    [
        ("hello", ROUND, "bandung"),
        ("", ROUND, "bandung"),
        ("Bandung", ROUND, "bandung"),
        ("bandung", ["selesai pada bandung"], "bandung"),
        ("lembang", ["telah melewati bandung", "selesai pada lembang"], "lembang"),
        ("subang", ["telah melewati bandung", "telah melewati lembang", "selesai pada subang"], "subang"),
        ("ke bandung", ROUND, "bandung"),
        ("1984", ROUND, "bandung"),
        ('"lembang"', ["telah melewati bandung", "selesai pada lembang"], "lembang"),
        ('["lembang"]', ["telah melewati bandung", "selesai pada lembang"], "lembang"),
        ('[["x","lembang"]]', ["telah melewati bandung", "selesai pada lembang"], "lembang"),
        ('{"message":["x","lembang"]}', ["telah melewati bandung", "selesai pada lembang"], "lembang"),
        ('[["subang","lembang"]]', ["telah melewati bandung", "selesai pada lembang"], "lembang"),
        ("[[]]", ROUND, "bandung"),
    ],
)
def test_the_journey(caller, payload, result, node):
    reply = caller.call(BANDUNG, payload)
    assert (reply.result, reply.node) == (result, node)
    assert reply.topic == caller.reply_topic(city("bandung"))


@pytest.mark.parametrize(("start", "other"), [("lembang", ["subang", "bandung"]), ("subang", ["bandung", "lembang"])])
def test_the_journey_from_elsewhere(caller, start, other):
    passed = [f"telah melewati {name}" for name in [start, *other]]
    assert caller.call(f"{city(start)}/process", "hello").result == [*passed, f"selesai pada {start}"]


@pytest.mark.parametrize("id", [7, "seven"])
def test_the_journey_in_json_rpc(bus, caller, connect, id):
    sent = {"jsonrpc": "2.0", "id": id, "method": "process", "params": ["hello"]}
    reply = caller.call(city("bandung"), sent)
    assert reply.json == {"jsonrpc": "2.0", "id": id, "result": ROUND}
    events = connect(bus)
    events.subscribe("rantai/event/+/hop", qos=0)
    sent = {"jsonrpc": "2.0", "method": "process", "params": ["hello"]}
    caller.send(city("bandung"), sent)
    # To its end: the next test is not to see this trip.
    assert [events.receive().topic for _ in ROUND] == [f"rantai/event/{city(c)}/hop" for c in [*RING, "bandung"]]
    caller.silence()


def test_a_oneway_trip_goes_all_the_way(bus, caller, connect):
    events = connect(bus)
    events.subscribe(f"rantai/event/{city('subang')}/hop", qos=0)
    caller.send(BANDUNG, "subang", user={"oneway": "1"}, CorrelationData=b"oneway")
    assert events.receive().properties["CorrelationData"] == b"oneway"
    caller.silence()


def test_many_trips_at_one_time(caller):
    wanted = {}
    for number in range(60):
        stop = [*RING, "nowhere"][number % 4]
        wanted[b"%d" % number] = caller, stop
        caller.send(BANDUNG, stop, CorrelationData=b"%d" % number)
    ends = {
        "bandung": ["selesai pada bandung"],
        "lembang": ["telah melewati bandung", "selesai pada lembang"],
        "subang": ["telah melewati bandung", "telah melewati lembang", "selesai pada subang"],
        "nowhere": ROUND,
    }
    for _ in range(60):
        reply = caller.receive()
        assert reply.result == ends[wanted.pop(reply.correlation)[1]]
    assert not wanted


def test_every_hop_tells_with_the_correlation(bus, caller, connect):
    events = connect(bus)
    events.subscribe("rantai/event/+/hop", qos=1)
    caller.call(BANDUNG, "hello", CorrelationData=b"this trip")
    told = [events.receive() for _ in range(4)]
    assert [message.topic for message in told] == [f"rantai/event/{city(c)}/hop" for c in [*RING, "bandung"]]
    assert {message.properties["CorrelationData"] for message in told} == {b"this trip"}
    assert not any(message.retain or message.qos for message in told)
    for message in told:
        assert type(json.loads(message.payload)) is dict


def test_what_one_link_sends_the_next(bus, caller, connect):
    spy = connect(bus)
    spy.subscribe(*(f"rantai/call/{city(name)}/process" for name in ("lembang", "subang")), qos=1)
    caller.call(BANDUNG, "subang", CorrelationData=b"c" * 20, user={"ttl_ms": "9000"})
    first, second = spy.receive(), spy.receive()
    passed = []
    for message, name in ((first, "bandung"), (second, "lembang")):
        passed.append(name)
        assert message.topic == f"rantai/call/{city({'bandung': 'lembang', 'lembang': 'subang'}[name])}/process"
        properties, user = message.properties, dict(message.properties["UserProperty"])
        assert (message.qos, message.retain) == (1, False)
        assert properties["ResponseTopic"] == caller.reply_topic(city("bandung"))
        assert properties["CorrelationData"] == b"c" * 20
        trail = json.loads(user["trail"])
        assert [set(item) for item in trail] == [{"node", "us"}] * len(passed)
        assert [item["node"] for item in trail] == passed
        assert all(type(item["us"]) is int and item["us"] >= 0 for item in trail)
        assert 7000 < int(user["ttl_ms"]) <= 9000
        assert json.loads(message.payload) == [["subang", *passed], [f"telah melewati {one}" for one in passed]]


def test_a_request_in_json_rpc_form_is_passed_on_in_that_form(bus, caller, connect):
    spy = connect(bus)
    spy.subscribe(f"rantai/call/{city('lembang')}/#", qos=1)
    sent = {"jsonrpc": "2.0", "id": "mine", "method": "process", "params": ["lembang"], "ttl_ms": 9000}
    answer = caller.call(city("bandung"), sent).json
    assert (answer["id"], answer["result"][-1]) == ("mine", "selesai pada lembang")
    message = spy.receive()
    assert message.topic == f"rantai/call/{city('lembang')}"
    passed = json.loads(message.payload)
    assert (passed["jsonrpc"], passed["id"], passed["method"]) == ("2.0", "mine", "process")
    assert passed["params"] == [["lembang", "bandung"], ["telah melewati bandung"]]
    assert 7000 < passed["ttl_ms"] <= 9000
    assert [item["node"] for item in passed["trail"]] == ["bandung"]
    assert message.properties["ResponseTopic"] == caller.reply_topic(city("bandung"))


# Wrong messages


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ('{"a":1}', -32602),
        ("[5]", -32602),
        ("[[5]]", -32602),
        ('[["x",null]]', -32602),
        ('[["x"],["y"],["z"]]', -32602),
        ('{"message":{"a":1}}', -32602),
        (b"\xff\xfe", -32700),
        ("[" * 65 + "]" * 65, -32600),
        ("x" * 102_400, -32007),
        (json.dumps([["x" * 1024] * 100]), -32007),
    ],
)
def test_a_wrong_message_is_answered(caller, payload, code):
    reply = caller.call(BANDUNG, payload)
    assert (reply.code, reply.node) == (code, "bandung")
    assert caller.call(BANDUNG, "bandung").result == ["selesai pada bandung"]


def test_a_binary_message(caller):
    assert caller.call(BANDUNG, b"hello", ContentType="application/octet-stream").code == -32602


# The trail


@pytest.mark.parametrize(("before", "end"), [(14, "subang"), (15, "lembang"), (16, "bandung")])
def test_the_trail_limit(caller, before, end):
    reply = caller.call(BANDUNG, "hello", user={"trail": hops(before)})
    assert (reply.code, reply.node) == (-32009, end)
    # Who refuses is the last item.
    passed = list(RING[: 17 - before])
    assert [item["node"] for item in reply.error["data"]["trail"]] == [f"x{n}" for n in range(before)] + passed
    assert reply.error["data"]["retryable"] is False


def test_below_the_trail_limit(caller):
    assert caller.call(BANDUNG, "hello", user={"trail": hops(13)}).result == ROUND
    assert caller.call(BANDUNG, "bandung", user={"trail": hops(16)}).result == ["selesai pada bandung"]


def test_the_trail_limit_in_json_rpc(caller):
    sent = {"jsonrpc": "2.0", "id": 3, "method": "process", "params": ["hello"], "trail": json.loads(hops(16))}
    answer = caller.call(city("bandung"), sent).json
    check_error(answer["error"])
    assert (answer["id"], answer["error"]["code"], len(answer["error"]["data"]["trail"])) == (3, -32009, 17)


def test_a_trail_that_grows_beyond_4_kib(caller):
    trail = json.dumps([{"node": "x" * 4060, "us": 1}], separators=(",", ":"))
    assert len(trail) < 4096
    assert caller.call(BANDUNG, "hello", user={"trail": trail}).code == -32009


def test_a_trail_of_more_than_4_kib(caller):
    trail = json.dumps([{"node": "x" * 400, "us": 1}] * 12)
    assert len(trail) > 4096
    assert caller.call(BANDUNG, "hello", user={"trail": trail}).code == -32009


# A dead hop


def test_a_dead_hop(bus, caller, watch):
    seen = watch("rantai/node/lembang", f"rantai/name/{city('lembang')}/+")
    seen.value("rantai/node/lembang", state="ready")
    others = {name: bus.city(name).process.pid for name in ("bandung", "subang")}
    bus.city("lembang").kill()
    try:
        seen.value("rantai/node/lembang", state="lost")
        for start, trail in (("bandung", ["bandung"]), ("subang", ["subang", "bandung"])):
            reply = caller.call(f"{city(start)}/process", "hello")
            error = reply.error
            assert (error["code"], reply.node) == (-32010, "bandung")
            assert error["data"]["hop"] == city("lembang")
            assert [item["node"] for item in error["data"]["trail"]] == trail
        assert caller.call(BANDUNG, "bandung").result == ["selesai pada bandung"]
        sent = {"jsonrpc": "2.0", "id": 5, "method": "process", "params": ["hello"]}
        answer = caller.call(city("bandung"), sent).json
        assert (answer["id"], answer["error"]["code"]) == (5, -32010)
    finally:
        bus.restart("lembang")
    assert caller.call(BANDUNG, "hello").result == ROUND
    assert {name: bus.city(name).process.pid for name in others} == others
    assert all(bus.city(name).process.poll() is None for name in others)


# A device: paho, and PROTOCOL.md


class Device:
    """A city in another language: it claims its name, serves `process` and forwards trips."""

    def __init__(self, broker, root, object, name, next, epoch=None):
        self.root, self.object, self.name, self.next = root, object, name, next
        self.node = f"device-{name}"
        self.epoch = epoch or uuid.uuid4().hex
        self.seen = []
        gone = json.dumps({"v": 1, "state": "lost", "epoch": self.epoch}).encode()
        self.client = Client(broker, self.node, will=Will(self.state_topic, gone, 1, True))
        assert self.client.connect().reason == 0

    @property
    def state_topic(self):
        return f"{self.root}/node/{self.node}"

    @property
    def entry_topic(self):
        return f"{self.root}/name/{self.object}/{self.node}"

    def say(self, state):
        told = json.dumps({"v": 1, "state": state, "epoch": self.epoch}) if state else b""
        day = {"MessageExpiryInterval": 86_400} if state else {}
        self.client.publish(self.state_topic, told, qos=1, retain=True, **day)

    def enter(self, settled):
        told = {"v": 1, "object": self.object, "node": self.node, "epoch": self.epoch, "mode": "exclusive"}
        told |= {"settled": settled, "version": "1.0.0", "summary": "A device", "tags": [], "methods": ["process"], "events": ["hop"]}
        self.client.publish(self.entry_topic, json.dumps(told), qos=1, retain=True, MessageExpiryInterval=86_400)

    def subscribe(self):
        filters = [
            f"$share/{self.object}/{self.root}/call/{self.object}/#",
            f"{self.root}/at/{self.node}/#",
            f"{self.root}/all/{self.object}/#",
        ]
        assert self.client.subscribe(*filters, qos=1, handling=2) == [1, 1, 1]

    def start(self):
        """Starts as the contract requires, without waiting a second for other claims, because no other node wants the
        name here."""
        self.say("ready")
        self.enter(False)
        self.subscribe()
        self.enter(True)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def stop(self):
        self.say("draining")
        self.client.messages.put(None)
        self.thread.join(PATIENCE)
        self.client.publish(self.entry_topic, b"", qos=1, retain=True)
        self.say(None)
        self.client.close()

    def _serve(self):
        while (message := self.client.messages.get()) is not None:
            self._process(message)

    def _process(self, message):
        self.seen.append(message)
        user = dict(message.properties.get("UserProperty", []))
        reply = message.properties.get("ResponseTopic", f"{self.root}/reply/{self.object}")
        same = {key: message.properties[key] for key in ("CorrelationData",) if key in message.properties}
        try:
            params = json.loads(message.payload) if message.payload else []
        except ValueError:
            params = message.payload.decode()
        params = params if isinstance(params, list) else [params]
        text, result = (*params, [], [])[:2]
        text = [text] if isinstance(text, str) else text
        self.client.publish(f"{self.root}/event/{self.object}/hop", b'{"from":"a device"}', wait=False, **same)
        if self.name in text:
            answer = json.dumps([*result, f"device closes at {self.name}"])
            told = [("status", "ok"), ("node", self.node)]
            self.client.publish(reply, answer, qos=1, wait=False, UserProperty=told, **same)
            return
        trail = json.loads(user.get("trail", "[]")) + [{"node": self.name, "us": 1}]
        onward = [("ttl_ms", user.get("ttl_ms", "30000")), ("trail", json.dumps(trail))]
        self.client.publish(
            f"{self.root}/call/{self.next}/process",
            json.dumps([[*text, self.name], [*result, f"device passes {self.name}"]]),
            qos=1,
            wait=False,
            ResponseTopic=reply,
            UserProperty=onward,
            **same,
        )


@pytest.fixture
def device(bus):
    made = []

    def make(*arguments, **options):
        made.append(Device(bus.broker, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.client.messages.put(None)
        one.client.close()


LINK = """
[[chain]]
prefix = "ring."
name = "{name}"
next = "{next}"
started = "{{name}}"
passing = "through {{name}}"
closing = "end at {{name}}"
passing_lines = []
closing_lines = []
"""


@pytest.fixture
def link(serve, name, tmp_path):
    """Serves links of ours, given as name and next link, whose next link is a device."""

    def start(**links):
        config = tmp_path / "nodes.toml"
        config.write_text("".join(LINK.format(name=own, next=next) for own, next in links.items()))
        return serve(*(f"ring.{own}" for own in links), root=name, config=config)

    return start


def test_a_device_is_a_link_of_a_chain(link, device, name, make_caller, watch):
    link(kota="desa")
    caller = make_caller(root=name)
    reply = caller.call("ring.kota/process", "hello")
    assert (reply.code, reply.error["data"]["hop"]) == (-32010, "ring.desa")

    desa = device(name, "ring.desa", "desa", "ring.kota")
    desa.start()
    events = watch(f"{name}/name/ring.desa/+")
    events.value(desa.entry_topic, settled=True)
    assert caller.call("ring.kota/process", "hello").result == ["through kota", "device passes desa", "end at kota"]
    reply = caller.call("ring.kota/process", "desa", CorrelationData=b"d" * 64)
    assert (reply.result, reply.node) == (["through kota", "device closes at desa"], "device-desa")
    assert caller.call("ring.desa/process", "x").result == ["device passes desa", "through kota", "device closes at desa"]
    assert caller.call("ring.desa/process", "kota").result == ["device passes desa", "end at kota"]
    assert caller.call("device-desa/ring.desa/process", "desa", via="at").result == ["device closes at desa"]

    # The device leaves in good order, and is back.
    desa.stop()
    assert caller.call("ring.kota/process", "desa").error["data"]["hop"] == "ring.desa"
    desa = device(name, "ring.desa", "desa", "ring.kota")
    desa.start()
    assert caller.call("ring.kota/process", "desa").result == ["through kota", "device closes at desa"]

    # The device dies: its will says so, and the link before it knows.
    desa.client.cut()
    watch(f"{name}/node/+").value(desa.state_topic, state="lost")
    reply = caller.call("ring.kota/process", "hello")
    assert (reply.code, reply.error["data"]["hop"]) == (-32010, "ring.desa")
    assert [item["node"] for item in reply.error["data"]["trail"]] == ["kota"]


def test_a_hop_that_somebody_listens_to_and_nobody_serves(bus, link, device, name, make_caller, connect):
    """PUBACK is 0x00 then; the registry shows that the next hop is not served."""
    link(one="lost", two="epoch", three="missing", four="nobody")
    connect(bus).subscribe(f"{name}/call/#", qos=1)
    for what in ("lost", "epoch", "missing"):
        next = device(name, f"ring.{what}", what, "ring.one")
        if what == "lost":
            next.say("lost")
        if what == "epoch":
            next.say("ready")
            next.epoch = "another"
        next.enter(True)
    caller = make_caller(root=name)
    wanted = {}
    for own, next in {"one": "lost", "two": "epoch", "three": "missing", "four": "nobody"}.items():
        caller.send(f"ring.{own}/process", "hello", CorrelationData=own.encode())
        wanted[own.encode()] = f"ring.{next}"
    got = {}
    for _ in wanted:
        reply = caller.receive()
        assert reply.code == -32010
        got[reply.correlation] = reply.error["data"]["hop"]
    assert got == wanted


def test_a_device_holds_its_name(device, serve, name, make_caller):
    holder = device(name, "echo", "x", "echo")
    holder.start()
    newcomer = serve("echo", root=name, serving=[])
    assert newcomer.exit_code() == 1
    assert "device-x" in "".join(newcomer.log), newcomer.log


def test_a_device_that_is_not_there_holds_no_name(device, serve, name, make_caller, tmp_path):
    ways = ("lost", "epoch", "missing", "unsettled")
    for what in ways:
        # Unsettled and later than the newcomer's: beaten by it.
        holder = device(name, what, what, "nowhere", epoch="zzzz" if what == "unsettled" else None)
        if what != "missing":
            holder.say("lost" if what == "lost" else "ready")
        if what == "epoch":
            holder.epoch = "another"
        holder.enter(what != "unsettled")
    config = tmp_path / "nodes.toml"
    config.write_text("".join(f'[[echo]]\nname = "{what}"\n' for what in ways))
    node = serve(root=name, config=config, serving=ways)
    caller = make_caller(root=name)
    assert {caller.call(f"{what}/echo", "1").node for what in ways} == {node.node}


def test_of_two_settled_holders_the_lower_stays(device, serve, name, watch, make_caller):
    """As after a network split: the holder with the higher epoch withdraws, at any time."""
    node = serve("echo", root=name, node="ours")
    seen = watch(f"{name}/name/echo/+", f"{name}/node/+")
    seen.value(f"{name}/name/echo/ours", settled=True)
    higher = device(name, "echo", "high", "echo", epoch="zzzz")
    higher.say("ready")
    higher.enter(True)
    assert make_caller(root=name).call("echo/echo", "1").node == "ours"
    lower = device(name, "echo", "low", "echo", epoch="0")
    lower.say("ready")
    lower.enter(True)
    seen.cleared(f"{name}/name/echo/ours")
    assert (f"{name}/name/echo/ours", None) not in seen.history[:-1]


def test_a_device_calls(bus, connect, name):
    """The minimum that a caller has to do, in MQTT 3.1.1: subscribe, publish, compare the id."""
    board = connect(bus, name, version=4)
    board.subscribe(f"rantai/reply/+/{name}", qos=1)
    for number, (object, method, params, result) in enumerate(
        [
            ("calculator", "add", [2, 3], 5),
            ("server", "welcomeMessage", ["Dune"], "Buku dengan judul Dune berhasil dibeli!"),
            (city("lembang"), "process", ["subang"], ["telah melewati lembang", "selesai pada subang"]),
        ]
    ):
        sent = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        sent |= {"reply_to": f"rantai/reply/{object}/{name}", "ttl_ms": 5000}
        board.publish(f"rantai/call/{object}", json.dumps(sent), qos=1)
        assert json.loads(board.receive().payload) == {"jsonrpc": "2.0", "id": number, "result": result}
