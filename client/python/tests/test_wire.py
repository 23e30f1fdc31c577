"""The wire contract, without a broker."""

import json

import pytest

import rantai
from rantai.wire import reply, request, text
from rantai.wire.entry import Accepted, Entry, NodeState
from rantai.wire.message import BINARY, Message, Properties
from rantai.wire.reply import JsonRpc
from rantai.wire.topics import BadTopic, CallTopic, EventTopic, NameTopic, NodeTopic, Topics

TOPICS = Topics("home/at/office")


def nested(levels):
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"5.0", 5.0),
        (b"9007199254740993.0", 9007199254740993),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b'"\\ud83d\\ude00"', "😀"),
        (nested(64), None),
        (b'"[[["', "[[["),
    ],
)
def test_json_that_is_read(payload, value):
    assert value is None or text.read(payload) == value
    assert text.read(payload) is not False


@pytest.mark.parametrize(
    "payload",
    [
        b'["\\ud83d"]', b'"\\ude00"', b'{"\\ud83dx":1}', b"1e400", b"[-1e400]", b'{"a":1,"a":2}',
        b'[{"b":{"a":1,"\\u0061":1}}]', b"[1]x", b"[1][2]", b"[1,]", b"[NaN]", b"['a']", b"\xef\xbb\xbf[1]",
        b" \t\r\n{", b'["a\nb"]', b"[Infinity]", b"[" * 100_000,
    ],
)  # fmt: skip
def test_json_that_the_contract_does_not_take_is_no_text(payload):
    with pytest.raises(text.NotJson):
        text.read(payload)
    assert not text.is_plain_text(payload.decode())


def test_json_that_is_too_deep_is_no_request():
    with pytest.raises(text.TooDeep) as deep:
        text.read(nested(65))
    assert text.fault(deep.value).code == -32600


@pytest.mark.parametrize("words", ["Dune", "é[", "2 weeks", "1e", '"Dune" is a book', "-", "NaN", "1,5", "01", "x]"])
def test_words_are_text(words):
    with pytest.raises(text.NotJson):
        text.read(words.encode())
    assert text.is_plain_text(words)
    assert request.plain_params(words.encode()) == request.One(words, words)


def test_values_are_written_so_that_every_reader_takes_them():
    value = [2**53 - 1, 2**53, {"a": -(2**53)}, 1.5, 5.0, 1e300, True, None, "é"]
    written = text.write(text.portable(value)).decode()
    assert written == '[9007199254740991,"9007199254740992",{"a":"-9007199254740992"},1.5,5,1e+300,true,null,"é"]'
    for wrong in (float("nan"), float("inf"), [[float("inf")]]):
        with pytest.raises(ValueError):
            text.portable(wrong)
    with pytest.raises(TypeError):
        text.portable({1: 2})
    deep = []
    for _ in range(64):
        deep = [deep]
    with pytest.raises(ValueError):
        text.portable(deep)


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        ("call/calc/add", CallTopic("call", "calc", "add")),
        ("call/calc", CallTopic("call", "calc")),
        ("all/example.a/rpc.ping", CallTopic("all", "example.a", "rpc.ping")),
        ("at/pi-east/calc/add", CallTopic("at", "calc", "add", "pi-east")),
        ("reply/calc/me", None),
    ],
)
def test_topics_of_calls(topic, parsed):
    assert TOPICS.parse_call(f"home/at/office/{topic}") == parsed
    assert parsed is None or parsed.format(TOPICS.root) == f"home/at/office/{topic}"
    assert TOPICS.parse_call(topic) is None


@pytest.mark.parametrize("topic", ["call/calc/add/more", "call/a+b/x", "at", "at/pi", "call/", "call/calc/a-b"])
def test_topics_that_are_none_of_the_contract(topic):
    with pytest.raises(BadTopic):
        TOPICS.parse_call(f"home/at/office/{topic}")


