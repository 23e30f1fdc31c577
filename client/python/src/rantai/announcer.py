"""What a node says of itself in the registry, and repairs where others overwrite it. In the loop's thread."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Optional

from .bus import Bus
from .doubles import Doubles
from .view import View
from .wire import entry
from .wire.entry import Entry, NodeState
from .wire.message import Message, Properties, Publish
from .wire.topics import NameTopic, NodeTopic

logger = logging.getLogger("rantai")

#: Seconds after which entries and states are published again.
REFRESH = 8 * 3600.0
#: Seconds between two repairs.
REPAIR_INTERVAL = 1.0
#: Seconds for which a claim that has not settled counts.
FRESH = 5.0


def retained(topic: str, payload: bytes) -> Publish:
    """Returns the message of an entry or a state; an empty one clears it."""
    return Publish(topic, payload, Properties(expiry=entry.LIFETIME if payload else None), 1, True)


class Announcer:
    """The registry topics of one node, and the entries of others for the names that it claims."""

    def __init__(self, bus: Bus, epoch: str) -> None:
        self.bus = bus
        self.epoch = epoch
        self.state = entry.READY
        self.view = View(bus.topics)
        #: Called when the registry has changed, as far as it is followed.
        self.on_change: Callable[[], None] = lambda: None
        #: Called when another node has the same id.
        self.on_double: Callable[[str], None] = lambda reason: None
        self._words: dict[str, bytes] = {}
        self._wrong: set[str] = set()
        self._repairing = False
        self._doubles = Doubles()
        #: When entries of others were published, and by which user.
        self._stamps: dict[str, tuple[float, Optional[str]]] = {}
        self._refresh: Any = None
        bus.add(self, "name", "node")

    @property
    def id(self) -> str:
        """Id of the node."""
        return self.bus.client_id

    def connected(self) -> None:
        """Publishes the state, and watches the node's own topics."""
        topics = self.bus.topics
        self.announce_state(self.state)
        own = [topics.node(self.id), topics.name("+", self.id)]
        self.bus.follow(own)
        self.bus.connection.subscribe([(topics.at_filter(self.id), True)], self._subscribed)
        self._refresh = self.bus.loop.call_later(REFRESH, self._publish_again)

    def _subscribed(self, codes: Optional[list[int]]) -> None:
        if codes is not None and codes[0] >= 0x80:
            topic = self.bus.topics.at_filter(self.id)
            self.bus.fail(
                PermissionError(f"the broker refuses the subscription to {topic}; give this user the role `node`")
            )

    def disconnected(self) -> None:
        """Forgets what was seen: the broker has published the will."""
        self._doubles.closed(time.monotonic())
        self.view.clear()
        self._words.clear()
        self._wrong.clear()
        self._stamps.clear()
        if self._refresh is not None:
            self._refresh.cancel()
        if self.bus.connection.disconnect_code == 0x8E:
            self.on_double(f"another node has taken the id {self.id} over; give each node an id of its own")

    def announce_state(self, state: str) -> None:
        """Publishes the node's state."""
        self.state = state
        self._say(self.bus.topics.node(self.id), NodeState(state, self.epoch).write(), None)

    def announce(self, claim: Entry, done: Callable[[Optional[int], str], None]) -> None:
        """Publishes an entry; `done` is called with PUBACK's reason code, None where the connection was lost."""
        self._say(self.bus.topics.name(claim.object, self.id), claim.write(), done)

    def clear_entry(self, object: str) -> None:
        """Clears the entry of an object."""
        self._clear(self.bus.topics.name(object, self.id), None)

    def clear_state(self, done: Callable[[Optional[int], str], None]) -> None:
        """Clears the node's state."""
        self._clear(self.bus.topics.node(self.id), done)

    def declare_lost(self, holder: Entry) -> None:
        """Publishes the state of a holder that does not answer as lost."""
        logger.warning("node %s, which holds %s, does not answer: its state is set to lost", holder.node, holder.object)
        topic = self.bus.topics.node(holder.node)
        payload = NodeState(entry.LOST, holder.epoch).write()
        self.view.apply(topic, payload)
        self.bus.connection.publish(retained(topic, payload))

    def claims(self, object: str, now: float) -> list[Entry]:
        """Returns the entries of other nodes that are ready and count: settled, or published within the last 5 s."""
        return [
            claim
            for claim in self.view.entries(object)
            if claim.node != self.id and self.view.is_alive(claim) and (claim.settled or self._is_fresh(claim, now))
        ]

    def is_claimed_by(self, object: str, user: Optional[str]) -> bool:
        """Returns whether another node claims a name by an entry that this user has published."""
        for claim in self.view.entries(object):
            if claim.node != self.id and not claim.settled:
                _, by = self._stamps.get(self.bus.topics.name(object, claim.node), (0.0, None))
                if by == user:
                    return True
        return False

    def _is_fresh(self, claim: Entry, now: float) -> bool:
        stamp = self._stamps.get(self.bus.topics.name(claim.object, claim.node))
        return stamp is not None and now - stamp[0] < FRESH

    def _say(self, topic: str, payload: bytes, done: Optional[Callable[[Optional[int], str], None]]) -> None:
        self._words[topic] = payload
        if not self.bus.connection.publish(retained(topic, payload), done) and done is not None:
            done(None, "")

    def _clear(self, topic: str, done: Optional[Callable[[Optional[int], str], None]]) -> None:
        self._words.pop(topic, None)
        if not self.bus.connection.publish(retained(topic, b""), done) and done is not None:
            done(None, "")

    def _publish_again(self) -> None:
        for topic, payload in self._words.items():
            self.bus.connection.publish(retained(topic, payload))
        self._refresh = self.bus.loop.call_later(REFRESH, self._publish_again)

    def received(self, message: Message) -> None:
        """Called by the bus."""
        topic = self.bus.topics.parse_registry(message.topic)
        if topic is None:
            return
        if topic.node == self.id:
            self._own(message, isinstance(topic, NodeTopic))
            return
        self.view.apply(message.topic, message.payload)
        if isinstance(topic, NameTopic):
            self._stamp(message)
        self.on_change()

    def _stamp(self, message: Message) -> None:
        if not message.payload:
            self._stamps.pop(message.topic, None)
            return
        age, expiry = 0.0, message.properties.expiry
        if message.retain:
            age = float(entry.LIFETIME - expiry) if expiry is not None and expiry <= entry.LIFETIME else FRESH
        vouched = "caller" in self.bus.connection.features
        user = message.properties.get("caller") if vouched else None
        self._stamps[message.topic] = (time.monotonic() - age, user)

    def _own(self, message: Message, is_state: bool) -> None:
        """Looks whether a topic of this node has its own word."""
        if is_state:
            state = NodeState.read(message.payload)
            if state is not None and state.epoch != self.epoch and self._doubles.other_start(state.epoch > self.epoch):
                self.on_double(f"another node connects as {self.id}; give each node an id of its own")
                return
        if self._words.get(message.topic, b"") != message.payload:
            self._wrong.add(message.topic)
            if not self._repairing:
                self._repairing = True
                # The first one at once; then all of a second together.
                self.bus.loop.call_later(0.0, self._repair)

    def _repair(self) -> None:
        wrong, self._wrong = self._wrong, set()
        if not wrong:
            self._repairing = False
            return
        for topic in wrong:
            logger.debug("repairs %s", topic)
            self.bus.connection.publish(retained(topic, self._words.get(topic, b"")))
        self.bus.loop.call_later(REPAIR_INTERVAL, self._repair)
