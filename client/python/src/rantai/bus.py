"""A connection whose messages go to the parts of a client or a node, by their topics."""

from __future__ import annotations

import secrets
import threading
from typing import Callable, Optional, Protocol

from .address import Tls, parse_all
from .connection import ConnectError, Connection, Options
from .loop import Loop
from .wire import names
from .wire.message import Message, Publish
from .wire.topics import Topics

#: Seconds to wait for the first connection.
FIRST_CONNECTION = 15.0


class Part(Protocol):
    """A part of a client or a node. Its functions are called in the loop's thread."""

    def connected(self) -> None:
        """A connection was made; subscriptions of earlier ones are gone."""

    def disconnected(self) -> None:
        """The connection was lost."""

    def received(self, message: Message) -> None:
        """A message of the part's kinds arrived."""


def new_client_id(user: Optional[str], kind: str) -> str:
    """Draws a client id, which begins with the user's name where there is one."""
    drawn = f"{kind}-{secrets.token_hex(6)}"
    if user and names.is_id(f"{user}--{drawn}"):
        return f"{user}--{drawn}"
    return drawn


class Bus:
    """Connection, topics and parts of one client or node."""

    def __init__(
        self,
        url: str,
        *,
        root: str,
        client_id: Optional[str],
        user: Optional[str],
        password: Optional[str],
        tls: Tls,
        kind: str,
        will: Optional[Callable[[str], Publish]] = None,
    ) -> None:
        addresses = parse_all(url)
        if user is None:
            logins = {address.user for address in addresses if address.user is not None}
            user = logins.pop() if len(logins) == 1 else None
        self.topics = Topics(root)
        self.client_id = names.client_id(client_id) if client_id else new_client_id(user, kind)
        self.loop = Loop(f"rantai-{self.client_id}")
        options = Options(addresses, self.client_id, user, password, tls, will(self.client_id) if will else None)
        self.connection = Connection(self.loop, options, self)
        self.parts: list[Part] = []
        self._by_kind: dict[str, list[Part]] = {}
        #: Why the connection is not made again; None while it is.
        self.error: Optional[Exception] = None
        self._first = threading.Event()
        self._closed = threading.Event()
        self._on_end: list[Callable[[Exception], None]] = []
        self._holders: dict[str, int] = {}

    def add(self, part: Part, *kinds: str) -> None:
        """Adds a part for topics whose first level behind the root is one of `kinds`.

        To be called before `start`, or in the loop's thread.
        """
        self.parts.append(part)
        for kind in kinds:
            self._by_kind.setdefault(kind, []).append(part)

    def start(self, timeout: float = FIRST_CONNECTION) -> None:
        """Connects. Raises `ConnectError` where no connection is made in time, or none can be made."""
        self.loop.start()
        self.loop.post(self.connection.open)
        made = self._first.wait(timeout)
        if self.error is not None or not made:
            error = self.error or self.connection.last_error
            self.close()
            raise error or ConnectError(f"cannot connect to {self.connection.address}: no answer within {timeout:g} s")

    def close(self, timeout: float = 5.0) -> None:
        """Ends the connection and its thread. May be called again."""
        if self._closed.is_set():
            return
        self.loop.post(self.connection.close, self._closed.set)
        self._closed.wait(timeout)
        self._closed.set()
        self.loop.stop()
        if not self.loop.is_current() and self.loop.thread.is_alive():
            self.loop.thread.join(timeout)

    def fail(self, error: Exception) -> None:
        """Ends the connection for good, because of an error. In the loop's thread."""
        if self.error is None:
            self.error = error
            self.connection.close(lambda: None)
            for part in self.parts:
                part.disconnected()
            for told in self._on_end:
                told(error)
        self._first.set()

    def on_end(self, told: Callable[[Exception], None]) -> None:
        """Has a function called when the connection ends for good."""
        self._on_end.append(told)

    def follow(self, filters: list[str], done: Callable[[Optional[list[int]]], None] = lambda _: None) -> None:
        """Subscribes to filters, their retained messages included, for one more holder."""
        for topic in filters:
            self._holders[topic] = self._holders.get(topic, 0) + 1
        self.connection.subscribe([(topic, False) for topic in filters], done)

    def unfollow(self, filters: list[str]) -> None:
        """Gives filters back; those without another holder are unsubscribed from."""
        gone = []
        for topic in filters:
            left = self._holders.get(topic, 0) - 1
            if left > 0:
                self._holders[topic] = left
            elif self._holders.pop(topic, None) is not None:
                gone.append(topic)
        self.connection.unsubscribe(gone)

    def connected(self) -> None:
        """Called by the connection."""
        self._holders.clear()
        for part in list(self.parts):
            part.connected()
        self._first.set()

    def disconnected(self) -> None:
        """Called by the connection."""
        self._holders.clear()
        for part in list(self.parts):
            part.disconnected()

    def received(self, message: Message) -> None:
        """Called by the connection."""
        prefix = self.topics.root + "/"
        if message.topic.startswith(prefix):
            kind = message.topic[len(prefix) :].split("/", 1)[0]
            for part in list(self._by_kind.get(kind, ())):
                part.received(message)

    def ended(self, error: ConnectError) -> None:
        """Called by the connection."""
        self.fail(error)
