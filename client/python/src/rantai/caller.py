"""Sends requests, matches replies, and ends calls that get none. Everything is called in the loop's thread."""

from __future__ import annotations

import math
import time
from typing import Any, Optional

from .bus import Bus
from .calls import Call, Collecting, Oneway, Progress
from .faults import Busy, Denied, Expired, Fault, InvalidRequest, NodeLost, TimedOut, too_large
from .presence import Census, Presence
from .suspicion import WATCH_AFTER
from .view import View
from .wire import reply, text
from .wire.entry import JSON_RPC, Accepted
from .wire.message import BINARY, Message, Properties, Publish
from .wire.request import LONGEST_TTL_MS, to_json_rpc
from .wire.topics import CallTopic

#: Most nodes that one call is sent to, one after the other.
_MOST_NODES = 8
#: Most objects whose form is remembered; beyond them all are learned anew.
_MOST_FORMS = 4_096
#: Sender of replies that the broker makes by itself.
_BROKER = "broker"
#: Most calls of one client that are under way.
MOST_PENDING = 65_536

_NO_SUBSCRIBERS, _NOT_AUTHORIZED, _TOO_LARGE, _QUOTA = 0x10, 0x87, 0x95, 0x97


class Caller:
    """The calls of one client."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.presence = Presence(bus)
        self.census = Census(bus)
        self._pending: dict[bytes, Call] = {}
        #: Objects that understand requests in JSON-RPC form only.
        self._json_rpc: set[str] = set()
        bus.add(self, "reply", "event")
        bus.add(self.presence, "name", "node")
        bus.add(self.census, "name", "node")
        bus.on_end(self._ended)

    def start(self, call: Call) -> None:
        """Sends a request, or waits for a connection to do so."""
        if self.bus.error is not None:
            call.future.set_exception(NodeLost(f"{call.object}: {self.bus.error}"))
            return
        if call.future.cancelled():
            return
        if len(self._pending) >= MOST_PENDING:
            call.future.set_exception(Busy(f"{MOST_PENDING} calls of this client are under way", retry_after_ms=100))
            return
        self._pending[call.key] = call
        call.timers.append(self.bus.loop.call_at(call.deadline, self._expired, call))
        self._send(call)

    def finish(self, call: Call) -> bool:
        """Forgets a call; returns whether it was under way."""
        if self._pending.get(call.key) is not call:
            return False
        del self._pending[call.key]
        for timer in call.timers:
            timer.cancel()
        if call.sent:
            self.presence.forget(call)
        return True

    def cancel(self, call: Call) -> None:
        """Gives a call up: the object cancels it where it is still under way."""
        if self.finish(call) and call.is_sent and call.settings.identity is None:
            self.send_cancel(call)

    def send_cancel(self, call: Call) -> None:
        """Publishes `rpc.cancel` of a call, whose replies nobody reads."""
        target = "at" if call.target == "at" else "all"
        topic = CallTopic(target, call.object, "rpc.cancel", call.node).format(self.bus.topics.root)
        payload = text.write([call.key.hex(), True])
        self.bus.connection.publish(
            Publish(topic, payload, self.properties(call.object, call.key, 10.0), call.settings.qos)
        )

    def may_repeat(self, call: Call, fault: Fault) -> bool:
        """Returns whether a call whose node was lost goes to another one, or in another form to the same."""
        if isinstance(fault, NodeLost) and call.may_change_form and fault.data.get("form") == JSON_RPC:
            if len(self._json_rpc) >= _MOST_FORMS:
                self._json_rpc.clear()
            self._json_rpc.add(call.object)
            return True
        is_lost = isinstance(fault, NodeLost) and fault.maybe_executed
        return is_lost and call.settings.idempotent and call.target == "call" and call.tries < _MOST_NODES

    def send_again(self, call: Call) -> None:
        """Sends a request once more, by the same identity."""
        self.presence.forget(call)
        call.accepted = None
        call.is_sent = False
        self._send(call)

    def properties(self, object: str, key: bytes, left: float) -> Properties:
        """Returns the properties of a request with `left` seconds until its deadline."""
        ttl_ms = min(max(0, math.ceil(left * 1000)), LONGEST_TTL_MS)
        return Properties(
            response_topic=self.bus.topics.reply(object, self.bus.client_id),
            correlation=key,
            expiry=-(-ttl_ms // 1000),
            user=[("ttl_ms", str(ttl_ms))],
        )

    def _send(self, call: Call) -> None:
        if not self.bus.connection.online:
            # `connected` sends it.
            return
        resume = getattr(call, "send", None)
        if resume is not None and resume():
            return
        left = call.left()
        if left <= 0:
            return
        properties = self.properties(call.object, call.key, left)
        if call.binary:
            properties.content_type = BINARY
        properties.user += call.user
        plain_only = call.target != "call" or call.binary
        call.may_change_form = not plain_only and call.object not in self._json_rpc
        method: Optional[str] = call.method
        payload = call.payload
        if not plain_only and not call.may_change_form:
            # The `id` takes the place of Correlation Data.
            id = "" if isinstance(call, Oneway) else call.key.hex()
            ttl_ms = math.ceil(left * 1000)
            payload = to_json_rpc(call.method, payload, id, properties.response_topic or "", ttl_ms)
            method, properties.correlation = None, None
        topic = CallTopic(call.target, call.object, method, call.node).format(self.bus.topics.root)
        message = Publish(topic, payload, properties, call.settings.qos)
        call.is_sent, call.sent = True, time.monotonic()
        call.tries += 1
        sent = call.sent

        def acknowledged(code: Optional[int], said: str) -> None:
            if code is None or call.sent != sent or self._pending.get(call.key) is not call:
                return
            if code == 0:
                call.acknowledged()
            else:
                self._refused(call, code, said)

        try:
            self.bus.connection.publish(message, acknowledged)
        except ValueError:
            call.fail(too_large(len(call.payload)))
            return
        if left > WATCH_AFTER and not isinstance(call, (Collecting, Oneway)):
            call.timers.append(self.bus.loop.call_later(WATCH_AFTER, self._watch, call, sent))

    def _watch(self, call: Call, sent: float) -> None:
        if call.sent == sent and call.is_sent and self._pending.get(call.key) is call:
            self.presence.watch(call)

    def _refused(self, call: Call, code: int, said: str) -> None:
        """Ends a call whose request the broker did not take."""
        if code == _NO_SUBSCRIBERS:
            self.presence.reports_nobody = True
            self.census.read(lambda view: self._missing(call, view))
        elif code == _NOT_AUTHORIZED:
            call.fail(
                Denied(f"{call.object}.{call.method}: the broker refuses the request{f': {said}' if said else ''}")
            )
        elif code == _QUOTA:
            call.fail(Busy(f"{call.object}: no node has room for the request", retry_after_ms=100))
        elif code == _TOO_LARGE:
            call.fail(too_large(len(call.payload)))
        elif code >= 0x80:
            call.fail(
                InvalidRequest(
                    f"{call.object}: the broker refuses the request (0x{code:02X}){f': {said}' if said else ''}"
                )
            )

    def _missing(self, call: Call, view: View) -> None:
        if self._pending.get(call.key) is call:
            call.fail(view.absence(call.object, call.node))

    def _expired(self, call: Call) -> None:
        if call.is_sent:
            call.expired(TimedOut(f"{call.object}: no answer within {call.settings.deadline:g} s"))
        else:
            call.expired(
                Expired(f"{call.object}: not sent within {call.settings.deadline:g} s: no connection to the broker")
            )

    def connected(self) -> None:
        """Called by the bus."""
        topics, client = self.bus.topics, self.bus.client_id
        filters = [
            topics.reply_filter(client),
            topics.event("+", "accepted", client),
            topics.event("+", "progress", client),
        ]
        self.bus.follow(filters, self._subscribed)
        for call in list(self._pending.values()):
            if not call.is_sent:
                self._send(call)

    def _subscribed(self, codes: Optional[list[int]]) -> None:
        if codes is not None and codes[0] >= 0x80:
            topic = self.bus.topics.reply_filter(self.bus.client_id)
            self.bus.fail(
                PermissionError(f"the broker refuses the subscription to {topic}; give this user the role `caller`")
            )

    def disconnected(self) -> None:
        """Called by the bus."""
        self.presence.reports_nobody = False
        for call in list(self._pending.values()):
            if not call.is_sent:
                continue
            if call.lost_connection():
                call.is_sent, call.accepted = False, None
            else:
                text_ = f"{call.object}: the connection to the broker was lost; the method may have been carried out"
                call.fail(NodeLost(text_, maybe_executed=True))

    def _ended(self, error: Exception) -> None:
        for call in list(self._pending.values()):
            call.expired(NodeLost(f"{call.object}: {error}"))

    def received(self, message: Message) -> None:
        """Called by the bus."""
        key = message.properties.correlation
        if key is None:
            key = _key_of_id(message.payload)
        call = self._pending.get(key) if key is not None else None
        if call is None:
            return
        object = self.bus.topics.object_of_reply(message.topic, self.bus.client_id)
        if object is not None:
            if object == call.object:
                self._reply(call, message)
            return
        event = self.bus.topics.parse_event(message.topic)
        if event is None or event.client != self.bus.client_id:
            return
        if event.event == "accepted":
            accepted = Accepted.read(message.payload)
            if accepted is not None:
                call.accepted = accepted
                self.presence.accepted(call)
        elif event.event == "progress" and call.settings.on_progress is not None and event.object == call.object:
            progress = _progress(message.payload)
            if progress is not None:
                call.settings.on_progress(progress)

    def _reply(self, call: Call, message: Message) -> None:
        node = message.properties.get("node") or ""
        call.received_bytes += len(message.payload)
        call.may_change_form = call.may_change_form and node == _BROKER
        part = getattr(call, "part", None)
        if part is not None:
            part(message)
            return
        try:
            result = reply.read(message.payload, message.properties)
        except Fault as fault:
            self._forget_form(call, fault)
            call.failed(fault, node)
        else:
            call.answered(result, node)

    def _forget_form(self, call: Call, fault: Fault) -> None:
        """Forgets the form of an object that refuses it."""
        if isinstance(fault, InvalidRequest):
            self._json_rpc.discard(call.object)

    def pending(self) -> int:
        """Returns the number of calls under way."""
        return len(self._pending)


def _key_of_id(payload: bytes) -> Optional[bytes]:
    """Returns the key in the `id` of a JSON-RPC response."""
    try:
        response = text.read(payload)
        id = response.get("id") if isinstance(response, dict) else None
        return bytes.fromhex(id) if isinstance(id, str) else None
    except ValueError:
        return None


def _progress(payload: bytes) -> Optional[Progress]:
    try:
        members: Any = text.read(payload)
    except ValueError:
        return None
    if not isinstance(members, dict):
        return None
    done, total, said = members.get("done", 0), members.get("total", 0), members.get("text", "")
    if not isinstance(done, (int, float)) or not isinstance(total, (int, float)):
        return None
    return Progress(int(done), int(total), said if isinstance(said, str) else "")