def test_other_topics():
    root = TOPICS.root
    assert TOPICS.parse_registry(f"{root}/name/calc/pi") == NameTopic("calc", "pi")
    assert TOPICS.parse_registry(f"{root}/node/pi") == NodeTopic("pi")
    assert TOPICS.parse_registry(f"{root}/node/pi.east") is None
    assert TOPICS.parse_event(f"{root}/event/calc/changed") == EventTopic("calc", "changed")
    assert TOPICS.parse_event(f"{root}/event/calc/progress/me") == EventTopic("calc", "progress", "me")
    assert TOPICS.call_filters("calc") == (f"$share/calc/{root}/call/calc/#", f"{root}/all/calc/#")
    for good in (f"{root}/reply/calc/me", f"{root}/reply/calc", f"{root}/reply/a/b/c"):
        assert TOPICS.is_reply_topic(good)
    for bad in (f"{root}/call/x", f"{root}/reply/", f"{root}/reply/+/me", f"{root}/reply/{'x/' * 200}", "reply/x"):
        assert not TOPICS.is_reply_topic(bad)


@pytest.mark.parametrize("root", ["", "a//b", "#", "a/" * 65 + "a", "é"])
def test_roots_that_are_none(root):
    with pytest.raises(ValueError):
        Topics(root)


def asked(payload=b"", topic="call/calc/add", features=(), **properties):
    parsed = TOPICS.parse_call(f"{TOPICS.root}/{topic}")
    return request.read(TOPICS, parsed, Message("", payload, Properties(**properties)), frozenset(features))


def refusal(*args, **properties):
    with pytest.raises(request.Refused) as refused:
        asked(*args, **properties)
    return refused.value


def test_a_plain_request():
    plain = asked(b"[2,3]", response_topic=f"{TOPICS.root}/reply/calc/me", correlation=b"k" * 16, expiry=2)
    assert (plain.method, plain.params, plain.form, plain.ttl_ms) == ("add", [2, 3], None, 2000)
    assert plain.identity() == (f"{TOPICS.root}/reply/calc/me", b"k" * 16, 0)
    assert asked().reply_to == f"{TOPICS.root}/reply/calc" and asked().ttl_ms == 30_000
    assert asked(b"\xff", content_type=BINARY).params == b"\xff"
    assert asked(user=[("oneway", "1")]).reply_to is None
    assert refusal(b"\xff").fault.code == -32700


@pytest.mark.parametrize(
    ("user", "expiry", "ttl_ms"),
    [
        ([("ttl_ms", "1500")], 2, 1500),
        ([("ttl_ms", "5000")], 2, 2000),
        ([("ttl_ms", "99999999")], None, 3_600_000),
        ([("ttl_ms", "0")], None, 0),
    ],
)
def test_the_deadline_is_the_lower_of_both(user, expiry, ttl_ms):
    assert asked(user=user, expiry=expiry).ttl_ms == ttl_ms


def test_malformed_properties_are_wrong_parameters():
    for wrong in ("x", "-1", "1.5", ""):
        fault = refusal(user=[("ttl_ms", wrong)]).fault
        assert fault.code == -32602 and fault.data["path"] == "ttl_ms"
    assert refusal(user=[("trail", "{}")]).fault.data["path"] == "trail"
    assert refusal(user=[("trail", "[" + " " * 5000 + "]")]).fault.code == -32009


def test_who_calls_counts_only_where_the_broker_vouches_for_it():
    user = [("caller", "ada"), ("via", "gate")]
    assert asked(user=user).caller is None and asked(user=user).via is None
    vouched = asked(user=user, features={"caller", "grants"})
    assert (vouched.caller, vouched.via) == ("ada", "gate")


def test_a_reply_topic_elsewhere_is_not_answered():
    for wrong in ("elsewhere", f"{TOPICS.root}/reply/+", f"{TOPICS.root}/call/calc/add"):
        with pytest.raises(request.Silent):
            asked(response_topic=wrong)
    with pytest.raises(request.Silent):
        asked(correlation=b"k" * 65)


def rpc(**members):
    return json.dumps(members).encode()


