"""Tables and state machines, without a broker: times are given."""

import threading
import time
from typing import Dict, List, Literal, NamedTuple, Optional, Tuple

import pytest

import rantai
from rantai import duplicates
from rantai.claim import Announce, AskToYield, Claim, DeclareLost, Ping, Report, Subscribe, Wake, Watch, Withdraw
from rantai.doubles import Doubles
from rantai.duplicates import Duplicates
from rantai.loop import Loop
from rantai.schema import Codecs
from rantai.shares import Shares
from rantai.suspicion import Seen, Suspicion, Watched
from rantai.view import View
from rantai.wire.entry import Accepted, Entry, NodeState
from rantai.wire.reply import Reply
from rantai.wire.topics import Topics

IDENTITY = ("rantai/reply/x/me", b"k" * 16, 0)


def test_duplicates_are_recognised_by_method_and_payload():
    table = Duplicates()
    assert table.meet(IDENTITY, "add", b"1", 10.0, 0.0) == duplicates.NEW
    assert table.meet(IDENTITY, "add", b"1", 10.0, 1.0) == duplicates.RUNNING
    assert table.meet(IDENTITY, "add", b"2", 10.0, 1.0) == duplicates.OTHER
    answer = Reply(b"3", "ok")
    table.finish(IDENTITY, answer, 2.0)
    assert table.meet(IDENTITY, "add", b"1", 10.0, 59.0) is answer
    assert table.meet(IDENTITY, "add", b"1", 10.0, 61.0) == duplicates.NEW, "a minute is over"
    table.withdraw(IDENTITY)
    assert len(table) == 0


def test_duplicates_are_bounded_and_large_replies_are_not_kept():
    table = Duplicates()
    table.meet(IDENTITY, "add", b"1", 10.0, 0.0)
    table.finish(IDENTITY, Reply(b"x" * 5_000, "ok"), 0.0)
    assert table.meet(IDENTITY, "add", b"1", 10.0, 0.0) == duplicates.FORGOTTEN
    for number in range(20_000):
        identity = ("t", number.to_bytes(16, "big"), 0)
        table.meet(identity, "add", b"", 1000.0, 0.0)
        table.finish(identity, Reply(b"x" * 4_000, "ok"), 0.0)
    assert len(table) * 4_000 <= duplicates.KEPT + 4_000


def test_one_caller_gets_two_thirds_of_the_places_and_another_the_rest():
    places = Shares(9)
    one, two = ("client", "one"), ("client", "two")
    assert [places.take(one) for _ in range(8)] == [True] * 6 + [False] * 2
    assert places.take(two) and places.take(two) and not places.take(two)
    places.give_back(one)
    assert places.report("calls", None)["top"][0] == {"caller": 'client "one"', "held": 5}
    small = Shares(2)
    assert small.take(one) and small.take(one) and not small.take(two)
    users = Shares(9)
    users.take(("user", "ada"))
    assert users.report("calls", "eve")["top"][0]["caller"] == "another user"
    assert users.report("calls", "ada")["top"][0]["caller"] == 'user "ada"'


def test_three_closed_connections_in_a_minute_are_another_node():
    doubles = Doubles()
    assert not doubles.other_start(False), "left behind by an earlier start"
    for now, expected in ((0.0, False), (29.0, False), (58.0, True)):
        doubles.closed(now)
        assert doubles.other_start(False) is expected
    patient = Doubles()
    ends = []
    for number in range(20):
        patient.closed(number * 15.0)
        ends.append(patient.other_start(True))
    assert ends.index(True) * 15.0 >= 180.0, "the lower one stays for three minutes"


class Registry:
    def __init__(self):
        self.entries = []

    def claims(self, now):
        return list(self.entries)


def machine(mode="exclusive", replace=False, epoch="5"):
    registry = Registry()
    return Claim(Entry("calc", "me", epoch, mode), registry, replace), registry


def test_a_name_that_nobody_claims_is_held_after_a_second():
    claim, _ = machine()
    assert claim.connected(0.0) == [Watch()]
    assert claim.quiet(0.1) == [Announce(False)]
    assert claim.announced(False, 0.2) == [Wake(1.2)]
    assert claim.woken(1.1) == []
    assert claim.woken(1.2) == [Subscribe()]
    assert claim.subscribed(1.3) == [Announce(True)]
    assert claim.announced(True, 1.4) == [Report(None)]
    assert claim.state == "held" and claim.stop() == [Withdraw()]


def test_a_replica_does_not_contest():
    claim, registry = machine("replica")
    registry.entries = [Entry("calc", "other", "1", "replica", True)]
    claim.connected(0.0)
    assert claim.quiet(0.1) == [Subscribe()]


