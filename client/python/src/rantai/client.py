"""Calls objects from plain (not asyncio) programs."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, Optional

from .address import Tls
from .bus import FIRST_CONNECTION, Bus
from .caller import Caller
from .calls import Answer, Progress, Settings
from .events import Events, Subscription, Subscriptions
from .faults import TimedOut
from .items import Items, StreamCall
from .proxy import BaseMethod, BaseProxy
from .view import View

#: Broker where no address is given.
DEFAULT_URL = "mqtt://localhost"


def broker_url(url: Optional[str]) -> str:
    """Returns the address to use: the given one, else that of `RANTAI_BROKER`, else this machine's."""
    return url or os.environ.get("RANTAI_BROKER") or DEFAULT_URL


class Client:
    """Connection of a caller, which may be used by many threads at a time.

    `client.calculator.add(2, 3)` calls a method; objects whose names have dots are `client["example.a"]`. The connection is
    made again when it is lost. `close`, or the end of a `with` block, ends it.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        root: str = "rantai",
        user: Optional[str] = None,
        password: Optional[str] = None,
        ca: Optional[str] = None,
        cert: Optional[str] = None,
        key: Optional[str] = None,
        client_id: Optional[str] = None,
        deadline: float = 30.0,
        timeout: float = FIRST_CONNECTION,
    ) -> None:
        """Connects.

        Args:
            url: Addresses, separated by commas; without it those of `RANTAI_BROKER`, else `mqtt://localhost`.
            root: Root of the topics.
            user: User name; without it that of the address.
            password: Its password.
            ca: PEM file of the authorities to trust, instead of the system's.
            cert: PEM file of a certificate to show to the broker.
            key: PEM file of its private key, where that is another file.
            client_id: Client id; drawn where there is none.
            deadline: Seconds that calls may take, unless they say otherwise.
            timeout: Seconds to wait for the first connection.

        Raises:
            ConnectError: No broker can be reached in time, or it refuses the login.
        """
        bus = Bus(
            broker_url(url),
            root=root,
            client_id=client_id,
            user=user,
            password=password,
            tls=Tls(ca, cert, key),
            kind="py",
        )
        self._set_up(bus, Caller(bus), Settings(deadline=deadline))
        bus.start(timeout)

    def _set_up(self, bus: Bus, caller: Caller, settings: Settings) -> None:
        self._bus = bus
        self._caller = caller
        self._settings = settings
        self._subscriptions = Subscriptions(bus)

    @classmethod
    def on_bus(cls, bus: Bus, caller: Caller) -> Client:
        """Creates a client of a node's own connection. For this package alone."""
        client = cls.__new__(cls)
        client._set_up(bus, caller, Settings())
        return client

    @property
    def id(self) -> str:
        """Client id of the connection."""
        return self._bus.client_id

    def object(self, name: str) -> Proxy:
        """Returns the object of a name, whether there is one or not."""
        return Proxy(self._caller, name, self._settings, self._subscriptions)

    def __getitem__(self, name: str) -> Proxy:
        return self.object(name)

    def __getattr__(self, name: str) -> Proxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.object(name)

    def objects(self) -> list[str]:
        """Returns the names of the objects that are served now, in order."""
        view = read_registry(self._caller).result()
        return [name for name in view.objects() if view.is_served(name)]

    def wait_for(self, name: str, timeout: float = 30.0) -> None:
        """Waits until an object is served. Raises `TimedOut`."""
        wait = ServedWait(self._caller, name)
        self._bus.loop.post(wait.begin)
        try:
            wait.future.result(timeout)
        except TimeoutError:
            raise TimedOut(f"{name} is not served within {timeout:g} s") from None
        finally:
            self._bus.loop.post(wait.end)

    def close(self) -> None:
        """Ends the connection. Calls that are under way get no reply."""
        self._bus.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Proxy(BaseProxy):
    """An object. Its attributes are its methods; calling it returns a proxy with other settings."""

    def __init__(self, caller: Caller, name: str, settings: Settings, subscriptions: Subscriptions) -> None:
        super().__init__(caller, name, settings)
        self._subscriptions = subscriptions

    def __call__(
        self,
        *,
        deadline: Optional[float] = None,
        node: Optional[str] = None,
        idempotent: Optional[bool] = None,
        on_progress: Optional[Callable[[Progress], None]] = None,
        identity: Optional[bytes] = None,
    ) -> Proxy:
        """Returns the object with other settings, as in `client.calculator(deadline=2.0).add(2, 3)`.

        Args:
            deadline: Seconds that a call may take.
            node: The node to ask, of several that serve the object.
            idempotent: Whether a call may be carried out twice: it goes to another node where its own is lost.
            on_progress: Called in the connection's thread with how far the call is. It must not block.
            identity: Correlation Data of 16 to 64 bytes, by which the object recognises a repeated request.
        """
        return self._with(deadline, node, idempotent, on_progress, identity)

    def _with(self, *changes: Any) -> Proxy:
        settings = changed(self._settings, *changes)
        return Proxy(self._caller, self._name, settings, self._subscriptions)

    def __getattr__(self, method: str) -> Method:
        if method.startswith("_"):
            raise AttributeError(method)
        return Method(self._caller, self._name, method, self._settings)

    def method(self, name: str) -> Method:
        """Returns a method by its name, as `rpc.ping`."""
        return Method(self._caller, self._name, name, self._settings)

    def events(self, name: Optional[str] = None) -> Events:
        """Subscribes to an event of the object, or to all. Returns when the broker has granted it."""
        subscription = Subscription(self._caller.bus, self._name, name)
        self._caller.bus.loop.post(self._subscriptions.begin, subscription)
        subscription.ready.result(self._settings.deadline)
        return Events(self._subscriptions, subscription)

    def describe(self) -> dict[str, Any]:
        """Returns the object's OpenRPC document."""
        document: dict[str, Any] = self._discover().result()
        return document


