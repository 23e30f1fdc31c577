"""Calls that take long: deadlines, cancel, acceptance, progress, and places."""

import time

import objects
import pytest
import support

import rantai


@pytest.fixture
def slow(node, name):
    node.serve(objects.Slow(), name)
    return name


def _counts(client, slow, **expected):
    support.eventually(lambda: client[slow].counts().items() >= expected.items())


def test_a_deadline_passes_at_the_caller_and_at_the_node(client, slow):
    for method in ("wait", "async_wait"):
        before = client[slow].counts()
        with pytest.raises(rantai.TimedOut):
            client[slow](deadline=0.5).method(method)(60)
        _counts(client, slow, cancelled=before["cancelled"] + 1, ended=before["ended"])


def test_a_time_limit_of_a_method_is_told(client, slow):
    with pytest.raises(rantai.TimedOut, match="longer than its time limit"):
        client[slow].limited()


@pytest.mark.parametrize("method", ["wait", "async_wait"])
def test_cancel_reaches_the_method_once(client, slow, method):
    call = client[slow].method(method).start(60)
    _counts(client, slow, started=1)
    assert call.cancel() and call.cancelled()
    _counts(client, slow, cancelled=1, ended=0)
    assert not call.cancel() or client[slow].counts()["cancelled"] == 1
    stats = client[slow].method("rpc.stats")()
    assert stats["methods"][method]["in_flight"] == 0 and stats["methods"][method]["last_error"]["code"] == -32008


def test_rpc_cancel_is_true_once_and_the_call_ends(wire, slow, client):
    reply_to, key = f"rantai/reply/{slow}/wire", b"0123456789abcdef"
    wire.subscribe(reply_to)
    wire.publish(f"rantai/call/{slow}/wait", b"[60]", response_topic=reply_to, correlation=key)
    _counts(client, slow, started=1)
    for other in (f"rantai/reply/{slow}/other",):
        # Somebody else's reply topic.
        wire.publish(f"rantai/all/{slow}/rpc.cancel", f'["{key.hex()}"]'.encode(), response_topic=other)
    assert client[slow].counts()["cancelled"] == 0
    for _ in range(2):
        wire.publish(
            f"rantai/all/{slow}/rpc.cancel", f'["{key.hex()}"]'.encode(), response_topic=reply_to, correlation=b"c"
        )
    answers = [wire.next() for _ in range(3)]
    ended = [a for a in answers if a.properties.correlation == key]
    assert [a.properties.get("status") for a in ended] == ["-32008"]
    assert [a.payload for a in answers if a.properties.correlation == b"c"] == [b"true", b"false"]


def test_a_call_that_waits_is_accepted_and_tells_its_progress(client, slow, wire):
    seen = []
    assert client[slow](on_progress=seen.append).wait(1.0)
    assert seen[0] == rantai.Progress(0, 10, "waiting") and seen[-1].done == 9
    key, client_id = b"0123456789abcdef", "wire-1"
    wire.subscribe(f"rantai/event/{slow}/accepted/{client_id}")
    wire.publish(f"rantai/call/{slow}/wait", b"[3]", response_topic=f"rantai/reply/{slow}/{client_id}", correlation=key)
    accepted = wire.next()
    assert accepted.properties.correlation == key and accepted.qos == 0


def test_rantai_call_shows_ctrl_c_to_the_method(client, slow, broker, process):
    import signal

    call = process(support.Process(support.rantai(), "call", f"{slow}.wait", "60", "--broker", broker.url))
    _counts(client, slow, started=1)
    call.signal(signal.SIGINT)
    assert call.wait() == 130
    _counts(client, slow, cancelled=1, ended=0)


def test_a_busy_object_says_so(client, slow):
    # 8 places, of which one caller gets 6: while it holds fewer than twice as many as are free.
    calls = [client[slow].async_wait.start(60) for _ in range(12)]
    refused = [call for call in calls[6:] if isinstance(call.exception(support.PATIENCE), rantai.Busy)]
    assert len(refused) == 6
    assert refused[0].exception().data["retry_after_ms"] > 0 and refused[0].exception().retryable
    assert not any(call.done() for call in calls[:6])
    for call in calls[:6]:
        call.cancel()
    support.eventually(lambda: _free(client, slow))
    assert client[slow].method("rpc.stats")()["shares"][0]["refused"] == 6


def _free(client, slow):
    return client[slow].method("rpc.stats")()["shares"][0]["taken"] == 0


def test_a_request_whose_time_is_over_is_not_carried_out(wire, slow, client):
    reply_to = f"rantai/reply/{slow}/wire"
    wire.subscribe(reply_to)
    wire.publish(f"rantai/call/{slow}/wait", b"[0]", response_topic=reply_to, user=[("ttl_ms", "0")])
    wire.publish(f"rantai/call/{slow}/wait", b"[0]", response_topic=reply_to, correlation=b"2", user=[("ttl_ms", "x")])
    refused = wire.next()
    assert refused.properties.correlation == b"2" and refused.properties.get("status") == "-32602"
    assert client[slow].counts()["started"] == 0


def test_what_an_object_calls_belongs_to_the_call(client, node, name):
    node.serve(objects.Calc(), name)
    node.serve(objects.Outer(), f"{name}.outer")
    assert client[f"{name}.outer"].through(name, 2, 3) == 5
    assert client[f"{name}.outer"](deadline=5.0).left(name) <= 5.0


def test_objects_that_call_each_other_in_a_circle_end_at_the_limit_of_the_trail(client, node):
    @rantai.object(threads=32)
    class Circle(objects.Outer):
        def circle(self) -> None:
            context = rantai.context()
            context.client[context.object].circle()

    node.serve(Circle(), "py.circle")
    with pytest.raises(rantai.TrailLimit):
        client["py.circle"].circle()


def test_a_call_without_a_connection_waits_for_one(own_broker, tmp_path):
    broker = support.Broker("rantai", tmp_path)
    with rantai.Client(broker.url) as client:
        broker.kill()
        began = time.monotonic()
        with pytest.raises((rantai.Expired, rantai.NodeLost)):
            client["py.calc"](deadline=1.0).add(1, 2)
            client["py.calc"](deadline=1.0).add(1, 2)
        assert time.monotonic() - began < 30
