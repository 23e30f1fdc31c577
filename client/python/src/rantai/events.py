"""Events of objects: the subscriber's side."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import threading
from dataclasses import dataclass
from typing import Any, AsyncIterator, Iterator, Optional

from .bus import Bus
from .wire import text
from .wire.message import Message

#: Events of one subscription that wait to be taken; the oldest are dropped beyond it.
BACKLOG = 10_000


@dataclass(frozen=True)
class Event:
    """An event of an object."""

    object: str
    name: str
    value: Any
    #: Whether it is the last value of before the subscription.
    retained: bool = False


class Subscription:
    """Events of one object that wait to be taken. Its functions are called in the loop's thread."""

    def __init__(self, bus: Bus, object: str, event: Optional[str]) -> None:
        self.bus = bus
        self.object = object
        self.event = event
        self.dropped = 0
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        topics = bus.topics
        name = event if event is not None else "+"
        self.filters = [topics.event(object, name), topics.event(object, name, bus.client_id)]
        self._waiting: collections.deque[Event] = collections.deque()
        self._asked: Optional[concurrent.futures.Future[Optional[Event]]] = None
        self._closed = False

    def subscribed(self, codes: Optional[list[int]]) -> None:
        """SUBACK has come, or the connection was lost."""
        if self.ready.done() or codes is None:
            return
        if codes[0] >= 0x80:
            self.ready.set_exception(PermissionError(f"the broker refuses the subscription to {self.filters[0]}"))
        else:
            self.ready.set_result(None)

    def ask(self, future: concurrent.futures.Future[Optional[Event]]) -> None:
        """Has the next event put into a future; None at the end."""
        self._asked = future
        self._hand_out()

    def received(self, event: Event) -> None:
        """An event has come."""
        if len(self._waiting) >= BACKLOG:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(event)
        self._hand_out()

    def close(self) -> None:
        """Ends the subscription."""
        self._closed = True
        self._hand_out()

    def _hand_out(self) -> None:
        if self._asked is None or not (self._waiting or self._closed):
            return
        asked, self._asked = self._asked, None
        if asked.set_running_or_notify_cancel():
            asked.set_result(self._waiting.popleft() if self._waiting else None)


class Subscriptions:
    """The subscriptions of one client, made again on every connection."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._all: list[Subscription] = []
        bus.add(self, "event")

    def begin(self, subscription: Subscription) -> None:
        """Subscribes."""
        self._all.append(subscription)
        if self._bus.connection.online:
            self._bus.follow(list(subscription.filters), subscription.subscribed)

    def end(self, subscription: Subscription) -> None:
        """Unsubscribes."""
        if subscription in self._all:
            self._all.remove(subscription)
            self._bus.unfollow(subscription.filters)
            subscription.close()

    def connected(self) -> None:
        """Called by the bus."""
        for subscription in self._all:
            self._bus.follow(list(subscription.filters), subscription.subscribed)

    def disconnected(self) -> None:
        """Called by the bus."""

    def received(self, message: Message) -> None:
        """Called by the bus."""
        if not self._all:
            return
        topic = self._bus.topics.parse_event(message.topic)
        if topic is None or topic.client not in (None, self._bus.client_id):
            return
        wanted = [s for s in self._all if s.object == topic.object and s.event in (None, topic.event)]
        if not wanted:
            return
        try:
            value = text.read(message.payload) if message.payload else None
        except ValueError:
            return
        for subscription in wanted:
            subscription.received(Event(topic.object, topic.event, value, message.retain))


class _Source:
    def __init__(self, subscriptions: Subscriptions, subscription: Subscription) -> None:
        self._subscriptions = subscriptions
        self._subscription = subscription
        self._lock = threading.Lock()

    @property
    def dropped(self) -> int:
        """Number of events that were dropped because they were not taken in time."""
        return self._subscription.dropped

    def _ask(self) -> concurrent.futures.Future[Optional[Event]]:
        future: concurrent.futures.Future[Optional[Event]] = concurrent.futures.Future()
        self._subscription.bus.loop.post(self._subscription.ask, future)
        return future

    def _close(self) -> None:
        self._subscription.bus.loop.post(self._subscriptions.end, self._subscription)


class Events(_Source, Iterator[Event]):
    """Events as they come, retained ones first. `close` ends the subscription, and with it the iteration."""

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        event = self._ask().result()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: Optional[float] = None) -> Event:
        """Returns the next event. Raises `TimeoutError` after `timeout` seconds."""
        with self._lock:
            future = self._ask()
            try:
                event = future.result(timeout)
            except concurrent.futures.TimeoutError:
                if future.cancel():
                    raise TimeoutError(f"no event within {timeout:g} s") from None
                event = future.result()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Ends the subscription."""
        self._close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class AsyncEvents(_Source, AsyncIterator[Event]):
    """Events as they come, for `async for`."""

    def __aiter__(self) -> AsyncEvents:
        return self

    async def __anext__(self) -> Event:
        event = await asyncio.wrap_future(self._ask())
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Ends the subscription."""
        self._close()

    async def __aenter__(self) -> AsyncEvents:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