def test_a_settled_holder_is_asked_whether_it_is_there():
    claim, registry = machine()
    holder = Entry("calc", "other", "9", settled=True)
    registry.entries = [holder]
    claim.connected(0.0)
    assert claim.quiet(0.1) == [Ping(holder)]
    assert claim.pinged(holder, True, 0.2) == [Wake(30.2), Report("other")]
    assert claim.woken(30.2) == [Wake(60.2), Ping(holder)]
    # It has died: its name is claimed.
    assert claim.pinged(holder, False, 33.2) == [DeclareLost(holder)]
    registry.entries = []
    assert claim.changed(33.3) == [Wake(pytest.approx(33.4))]
    assert claim.woken(33.5) == [Announce(False)]


def test_a_holder_that_does_not_answer_is_declared_lost():
    claim, registry = machine()
    holder = Entry("calc", "other", "9", settled=True)
    registry.entries = [holder]
    claim.connected(0.0)
    claim.quiet(0.1)

    class Gone(Registry):
        def claims(self, now):
            found, self.entries = self.entries, []
            return found

    claim._others = Gone()
    claim._others.entries = [holder]
    assert claim.pinged(holder, False, 3.1) == [DeclareLost(holder), Announce(False)]


def test_of_two_claims_the_lower_epoch_stays():
    claim, registry = machine(epoch="5")
    claim.connected(0.0)
    claim.quiet(0.1)
    claim.announced(False, 0.2)
    registry.entries = [Entry("calc", "other", "9")]
    assert claim.changed(0.5) == []
    registry.entries = [Entry("calc", "other", "1")]
    assert claim.changed(0.6) == [Withdraw(), Wake(5.6), Report("other")]
    assert claim.state == "waiting"


def test_a_holder_gives_way_to_a_lower_settled_one_at_any_time():
    claim, registry = machine(epoch="5")
    claim.connected(0.0)
    claim.quiet(0.1)
    claim.announced(False, 0.2)
    claim.woken(1.2)
    claim.subscribed(1.3)
    registry.entries = [Entry("calc", "other", "9", settled=True)]
    assert claim.announced(True, 1.4) == [Report(None)], "its own is the lower one"
    registry.entries = [Entry("calc", "other", "1", settled=True)]
    assert claim.changed(2.0)[0] == Withdraw() and claim.changed(2.0) == []


def test_a_name_that_was_given_up_is_claimed_again_where_nobody_else_does():
    claim, registry = machine()
    for step in (claim.quiet, lambda now: claim.announced(False, now), claim.woken, claim.subscribed):
        claim.connected(0.0) if claim.state == "offline" else None
        step(1.2)
        claim.woken(3.0)
    claim.announced(True, 3.1)
    assert claim.state == "held"
    registry.entries = [Entry("calc", "other", "9")]
    assert claim.yielded(10.0) == [Withdraw(), Wake(15.0)]
    registry.entries = []
    assert claim.changed(11.0) == [Wake(15.0)]
    assert claim.woken(15.0) == [Announce(False)]


def test_who_replaces_a_holder_asks_it_to_yield_and_gives_up_after_five_seconds():
    claim, registry = machine(replace=True)
    holder = Entry("calc", "other", "1", settled=True)
    registry.entries = [holder]
    claim.connected(0.0)
    claim.quiet(0.1)
    assert claim.pinged(holder, True, 0.2) == [Announce(False), AskToYield(holder), Wake(5.2)]
    registry.entries = []
    assert claim.changed(1.0) == [Announce(False)]
    stubborn, registry = machine(replace=True)
    registry.entries = [holder]
    stubborn.connected(0.0)
    stubborn.quiet(0.1)
    stubborn.pinged(holder, True, 0.2)
    assert Report("other") in stubborn.woken(5.2) and stubborn.state == "waiting"


class World:
    """What a caller sees of one object; the call is sent at 100 s."""

    def __init__(self, mode="exclusive"):
        self.watched = Watched(View(Topics("rantai")))
        self.seen = Seen("echo", 100.0)
        self.mode = mode

    def entry(self, node, settled=True, epoch="1"):
        self.watched.view.apply(f"rantai/name/echo/{node}", Entry("echo", node, epoch, self.mode, settled).write())

    def state(self, node, state, epoch="1"):
        payload = NodeState(state, epoch).write() if state else b""
        self.watched.view.apply(f"rantai/node/{node}", payload)

    def suspicion(self, after, accepted=None):
        return self.seen.suspicion(self.watched, accepted, 100.0 + after)


