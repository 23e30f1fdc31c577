"""Objects by name: what callers of both kinds, plain and asyncio, have in common."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from typing import Any, Callable, Optional, TypeVar

from .caller import Caller
from .calls import Call, CallFuture, Collecting, Oneway, Progress, Settings
from .context import current
from .events import Subscription, Subscriptions
from .items import StreamCall
from .wire import names, text
from .wire.request import IDENTIFYING, LONGEST_CORRELATION

P = TypeVar("P", bound="BaseProxy")


def to_json(value: Any) -> Any:
    """Converts dataclasses, enumerations, sets, dates and UUIDs to JSON, wherever they are in a value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if isinstance(value, dict):
        return {name: to_json(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def encode(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, bool]:
    """Serializes parameters; returns them, and whether they are binary. Raises `TypeError` or `ValueError`."""
    if args and kwargs:
        raise TypeError("parameters are by position or by name, not both")
    if len(args) == 1 and isinstance(args[0], (bytes, bytearray, memoryview)):
        return bytes(args[0]), True
    if not args and not kwargs:
        return b"", False
    value = kwargs or list(args)
    try:
        portable = text.portable(value)
    except TypeError:
        portable = text.portable(to_json(value))
    return text.write(portable), False


class BaseProxy:
    """An object of the bus. Calling a proxy returns one with other settings; its attributes are methods."""

    def __init__(self, caller: Caller, name: str, settings: Settings, subscriptions: Subscriptions) -> None:
        self._caller = caller
        self._name = names.object_name(name)
        self._settings = settings
        self._subscriptions = subscriptions

    def __repr__(self) -> str:
        return f"<rantai object {self._name}>"

    def __call__(
        self: P,
        *,
        deadline: Optional[float] = None,
        node: Optional[str] = None,
        idempotent: Optional[bool] = None,
        on_progress: Optional[Callable[[Progress], None]] = None,
        identity: Optional[bytes] = None,
    ) -> P:
        """Returns the object with other settings, as in `client.calculator(deadline=2.0).add(2, 3)`.

        Args:
            deadline: Seconds that a call may take.
            node: The node to ask, of several that serve the object.
            idempotent: Whether a call may be carried out twice: it goes to another node where its own is lost.
            on_progress: Called in the connection's thread with how far the call is. It must not block.
            identity: Correlation Data of 16 to 64 bytes, by which the object recognises a repeated request.
        """
        if identity is not None and not IDENTIFYING <= len(identity) <= LONGEST_CORRELATION:
            raise ValueError(
                f"an identity has {IDENTIFYING} to {LONGEST_CORRELATION} bytes, and this one {len(identity)}"
            )
        changes: dict[str, Any] = {
            "deadline": deadline,
            "node": names.client_id(node) if node is not None else None,
            "idempotent": idempotent,
            "on_progress": on_progress,
            "identity": identity,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return type(self)(self._caller, self._name, dataclasses.replace(self._settings, **given), self._subscriptions)

    def _discover(self) -> CallFuture:
        future: CallFuture = start(Call, self._caller, self._name, "rpc.discover", (), {}, self._settings)
        return future

    def _subscribe(self, name: Optional[str]) -> Subscription:
        subscription = Subscription(self._caller.bus, self._name, name)
        self._caller.bus.loop.post(self._subscriptions.begin, subscription)
        return subscription


def start(
    kind: Callable[..., Call],
    caller: Caller,
    object: str,
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    settings: Settings,
) -> Any:
    """Begins a call and returns its future, or the call itself where it is a stream. May be called from any thread.

    A call that a method makes has no more time than the one that is carried out, and belongs to it.
    """
    payload, binary = encode(args, kwargs)
    user: list[tuple[str, str]] = []
    serving = current()
    if serving is not None:
        user, left = serving.hand_on()
        settings = dataclasses.replace(settings, deadline=min(settings.deadline, left))
    call = kind(caller, object, names.method_name(method), payload, binary, settings, user)
    caller.bus.loop.post(caller.start, call)
    return call if isinstance(call, StreamCall) else call.future


class BaseMethod:
    """A method of an object."""

    def __init__(self, caller: Caller, object: str, method: str, settings: Settings) -> None:
        self._caller = caller
        self._object = object
        self._method = names.method_name(method)
        self._settings = settings

    def __repr__(self) -> str:
        return f"<rantai method {self._object}.{self._method}>"

    def start(self, *args: Any, **kwargs: Any) -> CallFuture:
        """Begins a call and returns its `concurrent.futures.Future`: for many calls at a time."""
        future: CallFuture = self._start(Call, args, kwargs)
        return future

    def _start(self, kind: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], **changes: Any) -> Any:
        settings = dataclasses.replace(self._settings, **changes) if changes else self._settings
        return start(kind, self._caller, self._object, self._method, args, kwargs, settings)

    def _all(self, args: tuple[Any, ...], kwargs: dict[str, Any], within: float) -> CallFuture:
        future: CallFuture = self._start(Collecting, args, kwargs, deadline=within)
        return future

    def _oneway(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallFuture:
        future: CallFuture = self._start(Oneway, args, kwargs)
        return future
