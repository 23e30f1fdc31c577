"""How a class becomes an object: `@rantai.object`, `@rantai.method` and `rantai.event`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, Optional, TypeVar, overload

from .description import MARKS, Description, Marks, describe, summary_of
from .wire import entry, names

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

_OPTIONS, _DESCRIPTION = "__rantai_object__", "__rantai_description__"

#: Publishes an event: its name, the JSON of its value, whether it is retained, and the client that it is for.
Sink = Callable[[str, Any, bool, Optional[str]], None]


@dataclass(frozen=True)
class ObjectOptions:
    """What `@rantai.object` says of a class."""

    name: Optional[str] = None
    version: str = ""
    tags: list[str] = field(default_factory=list)
    mode: str = entry.EXCLUSIVE
    #: Calls that are carried out at the same time: threads of plain functions.
    threads: int = 8
    #: Calls that may wait or run; a further one is answered -32005.
    limit: int = 2_048


@overload
def object(cls: C) -> C: ...


@overload
def object(
    cls: Optional[str] = None,
    *,
    version: str = "",
    tags: Optional[list[str]] = None,
    replica: bool = False,
    threads: int = 8,
    limit: int = 2_048,
) -> Callable[[C], C]: ...


def object(
    cls: Any = None,
    *,
    version: str = "",
    tags: Optional[list[str]] = None,
    replica: bool = False,
    threads: int = 8,
    limit: int = 2_048,
) -> Any:
    """Makes a class an object: its public functions are methods, with parameters and results by their type hints.

    Args:
        cls: Name of the object; without it that of the class, in lower case.
        version: Version of the object.
        tags: Search tags.
        replica: Whether several nodes may serve the name at the same time.
        threads: Plain functions that run at the same time; with 1 they run one after the other.
        limit: Calls that may wait or run; a further one is told busy.
    """

    def mark(cls_: C, name: Optional[str] = None) -> C:
        mode = entry.REPLICA if replica else entry.EXCLUSIVE
        options = ObjectOptions(name, version, list(tags or []), mode, threads, limit)
        setattr(cls_, _OPTIONS, options)
        describe_class(cls_)
        return cls_

    if isinstance(cls, type):
        return mark(cls)
    if cls is not None:
        names.own_object_name(cls)
    return lambda cls_: mark(cls_, cls)


@overload
def method(function: F) -> F: ...


@overload
def method(
    *,
    idempotent: bool = False,
    read_only: bool = False,
    secret: bool = False,
    time_limit: Optional[float] = None,
    name: Optional[str] = None,
) -> Callable[[F], F]: ...


def method(
    function: Any = None,
    *,
    idempotent: bool = False,
    read_only: bool = False,
    secret: bool = False,
    time_limit: Optional[float] = None,
    name: Optional[str] = None,
) -> Any:
    """Says more of a method than its type hints do.

    Args:
        function: The method.
        idempotent: Carrying it out twice has the same effect as once.
        read_only: It changes nothing.
        secret: Its result is neither logged nor kept by whoever passes it on.
        time_limit: Most seconds that it may take, whatever the caller's deadline.
        name: Its name on the bus, where that is another one.
    """

    def mark(function_: F) -> F:
        setattr(function_, MARKS, Marks(idempotent, read_only, secret, time_limit, name))
        return function_

    return mark(function) if function is not None else mark


class event(Generic[T]):  # noqa: N801 - reads as a declaration
    """Declares an event: `changed = rantai.event(float)`, emitted by `self.changed.emit(21.5)`.

    With `state` the last value is retained: whoever subscribes later gets it first.
    """

    def __init__(self, hint: Any = Any, *, state: bool = False) -> None:
        self.hint = hint
        self.state = state
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = names.method_name(name)

    @overload
    def __get__(self, instance: None, owner: type) -> event[T]: ...

    @overload
    def __get__(self, instance: Any, owner: type) -> Emitter[T]: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else Emitter(emissions(instance), self.name)


class Emitter(Generic[T]):
    """Emits one event of one object. `emit` may be called from any thread."""

    def __init__(self, emissions_: Emissions, name: str) -> None:
        self._emissions = emissions_
        self._name = name

    def emit(self, value: T, client: Optional[str] = None) -> None:
        """Emits the event, to one client alone where it is named.

        Without a connection it is dropped, unless it is state.
        """
        self._emissions.emit(self._name, value, client)


class Emissions:
    """Events of one instance: where they go, and the last values of those that are state."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._lock = threading.Lock()
        self._sinks: list[Sink] = []
        self._last: dict[str, Any] = {}

    def emit(self, name: str, value: Any, client: Optional[str]) -> None:
        """Emits an event."""
        described = self._description.events[name]
        written = described.codec.write(value)
        retained = described.state and client is None
        with self._lock:
            if retained:
                self._last[name] = written
            sinks = list(self._sinks)
        for sink in sinks:
            sink(name, written, retained, client)

    def attach(self, sink: Sink) -> None:
        """Sends events to a sink from now on."""
        with self._lock:
            self._sinks.append(sink)

    def detach(self, sink: Sink) -> None:
        """Sends events to a sink no longer."""
        with self._lock:
            if sink in self._sinks:
                self._sinks.remove(sink)

    def last(self) -> dict[str, Any]:
        """Returns the last values of events that are state."""
        with self._lock:
            return dict(self._last)


_making = threading.Lock()


def emissions(instance: Any) -> Emissions:
    """Returns the emissions of an instance, which belong to it."""
    with _making:
        found = instance.__dict__.get("__rantai_emissions__")
        if found is None:
            found = instance.__dict__["__rantai_emissions__"] = Emissions(describe_class(type(instance)))
    assert isinstance(found, Emissions)
    return found


def options_of(cls: type) -> ObjectOptions:
    """Returns what `@rantai.object` says of a class; the defaults where it says nothing."""
    found = getattr(cls, _OPTIONS, None)
    return found if isinstance(found, ObjectOptions) else ObjectOptions()


def describe_class(cls: type) -> Description:
    """Describes a class, once. Raises `TypeError` for type hints without a JSON form."""
    known = cls.__dict__.get(_DESCRIPTION)
    if isinstance(known, Description):
        return known
    options = options_of(cls)
    events = {}
    for base in reversed(cls.__mro__):
        for name, declared in vars(base).items():
            if isinstance(declared, event):
                events[name] = (declared.hint, declared.state)
    described = describe(cls, summary_of(cls), options.version, options.tags, events)
    setattr(cls, _DESCRIPTION, described)
    return described


def name_of(cls: type) -> str:
    """Returns the name under which a class is served, unless another one is given."""
    return options_of(cls).name or names.own_object_name(cls.__name__.lower())
