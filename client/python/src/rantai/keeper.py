"""Keeps one object served: does what its claim says. In the loop's thread."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import time
from typing import Any, Callable, Optional

from . import claim as claims
from .announcer import Announcer
from .caller import Caller
from .calls import Call, Settings
from .claim import Action, Claim
from .emitting import publish_event
from .faults import Fault, NameTaken
from .presence import QUIET
from .served import Served
from .wire.entry import Entry

logger = logging.getLogger("rantai")

#: Seconds that a holder has to answer a ping.
PING = 3.0


class Keeper:
    """The claim of one object, and the subscriptions and registry entries that it asks for."""

    def __init__(self, announcer: Announcer, caller: Caller, served: Served, replace: bool) -> None:
        self._announcer = announcer
        self._caller = caller
        self._served = served
        description, options = served.description, served.options
        self._entry = Entry(
            served.name,
            announcer.id,
            announcer.epoch,
            options.mode,
            False,
            description.version,
            description.summary,
            description.tags,
            list(description.methods),
            list(description.events),
        )
        # One that is too large is told to whoever serves the object.
        self._entry.write()
        self._claim = Claim(self._entry, self, replace)
        self._nodes: set[str] = set()
        self._quiet_timer: Any = None
        self._wake_timer: Any = None
        self._subscribed_calls = False
        #: Done when the object is served for the first time; `NameTaken` where another node has the name.
        self.first: concurrent.futures.Future[None] = concurrent.futures.Future()

    @property
    def is_held(self) -> bool:
        """Whether the object is served now."""
        return self._claim.state == claims.HELD

    def claims(self, now: float) -> list[Entry]:
        """Returns the claims of others, for the claim."""
        return self._announcer.claims(self._served.name, now)

    def connected(self) -> None:
        """A connection was made."""
        self._nodes.clear()
        self._subscribed_calls = False
        self._do(self._claim.connected(time.monotonic()))

    def disconnected(self) -> None:
        """The connection was lost."""
        self._served.entry = None
        self._subscribed_calls = False
        for timer in (self._quiet_timer, self._wake_timer):
            if timer is not None:
                timer.cancel()
        self._do(self._claim.disconnected())

    def changed(self) -> None:
        """The registry has changed."""
        self._follow_nodes()
        if self._claim.state == claims.LOOKING:
            self._await_quiet()
        self._do(self._claim.changed(time.monotonic()))

    def give_up(self) -> None:
        """Another node has asked for the name."""
        logger.warning("%s: given up, as another node has asked", self._served.name)
        self._do(self._claim.yielded(time.monotonic()))

    def unsubscribe(self, done: Callable[[], None] = lambda: None) -> None:
        """Takes no more calls: the node drains. `done` is called when the broker sends no more of them."""
        if self._subscribed_calls:
            self._subscribed_calls = False
            filters = list(self._announcer.bus.topics.call_filters(self._served.name))
            self._announcer.bus.connection.unsubscribe(filters, done)
        else:
            done()

    def stop(self) -> None:
        """Serves the object no more."""
        self._do(self._claim.stop())
        self._announcer.bus.unfollow(self._filters())

    def _filters(self) -> list[str]:
        topics = self._announcer.bus.topics
        return [topics.name(self._served.name, "+"), *(topics.node(node) for node in self._nodes)]

    def _follow_nodes(self) -> None:
        entries = self._announcer.view.entries(self._served.name)
        new = [claim.node for claim in entries if claim.node not in self._nodes and claim.node != self._announcer.id]
        if new:
            self._nodes.update(new)
            self._announcer.bus.follow([self._announcer.bus.topics.node(node) for node in new], self._nodes_followed)

    def _nodes_followed(self, codes: Optional[list[int]]) -> None:
        if self._claim.state == claims.LOOKING:
            self._await_quiet()

    def _await_quiet(self) -> None:
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        self._quiet_timer = self._announcer.bus.loop.call_later(QUIET, self._quiet)

    def _quiet(self) -> None:
        self._do(self._claim.quiet(time.monotonic()))

    def _woken(self) -> None:
        self._do(self._claim.woken(time.monotonic()))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        bus = self._announcer.bus
        if isinstance(action, claims.Watch):
            bus.follow([bus.topics.name(self._served.name, "+")], self._watched)
        elif isinstance(action, claims.Announce):
            self._announce(action.settled)
        elif isinstance(action, claims.Subscribe):
            filters = [(topic, True) for topic in bus.topics.call_filters(self._served.name)]
            bus.connection.subscribe(filters, self._subscribed)
        elif isinstance(action, claims.Withdraw):
            self.unsubscribe()
            self._served.entry = None
            self._announcer.clear_entry(self._served.name)
        elif isinstance(action, claims.Wake):
            if self._wake_timer is not None:
                self._wake_timer.cancel()
            self._wake_timer = bus.loop.call_at(action.when, self._woken)
        elif isinstance(action, claims.Ping):
            self._ping(action.holder)
        elif isinstance(action, claims.DeclareLost):
            self._announcer.declare_lost(action.holder)
        elif isinstance(action, claims.AskToYield):
            self._request(action.holder, "at", "rpc.yield")
        else:
            self._report(action.holder)

    def _watched(self, codes: Optional[list[int]]) -> None:
        if codes is not None:
            self._await_quiet()

    def _announce(self, settled: bool) -> None:
        claim = dataclasses.replace(self._entry, settled=settled)
        self._served.entry = claim if settled else None

        def done(code: Optional[int], said: str) -> None:
            if code is None:
                return
            if code >= 0x80:
                self._refused(f"its entry: {said or hex(code)}")
            else:
                self._do(self._claim.announced(settled, time.monotonic()))

        self._announcer.announce(claim, done)

    def _subscribed(self, codes: Optional[list[int]]) -> None:
        if codes is None:
            return
        self._subscribed_calls = True
        if any(code >= 0x80 for code in codes):
            self._refused("the subscription to its calls")
        else:
            self._do(self._claim.subscribed(time.monotonic()))

    def _refused(self, what: str) -> None:
        error = PermissionError(
            f"cannot serve {self._served.name}: the broker refuses {what}; let the role of this user serve it"
        )
        self._do(self._claim.stop())
        if not self.first.done():
            self.first.set_exception(error)
        else:
            logger.error("%s", error)

    def _report(self, holder: Optional[str]) -> None:
        name = self._served.name
        if holder is None:
            if not self.first.done():
                self.first.set_result(None)
            else:
                logger.info("%s: served again", name)
            self._publish_state_events()
        elif not self.first.done():
            self.first.set_exception(NameTaken(f"{name} is served by node {holder}", holder=holder))
            self._do(self._claim.stop())
        else:
            logger.error("%s is served by node %s; it is claimed here when that ends", name, holder)

    def _publish_state_events(self) -> None:
        """Publishes the last values of events that are state, which may have been lost with a broker."""
        for event, value in self._served.emissions.last().items():
            publish_event(self._announcer.bus, self._served.name, event, value, True, None)

    def _ping(self, holder: Entry) -> None:
        """Asks a holder whether it is there, at its node and by its name.

        Small devices may not serve requests to their node.
        """
        left = [2]

        def done(future: concurrent.futures.Future[Any]) -> None:
            left[0] -= 1
            if _is_answer(future):
                left[0], alive = -10, True
            elif left[0] == 0:
                alive = False
            else:
                return
            self._announcer.bus.loop.post(self._pinged, holder, alive)

        for target in ("at", "call"):
            self._request(holder, target, "rpc.ping").add_done_callback(done)

    def _pinged(self, holder: Entry, alive: bool) -> None:
        self._do(self._claim.pinged(holder, alive, time.monotonic()))

    def _request(self, holder: Entry, target: str, method: str) -> concurrent.futures.Future[Any]:
        settings = Settings(deadline=PING, node=holder.node if target == "at" else None)
        call = Call(self._caller, holder.object, method, b"", False, settings)
        self._caller.start(call)
        return call.future


def _is_answer(future: concurrent.futures.Future[Any]) -> bool:
    error = future.exception()
    # Our broker replies where nobody is subscribed; a call that could not be sent tells nothing.
    return error is None or (isinstance(error, Fault) and error.code not in (-32001, -32002, -32003, -32004))
