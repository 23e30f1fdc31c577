"""Follows the registry for calls that wait, and ends those whose node is lost."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional, Protocol

from .bus import Bus
from .faults import Fault
from .suspicion import ACCEPT_TIMEOUT, Seen, Suspicion, Watched
from .view import View, node_lost
from .wire import entry
from .wire.entry import Accepted, NodeState
from .wire.message import Message
from .wire.topics import NodeTopic

#: Seconds without a message after which all retained ones have come.
QUIET = 0.1
#: Most nodes of one object whose states are followed.
_MOST_NODES = 64
#: Seconds for which an object is followed after its last call.
_KEPT = 10.0


class Waiting(Protocol):
    """A call that waits for its reply."""

    object: str
    node: Optional[str]
    sent: float
    accepted: Optional[Accepted]
    may_change_form: bool

    def fail(self, fault: Fault) -> None:
        """The call ends with an error."""


class _Suspect:
    """A call that is watched, and what is suspected of its node."""

    def __init__(self, call: Waiting) -> None:
        self.call = call
        self.seen = Seen(call.object, call.sent, call.node)
        self.suspicion: Optional[Suspicion] = None
        self.since = 0.0


class _ObjectWatch:
    """Entries and node states of one object, and the calls that wait for it."""

    def __init__(self, presence: Presence, object: str) -> None:
        self._presence = presence
        self.object = object
        self.watched = Watched(View(presence.bus.topics))
        self.calls: dict[int, _Suspect] = {}
        self.filters = [presence.bus.topics.name(object, "+")]
        self._answered = False
        self._asked = time.monotonic()
        self._quiet = QUIET
        self._timer: Any = None
        self._nodes: set[str] = set()

    def begin(self) -> None:
        """Subscribes to the entries."""
        self._presence.bus.follow(list(self.filters), self._subscribed)

    def _subscribed(self, codes: Optional[list[int]]) -> None:
        # Where the registry may not be read, nothing is concluded from it.
        if codes is not None and all(code < 0x80 for code in codes):
            self._answered = True
            self._quiet = max(QUIET, 3 * (time.monotonic() - self._asked))
            self._wake(self._quiet)

    def apply(self, message: Message) -> None:
        """Takes a message of the registry."""
        topic = self._presence.bus.topics.parse_registry(message.topic)
        if isinstance(topic, NodeTopic):
            self._state(topic.node, message)
        elif topic is not None and topic.object == self.object:
            self.watched.view.apply(message.topic, message.payload)
        else:
            return
        self._follow_nodes()
        self._wake(0.0)

    def _state(self, node: str, message: Message) -> None:
        # A state that is only refreshed keeps its time.
        before = _kind(self.watched.view.state(node))
        self.watched.view.apply(message.topic, message.payload)
        if _kind(self.watched.view.state(node)) == before:
            return
        now, expiry = time.monotonic(), message.properties.expiry
        if not message.retain:
            self.watched.since[node] = (now, True)
        elif expiry is not None and expiry <= entry.LIFETIME:
            self.watched.since[node] = (now - (entry.LIFETIME - expiry), False)
        else:
            self.watched.since.pop(node, None)

    def _follow_nodes(self) -> None:
        wanted = [claim.node for claim in self.watched.view.entries(self.object)][:_MOST_NODES]
        wanted += [suspect.call.accepted.node for suspect in self.calls.values() if suspect.call.accepted is not None]
        new = [node for node in dict.fromkeys(wanted) if node not in self._nodes]
        if new:
            self._nodes.update(new)
            filters = [self._presence.bus.topics.node(node) for node in new]
            self.filters += filters
            self._presence.bus.follow(filters, lambda codes: self._wake(self._quiet))

    def accepted(self) -> None:
        """A node has accepted one of the calls."""
        self._follow_nodes()
        self._wake(0.0)

    def end(self) -> None:
        """Looks at no call any more: what was seen belongs to a connection that is lost."""
        self.calls.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self, delay: float) -> None:
        when = time.monotonic() + delay
        if self._timer is not None:
            if self._timer.function is not None and self._timer.when <= when:
                return
            self._timer.cancel()
        self._timer = self._presence.bus.loop.call_at(when, self._look)

    def _look(self) -> None:
        """Ends the calls whose suspicions have held for long enough."""
        if not self._answered:
            return
        now = time.monotonic()
        wake: Optional[float] = None
        for suspect in list(self.calls.values()):
            due = self._examine(suspect, now)
            if due is not None and (wake is None or due < wake):
                wake = due
        if wake is not None:
            self._wake(max(0.0, wake - now))

    def _examine(self, suspect: _Suspect, now: float) -> Optional[float]:
        call = suspect.call
        if call.may_change_form and self.watched.view.json_rpc_node(self.object) is not None:
            # It has no part in requests in plain form, so nobody carries this one out.
            self._presence.forget(call)
            call.fail(self.watched.view.absence(self.object, call.node))
            return None
        suspicion = suspect.seen.suspicion(self.watched, call.accepted, now)
        if suspicion != suspect.suspicion:
            suspect.suspicion, suspect.since = suspicion, now
        due = None
        patience = self._presence.patience(suspicion, call, self._quiet)
        if suspicion is not None and patience is not None:
            due = suspect.since + patience
            if due <= now:
                self._presence.forget(call)
                call.fail(self._fault(suspicion, call))
                return None
        late = call.sent + ACCEPT_TIMEOUT
        if call.accepted is None and now < late:
            due = late if due is None else min(due, late)
        return due

    def _fault(self, suspicion: Suspicion, call: Waiting) -> Fault:
        if suspicion.node:
            return node_lost(self.object, suspicion.node)
        return self.watched.view.absence(self.object, call.node)


def _kind(state: Optional[NodeState]) -> Optional[tuple[str, bool]]:
    return None if state is None else (state.epoch, state.state == entry.LOST)


class Presence:
    """The objects that calls wait for."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._watches: dict[str, _ObjectWatch] = {}
        #: Whether the broker has sent PUBACK 0x10.
        self.reports_nobody = False

    def watch(self, call: Waiting) -> None:
        """Ends the call by `fail` where the registry shows that it gets no reply, until `forget`."""
        if not self.bus.connection.online:
            return
        watch = self._watches.get(call.object)
        if watch is None:
            watch = self._watches[call.object] = _ObjectWatch(self, call.object)
            watch.begin()
        watch.calls[id(call)] = _Suspect(call)
        watch.accepted()

    def forget(self, call: Waiting) -> None:
        """Watches a call no longer."""
        watch = self._watches.get(call.object)
        if watch is not None and watch.calls.pop(id(call), None) is not None and not watch.calls:
            self.bus.loop.call_later(_KEPT, self._release, watch)

    def accepted(self, call: Waiting) -> None:
        """Tells that `call.accepted` has changed."""
        watch = self._watches.get(call.object)
        if watch is not None:
            watch.accepted()

    def patience(self, suspicion: Optional[Suspicion], call: Waiting, quiet: float) -> Optional[float]:
        """Returns for how long a suspicion has to hold; None where it ends no call."""
        if suspicion is None:
            return None
        # Where the registry is empty, it may be one that the client may not read; another broker would have told.
        if suspicion.kind == "unknown" and self.reports_nobody and not self.bus.connection.features:
            return None
        return suspicion.patience(call.accepted is not None, quiet)

    def _release(self, watch: _ObjectWatch) -> None:
        if not watch.calls and self._watches.get(watch.object) is watch:
            del self._watches[watch.object]
            self.bus.unfollow(watch.filters)

    def connected(self) -> None:
        """Called by the bus."""

    def disconnected(self) -> None:
        """Called by the bus."""
        for watch in self._watches.values():
            watch.end()
        self._watches.clear()

    def received(self, message: Message) -> None:
        """Called by the bus."""
        for watch in list(self._watches.values()):
            watch.apply(message)


