"""Calls objects from asyncio programs, by the same core as `rantai.Client`."""

from __future__ import annotations

import asyncio
from typing import Any, Optional

from .address import Tls
from .bus import FIRST_CONNECTION, Bus
from .caller import Caller
from .calls import Answer, Settings
from .client import broker_url
from .events import AsyncEvents, Subscriptions
from .faults import TimedOut
from .items import AsyncItems, StreamCall
from .proxy import BaseMethod, BaseProxy
from .registry import ServedWait, read_registry, served


class AsyncClient:
    """Connection of a caller in an asyncio program: `async with AsyncClient(url) as client`.

    `await client.calculator.add(2, 3)` calls a method; cancelling the task gives the call up. The parameters are
    those of `rantai.Client`.
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
        self._bus = Bus(
            broker_url(url),
            root=root,
            client_id=client_id,
            user=user,
            password=password,
            tls=Tls(ca, cert, key),
            kind="py",
        )
        self._caller = Caller(self._bus)
        self._settings = Settings(deadline=deadline)
        self._subscriptions = Subscriptions(self._bus)
        self._timeout = timeout

    async def connect(self) -> AsyncClient:
        """Connects, and returns the client. Raises `ConnectError`."""
        await asyncio.get_running_loop().run_in_executor(None, self._bus.start, self._timeout)
        return self

    async def close(self) -> None:
        """Ends the connection. Calls that are under way get no reply."""
        await asyncio.get_running_loop().run_in_executor(None, self._bus.close)

    async def __aenter__(self) -> AsyncClient:
        return await self.connect()

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    @property
    def id(self) -> str:
        """Client id of the connection."""
        return self._bus.client_id

    def object(self, name: str) -> AsyncProxy:
        """Returns the object of a name, whether there is one or not."""
        return AsyncProxy(self._caller, name, self._settings, self._subscriptions)

    def __getitem__(self, name: str) -> AsyncProxy:
        return self.object(name)

    def __getattr__(self, name: str) -> AsyncProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.object(name)

    async def objects(self) -> list[str]:
        """Returns the names of the objects that are served now, in order."""
        return served(await asyncio.wrap_future(read_registry(self._caller)))

    async def wait_for(self, name: str, timeout: float = 30.0) -> None:
        """Waits until an object is served. Raises `TimedOut`."""
        wait = ServedWait(self._caller, name)
        wait.begin()
        try:
            await asyncio.wait_for(asyncio.wrap_future(wait.future), timeout)
        except asyncio.TimeoutError:
            raise TimedOut(f"{name} is not served within {timeout:g} s") from None
        finally:
            wait.end()


class AsyncProxy(BaseProxy):
    """An object. Its attributes are its methods; calling it returns a proxy with other settings."""

    def __getattr__(self, method: str) -> AsyncMethod:
        if method.startswith("_"):
            raise AttributeError(method)
        return AsyncMethod(self._caller, self._name, method, self._settings)

    def method(self, name: str) -> AsyncMethod:
        """Returns a method by its name, as `rpc.ping`."""
        return AsyncMethod(self._caller, self._name, name, self._settings)

    async def events(self, name: Optional[str] = None) -> AsyncEvents:
        """Subscribes to an event of the object, or to all. Returns when the broker has granted it."""
        subscription = self._subscribe(name)
        await asyncio.wait_for(asyncio.wrap_future(subscription.ready), self._settings.deadline)
        return AsyncEvents(self._subscriptions, subscription)

    async def describe(self) -> dict[str, Any]:
        """Returns the object's OpenRPC document."""
        document: dict[str, Any] = await asyncio.wrap_future(self._discover())
        return document


class AsyncMethod(BaseMethod):
    """A method of an object."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the method with parameters by position or by name, and returns its result. Raises `Fault`."""
        return await asyncio.wrap_future(self.start(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> AsyncItems:
        """Calls a method whose result is a stream; returns its items as they come."""
        call: StreamCall = self._start(StreamCall, args, kwargs)
        return AsyncItems(call)

    async def all(self, *args: Any, within: float = 1.0, **kwargs: Any) -> list[Answer]:
        """Calls the method of every instance; returns the replies that come within `within` seconds."""
        answers: list[Answer] = await asyncio.wrap_future(self._all(args, kwargs, within))
        return answers

    async def oneway(self, *args: Any, **kwargs: Any) -> None:
        """Calls the method without a reply; returns when the broker has the request."""
        await asyncio.wrap_future(self._oneway(args, kwargs))