class Method(BaseMethod["Proxy"]):
    """A method of an object."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the method with parameters by position or by name, and returns its result.

        Raises `Fault`: the class of the error says what happened. Ctrl-C gives the call up.
        """
        future = self.start(*args, **kwargs)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stream(self, *args: Any, **kwargs: Any) -> Items:
        """Calls a method whose result is a stream; returns its items as they come."""
        call: StreamCall = self._start(StreamCall, args, kwargs)
        return Items(call, lambda item: item)

    def all(self, *args: Any, within: float = 1.0, **kwargs: Any) -> list[Answer]:
        """Calls the method of every instance; returns the replies that come within `within` seconds."""
        answers: list[Answer] = self._all(args, kwargs, within).result()
        return answers

    def oneway(self, *args: Any, **kwargs: Any) -> None:
        """Calls the method without a reply; returns when the broker has the request."""
        self._oneway(args, kwargs).result()


def changed(
    settings: Settings,
    deadline: Optional[float],
    node: Optional[str],
    idempotent: Optional[bool],
    on_progress: Optional[Callable[[Progress], None]],
    identity: Optional[bytes],
) -> Settings:
    """Returns settings with those changed that are not None."""
    changes = {"deadline": deadline, "node": node, "idempotent": idempotent, "on_progress": on_progress, "identity": identity}
    return dataclasses.replace(settings, **{name: value for name, value in changes.items() if value is not None})


def read_registry(caller: Caller) -> Any:
    """Reads the whole registry; returns a future of its `View`."""
    import concurrent.futures

    future: concurrent.futures.Future[View] = concurrent.futures.Future()
    caller.bus.loop.post(caller.census.read, future.set_result)
    return future


class ServedWait:
    """Waits until an object is served."""

    def __init__(self, caller: Caller, name: str) -> None:
        import concurrent.futures

        self._caller = caller
        self._name = name
        self._timer: Any = None
        self.future: concurrent.futures.Future[None] = concurrent.futures.Future()

    def begin(self) -> None:
        """Looks into the registry, again and again. In the loop's thread."""
        self._caller.census.read(self._look)

    def _look(self, view: View) -> None:
        if view.is_served(self._name):
            if not self.future.done():
                self.future.set_result(None)
        elif not self.future.done():
            self._timer = self._caller.bus.loop.call_later(0.05, self.begin)

    def end(self) -> None:
        """Looks no more. In the loop's thread."""
        if not self.future.done():
            self.future.cancel()
        if self._timer is not None:
            self._timer.cancel()