class Census:
    """Reads the whole registry once, for errors that name similar objects, and for lists."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._view: Optional[View] = None
        self._waiting: list[Callable[[View], None]] = []
        self._timer: Any = None

    def read(self, done: Callable[[View], None]) -> None:
        """Calls `done` with the view when no retained message has come for `QUIET` seconds."""
        self._waiting.append(done)
        if self._view is None:
            self._view = View(self._bus.topics)
            self._bus.follow(self._filters(), lambda codes: self._settle(QUIET))

    def _filters(self) -> list[str]:
        topics = self._bus.topics
        return [topics.name("+", "+"), topics.node("+")]

    def _settle(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._bus.loop.call_later(delay, self._end)

    def _end(self) -> None:
        view, self._view = self._view, None
        waiting, self._waiting = self._waiting, []
        self._bus.unfollow(self._filters())
        for done in waiting:
            done(view if view is not None else View(self._bus.topics))

    def connected(self) -> None:
        """Called by the bus."""

    def disconnected(self) -> None:
        """Called by the bus."""
        if self._view is not None:
            self._settle(0.0)

    def received(self, message: Message) -> None:
        """Called by the bus."""
        if self._view is not None:
            self._view.apply(message.topic, message.payload)
            if self._timer is not None:
                self._settle(QUIET)
