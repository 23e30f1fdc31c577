"""A request in, a reply out: everything between the two. Everything is called in the loop's thread."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from . import builtin, duplicates
from .bus import Bus
from .faults import Fault, IdentityReused, InvalidRequest, MethodNotFound, TrailLimit, UnknownObject, busy
from .running import Running
from .served import Served
from .wire import names, reply, request
from .wire.entry import Accepted
from .wire.message import Message, Properties, Publish
from .wire.reply import Form, Reply
from .wire.request import Request
from .wire.topics import BadTopic, CallTopic
from .workers import AsyncLoop

if TYPE_CHECKING:
    from .client import Client

logger = logging.getLogger("rantai")

#: Unsent bytes above which requests are told busy, and ignored.
_CROWDED, _CHOKED = 4 << 20, 16 << 20


class Dispatcher:
    """Serves the objects of one node."""

    def __init__(self, bus: Bus, epoch: str, client: Callable[[], Client]) -> None:
        self.bus = bus
        self.client = client
        self.word = Accepted(bus.client_id, epoch)
        self.objects: dict[str, Served] = {}
        self.async_loop = AsyncLoop(f"rantai-{bus.client_id}-async")
        #: Set by the node: whether another one, of the same user, claims a name; and gives it up.
        self.is_claimed_by: Callable[[str, Optional[str]], bool] = lambda name, user: False
        self.give_up: Callable[[str], None] = lambda name: None
        bus.add(self, "call", "at", "all")

    def connected(self) -> None:
        """Called by the bus."""

    def disconnected(self) -> None:
        """Called by the bus. Calls go on: their callers may ask again by the same identity."""

    def received(self, message: Message) -> None:
        """Takes a request."""
        received = time.monotonic()
        topics = self.bus.topics
        try:
            topic = topics.parse_call(message.topic)
        except BadTopic as error:
            self._misdirected(message, InvalidRequest(str(error)))
            return
        if topic is None:
            return
        served = self.objects.get(topic.object)
        if served is None:
            if topic.target == "at" and not message.retain:
                self._misdirected(message, UnknownObject(f"no object {topic.object} on this node", object=topic.object))
            return
        if message.retain:
            # A stored copy: nobody asks now.
            served.stats.refused("retained")
            return
        if self.bus.connection.unsent_bytes > _CHOKED:
            served.stats.refused("choked")
            return
        try:
            asked = request.read(topics, topic, message, self.bus.connection.features)
        except request.Silent:
            served.stats.refused("no_reply_topic")
        except request.Refused as refused:
            served.stats.refused("malformed")
            self._refuse(refused, message.qos)
        else:
            self._admit(served, topic, asked, message, received)

    def _misdirected(self, message: Message, fault: Fault) -> None:
        try:
            refused = request.misdirected(self.bus.topics, message.properties, fault)
        except request.Silent:
            return
        self._refuse(refused, message.qos)

    def _refuse(self, refused: request.Refused, qos: int) -> None:
        self.reply(refused.reply_to, refused.correlation, reply.error(refused.fault, refused.form), qos)

    def _admit(self, served: Served, topic: CallTopic, asked: Request, message: Message, received: float) -> None:
        if asked.ttl_ms == 0:
            served.stats.refused("expired")
            return
        if len(asked.trail) > 16:
            served.stats.refused("trail_limit")
            self.answer(asked, TrailLimit("the trail has more than 16 items", trail=asked.trail), message.qos)
            return
        if topic.target == "all" and asked.stream is not None:
            asked = dataclasses.replace(asked, stream=None if asked.stream else 0)
        if asked.method.startswith("rpc."):
            self._built_in(served, asked, message.qos, received)
            return
        method = served.description.methods.get(asked.method)
        if method is None:
            served.stats.refused("no_such_method")
            similar = names.similar(asked.method, served.description.methods)
            self.answer(asked, MethodNotFound(f'no method "{asked.method}"', did_you_mean=similar), message.qos)
            return
        try:
            arguments = method.bind(asked.params)
        except Fault as fault:
            served.stats.refused("wrong_parameters")
            self.answer(asked, fault, message.qos)
            return
        if self._was_met(served, asked, message, received):
            return
        share = self._share(asked)
        if self.bus.connection.unsent_bytes > _CROWDED or not served.places.take(share):
            identity = asked.identity()
            if identity is not None:
                served.duplicates.withdraw(identity)
            served.stats.refused("busy")
            self.answer(asked, busy(100), message.qos)
            return
        Running(self, served, method, asked, arguments, received, message.qos, share).start()

    def _was_met(self, served: Served, asked: Request, message: Message, received: float) -> bool:
        """Answers a request that was met before; returns False where it is new."""
        identity = asked.identity()
        if identity is None:
            return False
        met = served.duplicates.meet(identity, asked.method, message.payload, received + asked.ttl_ms / 1000, received)
        if met == duplicates.NEW:
            return False
        running = served.find(asked.reply_to, asked.correlation, asked.via, asked.caller)
        if isinstance(met, Reply):
            served.stats.refused("repeated")
            self.reply(asked.reply_to, asked.correlation, met.again(), message.qos)
        elif met == duplicates.RUNNING:
            served.stats.refused("repeated")
            if running is not None:
                # Its caller may have missed who carries it out, and the first parts of its stream.
                running.accepted()
                if running.stream is not None:
                    running.stream.send_again()
        elif met == duplicates.FORGOTTEN and running is not None and running.stream is not None:
            served.stats.refused("repeated")
            running.stream.send_again()
        else:
            served.stats.refused("identity_reused")
            text = "this identity was used for another request, or its reply is no longer kept"
            self.answer(asked, IdentityReused(text), message.qos)
        return True

    def _share(self, asked: Request) -> tuple[str, str]:
        if asked.caller is not None:
            return "user", asked.caller
        client = self.bus.topics.client_of_reply(asked.reply_to) if asked.reply_to is not None else None
        return ("client", client) if client is not None else ("", "")

    def _built_in(self, served: Served, asked: Request, qos: int, received: float) -> None:
        try:
            result: Any = builtin.answer(self, served, asked, received)
        except Fault as fault:
            result = fault
        if result is not builtin.NOTHING:
            self.answer(asked, result, qos)

    def answer(self, asked: Request, outcome: Any, qos: int) -> None:
        """Replies to a request that is not carried out by a method."""
        form: Form = asked.form
        written = reply.error(outcome, form) if isinstance(outcome, Fault) else reply.result(outcome, form, 1 << 20)
        self.reply(asked.reply_to, asked.correlation, written, qos)

    def reply(self, reply_to: Optional[str], correlation: Optional[bytes], answer: Reply, qos: int) -> None:
        """Publishes a reply; without a connection it is lost, and the caller asks again."""
        if reply_to is None:
            return
        message = Publish(reply_to, answer.payload, answer.properties(self.bus.client_id, correlation), min(qos, 1))
        try:
            self.bus.connection.publish(message)
        except ValueError as error:
            logger.warning("cannot reply on %s: %s", reply_to, error)

    def event(self, object: str, event: str, payload: bytes, client: str, correlation: Optional[bytes]) -> None:
        """Publishes an event for one client."""
        topic = self.bus.topics.event(object, event, client)
        self.bus.connection.publish(Publish(topic, payload, Properties(correlation=correlation), 0))
