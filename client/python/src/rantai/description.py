"""What a class offers on the bus: its methods, parameters and events, from its type hints and docstrings."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from . import schema
from .faults import Fault, InvalidParams, wrong_parameter
from .schema import Codec, Codecs
from .wire import names
from .wire.request import One, Params

_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterable,
)


#: Attribute of a function that holds its marks.
MARKS = "__rantai__"


@dataclass(frozen=True)
class Parameter:
    """Parameter of a method."""

    name: str
    codec: Codec
    required: bool


@dataclass(frozen=True)
class Marks:
    """What `@rantai.method` says of a method."""

    idempotent: bool = False
    read_only: bool = False
    secret: bool = False
    time_limit: Optional[float] = None
    name: Optional[str] = None


@dataclass(frozen=True)
class Method:
    """Method of an object."""

    name: str
    summary: str
    params: list[Parameter]
    result: Codec
    marks: Marks
    #: Whether the result is a stream of items.
    stream: bool
    #: Whether the function is to be awaited, or its items to be iterated over by `async for`.
    is_async: bool
    attribute: str

    def open_rpc(self, tags: list[dict[str, str]]) -> dict[str, Any]:
        """Returns the method of an OpenRPC document."""
        result = {"type": "array", "items": self.result.schema} if self.stream else self.result.schema
        members: dict[str, Any] = {
            "name": self.name,
            "summary": self.summary,
            "paramStructure": "either",
            "params": [{"name": p.name, "required": p.required, "schema": p.codec.schema} for p in self.params],
            "result": {"name": "result", "schema": result},
            "errors": [{"code": -32000, "message": "the method's own error; data.kind tells which"}],
            "tags": tags,
            "x-idempotent": self.marks.idempotent or self.marks.read_only,
            "x-once": False,
        }
        optional = {
            "x-read-only": self.marks.read_only or None,
            "x-secret": self.marks.secret or None,
            "x-stream": self.stream or None,
            "x-time-limit-ms": round(self.marks.time_limit * 1000) if self.marks.time_limit else None,
        }
        members.update({name: value for name, value in optional.items() if value is not None})
        return members

    def bind(self, params: Params) -> dict[str, Any]:
        """Converts the parameters of a request to those of the function. Raises `InvalidParams`."""
        names_ = [p.name for p in self.params]
        given: dict[str, Any]
        if params is None:
            given = {}
        elif isinstance(params, list):
            if len(params) > len(names_):
                raise _wrong(f"expected {_has(names_)}, got {len(params)}", "params", names_)
            given = dict(zip(names_, params))
        elif isinstance(params, dict):
            for name in params:
                if name not in names_:
                    raise _wrong(f'unknown parameter "{name}"; expected {_has(names_)}', name, names_)
            given = params
        else:
            if not names_:
                raise _wrong(f"expected {_has(names_)}, got 1", "params", names_)
            given = {names_[0]: params}
        bound = {}
        for parameter in self.params:
            if parameter.name not in given:
                if parameter.required:
                    raise wrong_parameter(parameter.name, "a value; it is missing")
                continue
            value = given[parameter.name]
            if value is None and not parameter.required:
                try:
                    bound[parameter.name] = parameter.codec.read(None, parameter.name)
                except Fault:
                    # Null stands for a parameter that is left out.
                    pass
                continue
            bound[parameter.name] = _read(parameter, value)
        return bound


def _read(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, bytes) and not schema.is_binary(parameter.codec.schema):
        raise wrong_parameter(parameter.name, "JSON; it is binary")
    if not isinstance(value, One):
        return parameter.codec.read(value, parameter.name)
    try:
        return parameter.codec.read(value.value, parameter.name)
    except Fault:
        # A book may be called 1984.
        if schema.takes_text(parameter.codec.schema):
            return parameter.codec.read(value.text, parameter.name)
        raise


def _has(names_: list[str]) -> str:
    if not names_:
        return "no parameters"
    return f"{len(names_)} parameter{'s' if len(names_) > 1 else ''} ({', '.join(names_)})"


def _wrong(text: str, path: str, names_: list[str]) -> InvalidParams:
    return InvalidParams(text, path=path, expected=_has(names_))


@dataclass(frozen=True)
class EventDescription:
    """Event that an object emits."""

    name: str
    codec: Codec
    #: Whether the last value is retained.
    state: bool


@dataclass
class Description:
    """Description of an object: a short form for the registry, and all of it for `rpc.discover`."""

    summary: str = ""
    version: str = ""
    tags: list[str] = field(default_factory=list)
    methods: dict[str, Method] = field(default_factory=dict)
    events: dict[str, EventDescription] = field(default_factory=dict)
    schemas: dict[str, Any] = field(default_factory=dict)

    def open_rpc(self, object: str) -> dict[str, Any]:
        """Returns an OpenRPC 1.3 document."""
        tags = [{"name": tag} for tag in self.tags]
        return {
            "openrpc": "1.3.2",
            "info": {"title": object, "version": self.version or "0.0.0", "description": self.summary},
            "methods": [method.open_rpc(tags) for method in self.methods.values()],
            "components": {"schemas": self.schemas},
            "x-events": [{"name": e.name, "schema": e.codec.schema, "state": e.state} for e in self.events.values()],
        }


def summary_of(documented: object) -> str:
    """Returns the first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def describe(
    cls: type, summary: str, version: str, tags: list[str], events: dict[str, tuple[Any, bool]]
) -> Description:
    """Describes a class: its public functions are methods. Raises `TypeError` for types without a JSON form."""
    codecs = Codecs()
    description = Description(summary, version, tags)
    # In the order in which they are written, those of base classes first.
    attributes = {attribute: None for base in reversed(cls.__mro__) for attribute in vars(base)}
    for attribute in attributes:
        function = getattr(cls, attribute)
        if attribute.startswith("_") or isinstance(function, type) or not callable(function):
            continue
        function = inspect.unwrap(function)
        if not inspect.isfunction(function):
            continue
        method = _method(codecs, cls, attribute, function)
        description.methods[method.name] = method
    for name, (hint, state) in events.items():
        description.events[name] = EventDescription(name, codecs.of(hint), state)
    description.schemas = codecs.schemas
    return description


