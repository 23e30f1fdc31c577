"""Results that come item by item: the caller's side of streams."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Iterator, Optional

from .calls import Call
from .faults import BrokenObject, Cancelled, Fault, NodeLost, UnknownObject
from .suspicion import WATCH_AFTER
from .view import node_lost
from .wire import reply, text
from .wire.message import Message, Publish
from .wire.topics import CallTopic

if TYPE_CHECKING:
    pass

#: Bytes of items that may be on their way, or wait to be taken.
WINDOW = 256 << 10
#: Bytes that a part counts for beside its payload.
OVERHEAD = 128
#: Seconds between two requests to a node that is not there.
_AGAIN = 0.25

#: Items of a part; None at the end of the stream.
_Part = Optional[list[Any]]


class StreamCall(Call):
    """A call whose result comes in parts. Its functions are called in the loop's thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.user.append(("stream", str(WINDOW)))
        self._parts: collections.deque[tuple[list[Any], int]] = collections.deque()
        self._asked: Optional[concurrent.futures.Future[_Part]] = None
        self._server: Optional[str] = None
        self._expected = 0
        self._handed = 0
        self._taken = 0
        self._granted = WINDOW
        self._last_ask = time.monotonic()
        self._watching: Any = None
        self._gap: Optional[float] = None
        self._over = False
        self._fault: Optional[Fault] = None
        self._renewing = self._resuming = self._trying = self._watched = False

    def ask(self, future: concurrent.futures.Future[_Part]) -> None:
        """Has the items that come next put into a future; those of the last part count as taken."""
        self._last_ask = time.monotonic()
        self._taken += self._handed
        self._handed = 0
        self._asked = future
        if not self._over and self._server is not None and self._taken + WINDOW >= self._granted + WINDOW // 2:
            self._grant()
        self._hand_out()
        if self._asked is not None and not self._over:
            self._watch_later()

    def close(self) -> None:
        """Gives the stream up."""
        if not self._over:
            self.caller.cancel(self)
        self._end(Cancelled("the stream was given up"))

    def part(self, message: Message) -> None:
        """A reply has come: a part of the stream, its end, or a whole result."""
        offset = message.properties.get("from")
        node = message.properties.get("node")
        try:
            items = reply.read(message.payload, message.properties)
        except Fault as fault:
            if node == "broker" and self._server is not None:
                # The broker answers `rpc.more` to a node that is not there: it may come back, as after a restart of
                # the broker, and otherwise the registry tells.
                self._try_again()
            else:
                self.fail(fault)
            return
        if not isinstance(items, list):
            self.fail(BrokenObject("the result is no list"))
            return
        if offset is None or not offset.isdecimal():
            # A node from before streams, or a method that has none.
            self._parts.append((items, 0))
            self._finish(None)
            return
        more = message.properties.get("more") == "1"
        start = int(offset)
        if more and start < self._expected:
            return
        self._server = node or self._server
        if start != self._expected:
            self._fill_gap()
            return
        self._gap, self._resuming = None, False
        if self._watched:
            # Its node is there; the next wait is looked at anew.
            self._watched = False
            self.caller.presence.forget(self)
        self._expected += len(items)
        self._parts.append((items, len(message.payload) + OVERHEAD))
        self._begin()
        if more:
            self._hand_out()
        else:
            self._finish(None)

    def fail(self, fault: Fault) -> None:
        """The stream ends with an error, or its request goes to another node."""
        if self._server is None:
            if self.caller.may_repeat(self, fault):
                self.caller.send_again(self)
                return
        elif isinstance(fault, (NodeLost, UnknownObject)):
            # The broker answers `rpc.more` to a node that is gone; the stream has begun there.
            fault = node_lost(self.object, self._server)
        self._finish(fault)

    def expired(self, fault: Fault) -> None:
        """The deadline has passed before the first part."""
        self._finish(fault)

    def lost_connection(self) -> bool:
        """Returns whether the stream goes on with the next connection."""
        if self._server is None:
            return self.settings.idempotent
        if not self._resuming:
            self._resuming = True
            self.timers.append(
                self.caller.bus.loop.call_later(self.settings.deadline, self._not_resumed, self._expected)
            )
        return True

    def send(self) -> bool:
        """Goes on after a lost connection; returns False where the request is to be sent instead."""
        if self._server is None:
            return False
        self.is_sent = True
        self._grant(again=True)
        return True

    def _begin(self) -> None:
        """The first part has come: the deadline of the request is met, and `rpc.more` prolongs the stream."""
        if self._renewing:
            return
        self._renewing = True
        self.timers[0].cancel()
        self._renew()

    def _renew(self) -> None:
        if self._over:
            return
        now = time.monotonic()
        if now - self._last_ask < self.settings.deadline:
            self._grant()
        self.timers[0] = self.caller.bus.loop.call_later(self.settings.deadline / 3, self._renew)

    def _watch_later(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watching = self.caller.bus.loop.call_later(WATCH_AFTER, self._watch)

    def _watch(self) -> None:
        # Until the stream goes on after a lost connection, node and broker are given the time of the deadline.
        if self._asked is not None and not self._over and self.is_sent and not self._resuming:
            self._watched = True
            self.caller.presence.watch(self)

    def _try_again(self) -> None:
        if not self._trying and not self._over:
            self._trying = True
            self.timers.append(self.caller.bus.loop.call_later(_AGAIN, self._ask_again))

    def _ask_again(self) -> None:
        self._trying = False
        if not self._over:
            self._grant(again=True)

    def _not_resumed(self, expected: int) -> None:
        if not self._over and self._resuming and self._expected == expected:
            self.fail(NodeLost(f"{self.object}: the connection to the broker was lost", maybe_executed=True))

    def _fill_gap(self) -> None:
        """Asks for parts that are missing."""
        now = time.monotonic()
        if self._gap is None:
            self._gap = now
            self._grant(again=True)
        elif now - self._gap > self.settings.deadline:
            self.fail(BrokenObject("items of a stream are missing"))

    def _grant(self, again: bool = False) -> None:
        """Sends `rpc.more`."""
        if self._server is None:
            return
        self._granted = self._taken + WINDOW
        bus = self.caller.bus
        topic = CallTopic("at", self.object, "rpc.more", self._server).format(bus.topics.root)
        payload = text.write([self._expected, self._granted, again])
        bus.connection.publish(
            Publish(topic, payload, self.caller.properties(self.object, self.key, self.settings.deadline))
        )

    def _hand_out(self) -> None:
        if self._asked is None:
            return
        items: list[Any] = []
        while self._parts and not items:
            items, size = self._parts.popleft()
            self._handed += size
        if items:
            asked, self._asked = self._asked, None
            _resolve(asked, items, None)
        elif self._over:
            asked, self._asked = self._asked, None
            _resolve(asked, None, self._fault)

    def _finish(self, fault: Optional[Fault]) -> None:
        self.caller.finish(self)
        self._end(fault)

    def _end(self, fault: Optional[Fault]) -> None:
        if not self._over:
            self._over, self._fault = True, fault
        self._hand_out()


def _resolve(future: concurrent.futures.Future[_Part], items: _Part, fault: Optional[Fault]) -> None:
    if future.set_running_or_notify_cancel():
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(items)


class _Source:
    """What iterators of both kinds have in common."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._items: Iterator[Any] = iter(())
        self._over = False
        self._closed = False

    def _ask(self) -> concurrent.futures.Future[_Part]:
        future: concurrent.futures.Future[_Part] = concurrent.futures.Future()
        self._call.caller.bus.loop.post(self._call.ask, future)
        return future

    def _take(self, part: _Part) -> None:
        if part is None:
            self._over = True
        else:
            self._items = iter(part)

    def _failed(self, error: BaseException) -> None:
        """Ends the stream; one that did not end by itself, as at Ctrl-C, is given up."""
        if isinstance(error, Fault):
            self._over = True
        else:
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._over = True
            self._items = iter(())
            self._call.caller.bus.loop.post(self._call.close)

    def __del__(self) -> None:
        self._close()


class Items(_Source, Iterator[Any]):
    """Items of a stream, as they come. An error ends it, and is raised.

    About 256 KiB of items wait here or are on their way; the object is asked for no more before they are taken.
    `close`, or the end of a `with` block, gives the stream up.
    """

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        while True:
            # A part may be empty.
            for item in self._items:
                return item
            if self._over:
                raise StopIteration
            try:
                part = self._ask().result()
            except BaseException as error:
                self._failed(error)
                raise
            self._take(part)

    def close(self) -> None:
        """Gives the stream up: the object's is closed."""
        self._close()

    def __enter__(self) -> Items:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class AsyncItems(_Source, AsyncIterator[Any]):
    """Items of a stream, as they come, for `async for`. Cancelling a wait gives the stream up."""

    def __aiter__(self) -> AsyncItems:
        return self

    async def __anext__(self) -> Any:
        while True:
            # A part may be empty.
            for item in self._items:
                return item
            if self._over:
                raise StopAsyncIteration
            try:
                part = await asyncio.wrap_future(self._ask())
            except BaseException as error:
                self._failed(error)
                raise
            self._take(part)

    async def aclose(self) -> None:
        """Gives the stream up: the object's is closed."""
        self._close()

    async def __aenter__(self) -> AsyncItems:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
