"""Calls objects from plain (not asyncio) programs."""

from __future__ import annotations

import concurrent.futures
import os
from typing import Any, Optional

from .address import Tls
from .bus import FIRST_CONNECTION, Bus
from .caller import Caller
from .calls import Answer, Settings
from .events import Events, Subscriptions
from .faults import TimedOut
from .items import Items, StreamCall
from .proxy import BaseMethod, BaseProxy
from .registry import ServedWait, read_registry, served

#: Broker where no address is given.
DEFAULT_URL = "mqtt://localhost"


def broker_url(url: Optional[str]) -> str:
    """Returns the address to use: the given one, else that of `RANTAI_BROKER`, else this machine's."""
    return url or os.environ.get("RANTAI_BROKER") or DEFAULT_URL


class Client:
    """Connection of a caller, which may be used by many threads at a time.

    `client.calculator.add(2, 3)` calls a method; objects whose names have dots are `client["example.a"]`.
    The connection is made again when it is lost. `close`, or the end of a `with` block, ends it.
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

    def __getitem__(self, name: str) -> Proxy:
        return Proxy(self._caller, name, self._settings, self._subscriptions)

    def __getattr__(self, name: str) -> Proxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def object(self, name: str) -> Proxy:
        """Returns the object of a name, whether there is one or not."""
        return self[name]

    def objects(self) -> list[str]:
        """Returns the names of the objects that are served now, in order."""
        return served(read_registry(self._caller).result())

    def wait_for(self, name: str, timeout: float = 30.0) -> None:
        """Waits until an object is served. Raises `TimedOut`."""
        wait = ServedWait(self._caller, name)
        wait.begin()
        try:
            wait.future.result(timeout)
        except concurrent.futures.TimeoutError:
            raise TimedOut(f"{name} is not served within {timeout:g} s") from None
        finally:
            wait.end()

    def close(self) -> None:
        """Ends the connection. Calls that are under way get no reply."""
        self._bus.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Proxy(BaseProxy):
    """An object. Its attributes are its methods; calling it returns a proxy with other settings."""

    def __getattr__(self, method: str) -> Method:
        if method.startswith("_"):
            raise AttributeError(method)
        return Method(self._caller, self._name, method, self._settings)

    def method(self, name: str) -> Method:
        """Returns a method by its name, as `rpc.ping`."""
        return Method(self._caller, self._name, name, self._settings)

    def events(self, name: Optional[str] = None) -> Events:
        """Subscribes to an event of the object, or to all. Returns when the broker has granted it."""
        subscription = self._subscribe(name)
        subscription.ready.result(self._settings.deadline)
        return Events(self._subscriptions, subscription)

    def describe(self) -> dict[str, Any]:
        """Returns the object's OpenRPC document."""
        document: dict[str, Any] = self._discover().result()
        return document


class Method(BaseMethod):
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
        return Items(call)

    def all(self, *args: Any, within: float = 1.0, **kwargs: Any) -> list[Answer]:
        """Calls the method of every instance; returns the replies that come within `within` seconds."""
        answers: list[Answer] = self._all(args, kwargs, within).result()
        return answers

    def oneway(self, *args: Any, **kwargs: Any) -> None:
        """Calls the method without a reply; returns when the broker has the request."""
        self._oneway(args, kwargs).result()