def _method(codecs: Codecs, cls: type, attribute: str, function: Callable[..., Any]) -> Method:
    marks: Marks = getattr(function, MARKS, Marks())
    where = f"{cls.__name__}.{attribute}"
    name = names.method_name(marks.name or attribute)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise TypeError(f"cannot read the type hints of {where}: {error}; import what they name") from error
    signature = inspect.signature(function)
    is_static = isinstance(inspect.getattr_static(cls, attribute), staticmethod)
    parameters = list(signature.parameters.values())[0 if is_static else 1 :]
    params = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"{where}: the parameter {parameter} cannot be called by name; write it as a plain one")
        codec = _codec(codecs, hints.get(parameter.name, Any), f"{where}, parameter {parameter.name}")
        params.append(Parameter(parameter.name, codec, parameter.default is parameter.empty))
    if len(params) > 1 and any(schema.is_binary(p.codec.schema) for p in params):
        raise TypeError(f"{where}: bytes are a parameter of their own; pass the others in another method, or use str")
    result = hints.get("return", Any)
    origin = typing.get_origin(result) or result
    stream = origin in _STREAMS or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if stream:
        args = typing.get_args(result)
        result = args[0] if args else Any
    codec = _codec(codecs, result, f"{where}, result")
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return Method(name, summary_of(function), params, codec, marks, stream, is_async, attribute)


def _codec(codecs: Codecs, hint: Any, where: str) -> Codec:
    try:
        return codecs.of(hint)
    except schema.Unsupported as error:
        raise TypeError(f"{where}: {error}") from None