def test_a_json_rpc_request():
    members = {"id": "k" * 16, "method": "add", "params": {"a": 1}, "ttl_ms": 7, "trail": [{"node": "x"}]}
    parsed = asked(rpc(**members, reply_to=f"{TOPICS.root}/reply/calc/dev"), topic="call/calc")
    assert parsed.form == JsonRpc("k" * 16) and parsed.params == {"a": 1} and parsed.ttl_ms == 7
    assert parsed.identity() == (f"{TOPICS.root}/reply/calc/dev", b"k" * 16, 1)
    assert asked(rpc(method="add"), topic="call/calc").reply_to is None, "a notification"
    granted = asked(rpc(**members, reply_to=f"{TOPICS.root}/reply/calc/dev"), topic="call/calc", features={"grants"})
    assert granted.reply_to == f"{TOPICS.root}/reply/calc"
    for wrong in (
        b"[]",
        b"7",
        rpc(id=1),
        rpc(id=[], method="a"),
        rpc(id=1, method="a b"),
        rpc(id=1, method="a", params=7),
    ):
        assert refusal(wrong, "call/calc").fault.code == -32600, wrong
    assert refusal(b"{", "call/calc").fault.code == -32700


def test_replies_in_both_forms():
    assert reply.result({"a": 5.0}, None, 100).payload == b'{"a":5}'
    assert reply.result(None, JsonRpc(7), 100).payload == b'{"jsonrpc":"2.0","id":7,"result":null}'
    assert reply.result(b"\xff", None, 100).properties("pi", b"k").content_type == BINARY
    assert reply.result(b"\xff", JsonRpc(1), 100).status == "-32600"
    assert reply.result("x" * 200, None, 100).status == "-32007"
    assert reply.result(object(), None, 100).status == "-32603"
    failed = reply.error(rantai.Failed("division_by_zero", "b is 0"), None)
    assert failed.payload == (
        b'{"error":{"code":-32000,"message":"b is 0",'
        b'"data":{"retryable":false,"kind":"division_by_zero","detail":"b is 0"}}}'
    )
    assert failed.again().properties("pi", None).user == [("status", "-32000"), ("node", "pi"), ("dup", "1")]


def test_a_reply_is_read_by_its_status():
    def read(payload, *user):
        return reply.read(payload, Properties(correlation=b"k", user=list(user)))

    looks_like_an_error = b'{"error":{"code":-32000}}'
    assert read(looks_like_an_error, ("status", "ok")) == {"error": {"code": -32000}}
    with pytest.raises(rantai.Failed):
        read(looks_like_an_error)
    with pytest.raises(rantai.BrokenObject):
        read(b"{", ("status", "ok"))
    with pytest.raises(rantai.BrokenObject):
        read(b'{"error":7}', ("status", "-32000"))
    assert read(b"") == b""
    with pytest.raises(rantai.Fault) as unknown:
        read(b'{"error":{"code":-32099,"data":{"retryable":true}}}', ("status", "-32099"))
    assert type(unknown.value) is rantai.Fault and not unknown.value.retryable
    # Without Correlation Data it is in JSON-RPC form.
    assert reply.read(b'{"jsonrpc":"2.0","id":7,"result":[5]}', Properties(user=[("status", "ok")])) == [5]
    with pytest.raises(rantai.Failed):
        reply.read(looks_like_an_error, Properties(user=[("status", "ok")]))


def test_entries_and_states():
    claim = Entry("calc", "pi", "00", "exclusive", True, "1.0", "Sums.", ["math"], ["add"], ["changed"])
    assert Entry.read("calc", "pi", claim.write()) == claim
    assert Entry.read("other", "pi", claim.write()).object == "other", "the topic wins"
    for wrong in (b"", b"7", b'{"v":2,"epoch":"0"}', b'{"v":1}', b'{"v":1,"epoch":"0","mode":"x"}', b"x" * 20_000):
        assert Entry.read("calc", "pi", wrong) is None
    with pytest.raises(ValueError, match="16384 are the limit"):
        Entry("calc", "pi", "00", summary="x" * 17_000).write()
    assert NodeState.read(NodeState("ready", "00").write()) == NodeState("ready", "00")
    assert NodeState.read(b'{"v":1,"state":"asleep","epoch":"0"}') is None
    assert Accepted.read(b'{"node":"pi","epoch":"00"}') == Accepted("pi", "00") and Accepted.read(b"[]") is None


def test_settled_beats_unsettled_and_of_equals_the_lower_epoch_wins():
    low, high = Entry("x", "b", "1"), Entry("x", "a", "2")
    assert low.beats(high) and not high.beats(low)
    assert Entry("x", "a", "2", settled=True).beats(low)
    assert Entry("x", "a", "1").beats(low) and not low.beats(low)