def test_an_object_that_nobody_serves_is_unknown_or_unserved():
    world = World()
    assert world.suspicion(0.26) == Suspicion("unknown")
    world.entry("pi")
    assert world.suspicion(0.26) == Suspicion("unserved")
    world.state("pi", "ready")
    assert world.suspicion(0.26) is None


@pytest.mark.parametrize(("gone", "kind"), [("lost", "lost"), (None, "cleared")])
def test_a_server_goes_away_while_a_call_waits(gone, kind):
    world = World()
    world.entry("pi")
    world.state("pi", "ready")
    assert world.suspicion(0.26) is None
    world.state("pi", "draining")
    assert world.suspicion(0.27) is None, "it finishes what it has"
    world.state("pi", gone)
    assert world.suspicion(0.28) == Suspicion(kind, "pi")
    world.state("pi", "ready")
    assert world.suspicion(0.29) is None, "it had lost its connection"


def test_of_several_replicas_the_one_that_has_the_call_says_so():
    world = World("replica")
    for node in ("one", "two"):
        world.entry(node)
        world.state(node, "ready")
    assert world.suspicion(0.26) is None
    world.state("one", "lost")
    assert world.suspicion(0.3) is None, "the other may have it"
    assert world.suspicion(0.75) == Suspicion("lost", "one"), "which would have said so"
    assert world.suspicion(0.75, Accepted("two", "1")) is None
    assert world.suspicion(0.75, Accepted("two", "0")) == Suspicion("lost", "two"), "of another start"


def test_a_server_that_was_started_again_has_no_call_from_before():
    world = World()
    world.entry("pi")
    world.state("pi", "ready")
    world.watched.since["pi"] = (100.1, False)
    assert world.suspicion(0.8) is None, "it has settled, and had done so before"
    world.watched.since["pi"] = (100.9, True)
    assert world.suspicion(1.9) == Suspicion("restarted", "pi")


def codec(hint):
    return Codecs().of(hint)


class Place(NamedTuple):
    name: str
    floor: int = 0


@pytest.mark.parametrize(
    ("hint", "value", "read"),
    [
        (int, 5.0, 5),
        (int, "9007199254740993", 9007199254740993),
        (float, 2, 2.0),
        (Optional[int], None, None),
        (List[int], [1, 2.0], [1, 2]),
        (Tuple[int, str], [1, "a"], (1, "a")),
        (Tuple[int, ...], [1, 2], (1, 2)),
        (Dict[str, bool], {"a": True}, {"a": True}),
        (Literal["a", 1], 1, 1),
        (Place, {"name": "x"}, Place("x", 0)),
        (list, [1, "a"], [1, "a"]),
    ],
)
def test_values_are_converted_to_their_types(hint, value, read):
    assert codec(hint).read(value, "p") == read


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (int, "12", "p: expected an integer, found string"),
        (int, True, "p: expected an integer, found true"),
        (float, 2**53 + 1, "within ±2^53"),
        (str, 7, "p: expected a text, found integer `7`"),
        (bool, 0, "p: expected true or false"),
        (List[int], [1, "a"], "p[1]: expected an integer"),
        (Tuple[int, str], [1], "p: expected an array of 2 items"),
        (Dict[str, int], {"a": None}, "p.a: expected an integer, found null"),
        (Literal["a", 1], True, "p: expected `a` or `1`"),
        (Place, {"floor": 1}, "p: expected an object with the member `name`; it is missing"),
        (Optional[int], "x", "p: expected an integer"),
        (str, "x" * 200, None),
    ],
)
def test_a_wrong_value_is_told_by_its_path(hint, value, said):
    if said is None:
        assert codec(hint).read(value, "p") == value
        return
    with pytest.raises(rantai.InvalidParams) as wrong:
        codec(hint).read(value, "p")
    assert said in wrong.value.message and wrong.value.data["path"].startswith("p")


def test_timers_fire_once_in_order_and_not_when_cancelled():
    loop, seen, done = Loop("test"), [], threading.Event()
    loop.start()

    def begin():
        now = time.monotonic()
        loop.call_at(now + 0.02, seen.append, 2)
        timer = loop.call_at(now + 0.01, seen.append, 1)
        loop.call_at(now + 0.015, seen.append, 0).cancel()
        loop.call_at(now + 0.03, lambda: (seen.append(timer.function), done.set()))
        loop.post(lambda: 1 / 0)

    loop.post(begin)
    assert done.wait(60) and seen == [1, 2, None], "an error ends no loop, and a timer that has fired is over"
    loop.stop()
    loop.thread.join(60)
    assert not loop.thread.is_alive()
