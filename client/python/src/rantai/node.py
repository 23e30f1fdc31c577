"""Serves objects."""

from __future__ import annotations

import concurrent.futures
import logging
import secrets
import signal
import threading
import time
from typing import Any, Optional

from .address import Tls
from .announcer import Announcer, retained
from .bus import FIRST_CONNECTION, Bus
from .caller import Caller
from .client import Client, broker_url
from .dispatch import Dispatcher
from .emitting import publish_event
from .faults import TimedOut
from .keeper import Keeper
from .objects import name_of
from .served import Served
from .wire import entry, names
from .wire.entry import NodeState
from .wire.message import Message, Publish
from .wire.topics import Topics

logger = logging.getLogger("rantai")

#: Seconds that streams have when a node stops.
_STREAMS = 2.0
#: Seconds to wait for a name: a holder is pinged, and a claim stands for a second.
_CLAIM = 30.0


class Node:
    """A connection that serves objects: `Node("mqtt://localhost").serve(Calculator()).run()`."""

    def __init__(
        self,
        url: Optional[str] = None,
        name: Optional[str] = None,
        *,
        root: str = "rantai",
        user: Optional[str] = None,
        password: Optional[str] = None,
        ca: Optional[str] = None,
        cert: Optional[str] = None,
        key: Optional[str] = None,
        timeout: float = FIRST_CONNECTION,
    ) -> None:
        """Connects.

        Args:
            url: Addresses, separated by commas; without it those of `RANTAI_BROKER`, else `mqtt://localhost`.
            name: Id of the node, which no other one has; drawn where there is none.
            root: Root of the topics.
            user: User name; without it that of the address.
            password: Its password.
            ca: PEM file of the authorities to trust, instead of the system's.
            cert: PEM file of a certificate to show to the broker.
            key: PEM file of its private key, where that is another file.
            timeout: Seconds to wait for the first connection.

        Raises:
            ConnectError: No broker can be reached in time, or it refuses the login.
        """
        epoch = secrets.token_hex(8)
        topics = Topics(root)

        def will(node: str) -> Publish:
            return retained(topics.node(node), NodeState(entry.LOST, epoch).write())

        self._bus = Bus(
            broker_url(url),
            root=root,
            client_id=name,
            user=user,
            password=password,
            tls=Tls(ca, cert, key),
            kind="node",
            will=will,
        )
        self._keepers: dict[str, Keeper] = {}
        self._announcer = Announcer(self._bus, epoch)
        self._caller = Caller(self._bus)
        #: Client of the same connection.
        self.client = Client.on_bus(self._bus, self._caller)
        self._dispatcher = Dispatcher(self._bus, epoch, lambda: self.client)
        self._dispatcher.is_claimed_by = self._announcer.is_claimed_by
        self._dispatcher.give_up = lambda served: self._keepers[served].give_up()
        self._announcer.on_change = self._registry_changed
        self._announcer.on_double = self._double
        self._sinks: dict[str, Any] = {}
        self._ended = threading.Event()
        self._stopping = threading.Lock()
        self._bus.on_end(lambda error: self._ended.set())
        self._bus.add(_Keepers(self._keepers))
        self._bus.start(timeout)

    @property
    def id(self) -> str:
        """Id of the node."""
        return self._bus.client_id

    @property
    def error(self) -> Optional[Exception]:
        """Why the node has ended by itself, as after another one has taken its id; None while it has not."""
        return self._bus.error

    def serve(self, instance: Any, name: Optional[str] = None, *, replace: bool = False) -> Node:
        """Serves an object, and returns the node when calls reach it.

        Args:
            instance: The object, or its class.
            name: Its name; without it that of `@rantai.object`.
            replace: Whether a node that holds the name is asked to give it up.

        Raises:
            NameTaken: Another node serves the name.
            TimedOut: There was no connection for so long.
            PermissionError: The broker's rules do not allow it.
        """
        if isinstance(instance, type):
            instance = instance()
        name = names.own_object_name(name) if name is not None else name_of(type(instance))
        served = Served(name, instance)
        keeper = Keeper(self._announcer, self._caller, served, replace)
        self._bus.loop.post(self._begin, keeper, served)
        try:
            keeper.first.result(_CLAIM)
        except concurrent.futures.TimeoutError:
            self._bus.loop.post(self._forget, name, keeper)
            raise TimedOut(f"{name} could not be claimed within {_CLAIM:g} s: no connection to the broker") from None
        except BaseException:
            self._bus.loop.post(self._forget, name, keeper)
            raise
        return self

    def run(self) -> None:
        """Serves until SIGINT (Ctrl-C) or SIGTERM, then finishes what runs. In the main thread.

        Raises the error by which the node has ended by itself.
        """
        ended = self._ended
        before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            # A wait without a limit would not be interrupted on every system.
            while not ended.wait(1.0):
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        error = self.error
        self.stop()
        if error is not None:
            raise error

    def stop(self, timeout: float = 10.0) -> None:
        """Takes no more calls, finishes those that run, and leaves the registry. May be called again.

        What still runs after `timeout` seconds, and streams after 2, end with -32004.
        """
        with self._stopping:
            if (self._bus.error is None and not self._ended.is_set()) or self._bus.connection.online:
                self._drain(timeout)
            self._ended.set()
            self._bus.close()
            self._dispatcher.async_loop.close()
            for served in self._dispatcher.objects.values():
                served.pool.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _drain(self, timeout: float) -> None:
        started = time.monotonic()
        self._bus.loop.post(self._announcer.announce_state, entry.DRAINING)
        for keeper in list(self._keepers.values()):
            unsubscribed = threading.Event()
            self._bus.loop.post(keeper.unsubscribe, unsubscribed.set)
            # Calls that were on their way have come before the broker's answer.
            unsubscribed.wait(max(0.0, started + min(timeout, _STREAMS) - time.monotonic()))
        self._wait_until_idle(started + min(timeout, _STREAMS))
        self._bus.loop.post(self._end_calls, True)
        self._wait_until_idle(started + timeout)
        self._bus.loop.post(self._end_calls, False)
        left = threading.Event()
        self._bus.loop.post(self._leave, left)
        left.wait(2.0)

    def _wait_until_idle(self, until: float) -> None:
        while time.monotonic() < until and any(served.running for served in list(self._dispatcher.objects.values())):
            time.sleep(0.005)

    def _end_calls(self, streams_only: bool) -> None:
        for served in self._dispatcher.objects.values():
            for running in list(served.running):
                if running.stream is not None or not streams_only:
                    running.leave()

    def _leave(self, left: threading.Event) -> None:
        for keeper in self._keepers.values():
            keeper.stop()
        self._announcer.clear_state(lambda code, said: left.set())

    def _begin(self, keeper: Keeper, served: Served) -> None:
        if served.name in self._dispatcher.objects:
            keeper.first.set_exception(ValueError(f"{served.name} is served by this node already"))
            return
        self._dispatcher.objects[served.name] = served
        self._keepers[served.name] = keeper

        def sink(event: str, value: Any, retained_: bool, client: Optional[str]) -> None:
            self._bus.loop.post(publish_event, self._bus, served.name, event, value, retained_, client)

        self._sinks[served.name] = sink
        served.emissions.attach(sink)
        if self._bus.connection.online:
            keeper.connected()

    def _forget(self, name: str, keeper: Keeper) -> None:
        if self._keepers.get(name) is not keeper:
            # The name is served by this node already.
            return
        del self._keepers[name]
        served = self._dispatcher.objects.pop(name)
        served.emissions.detach(self._sinks.pop(name))
        keeper.stop()

    def _registry_changed(self) -> None:
        for keeper in list(self._keepers.values()):
            keeper.changed()

    def _double(self, reason: str) -> None:
        logger.error("%s", reason)
        if self._bus.connection.online:
            self._announcer.clear_state(lambda code, said: self._bus.fail(RuntimeError(reason)))
        else:
            self._bus.fail(RuntimeError(reason))


class _Keepers:
    """The keepers of a node, after its announcer: the state comes before the entries."""

    def __init__(self, keepers: dict[str, Keeper]) -> None:
        self._keepers = keepers

    def connected(self) -> None:
        """Called by the bus."""
        for keeper in list(self._keepers.values()):
            keeper.connected()

    def disconnected(self) -> None:
        """Called by the bus."""
        for keeper in list(self._keepers.values()):
            keeper.disconnected()

    def received(self, message: Message) -> None:
        """Called by the bus."""
