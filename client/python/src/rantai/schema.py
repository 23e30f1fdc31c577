"""JSON Schemas, readers and writers from Python's type hints.

A `Codec` of a type says what JSON it takes (`schema`), converts JSON to the type (`read`) and back (`write`).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import sys
import types
import typing
import uuid
from typing import Any, Callable, Optional, Union

from .faults import wrong_parameter
from .wire.text import LARGEST

Schema = dict[str, Any]

#: Maximum number of characters of a wrong value in an error.
_SHOWN = 100
_UNIONS: tuple[Any, ...] = (Union, types.UnionType) if sys.version_info >= (3, 10) else (Union,)


class Unsupported(TypeError):
    """A type hint that has no JSON form."""


def _same(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True)
class Codec:
    """JSON form of one type."""

    schema: Schema
    #: Converts a JSON value at a path; raises `InvalidParams`.
    read: Callable[[Any, str], Any]
    #: Converts a value of the type to JSON.
    write: Callable[[Any], Any] = _same


def shown(value: Any) -> str:
    """Describes a JSON value in an error."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'string "{value[:_SHOWN]}{"…" if len(value) > _SHOWN else ""}"'
    return f"{'integer' if isinstance(value, int) else 'number'} `{value}`"


def _expected(path: str, expected: str, value: Any) -> Exception:
    return wrong_parameter(path, f"{expected}, found {shown(value)}")


def _read_bool(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _expected(path, "true or false", value)


def _read_int(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST:
        return int(value)
    # Beyond ±(2^53 − 1) an integer is written as a text.
    if isinstance(value, str) and len(value) < 1000 and value.lstrip("-").isdecimal() and value.isascii():
        try:
            number = int(value)
        except ValueError:
            raise _expected(path, "an integer", value) from None
        if abs(number) > LARGEST and str(number) == value:
            return number
    raise _expected(path, "an integer", value)


def _read_float(value: Any, path: str) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > LARGEST + 1:
            raise _expected(path, "a number that a double holds exactly, within ±2^53", value)
        return float(value)
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value.lstrip("-")) >= 16:
        raise _expected(path, "a number that a double holds exactly, within ±2^53", value)
    raise _expected(path, "a number", value)


def _read_str(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    raise _expected(path, "a text", value)


def _read_none(value: Any, path: str) -> None:
    if value is not None:
        raise _expected(path, "null", value)


def _read_bytes(value: Any, path: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    raise wrong_parameter(path, "bytes: content type application/octet-stream")


def _by_text(expected: str, form: str, parse: Callable[[str], Any], write: Callable[[Any], str]) -> Codec:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise _expected(path, expected, value)
        try:
            return parse(value)
        except ValueError:
            raise _expected(path, expected, value) from None

    return Codec({"type": "string", "format": form}, read, write)


def _read_datetime(value: str) -> datetime.datetime:
    # Before Python 3.11 `Z` was not understood.
    return datetime.datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)


_SIMPLE: dict[Any, Codec] = {
    Any: Codec({}, lambda value, path: value),
    object: Codec({}, lambda value, path: value),
    None: Codec({"type": "null"}, _read_none),
    type(None): Codec({"type": "null"}, _read_none),
    bool: Codec({"type": "boolean"}, _read_bool),
    int: Codec({"type": "integer"}, _read_int),
    float: Codec({"type": "number", "format": "double"}, _read_float),
    str: Codec({"type": "string"}, _read_str),
    bytes: Codec({"type": "string", "format": "binary"}, _read_bytes),
    datetime.datetime: _by_text(
        "a date and time as 2026-01-31T12:00:00Z", "date-time", _read_datetime, lambda d: d.isoformat()
    ),
    datetime.date: _by_text("a date as 2026-01-31", "date", datetime.date.fromisoformat, lambda d: d.isoformat()),
    uuid.UUID: _by_text("a UUID", "uuid", uuid.UUID, str),
}


class Codecs:
    """Codecs of one object's types; named types are collected in `schemas`."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._named: dict[Any, Codec] = {}

    def of(self, hint: Any) -> Codec:
        """Returns the codec of a type hint. Raises `Unsupported`."""
        if isinstance(hint, typing.TypeVar):
            return _SIMPLE[Any]
        try:
            if hint in _SIMPLE:
                return _SIMPLE[hint]
        except TypeError:
            pass
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is not None and str(origin).endswith("Annotated"):
            return self.of(args[0])
        if hasattr(hint, "__metadata__"):
            return self.of(hint.__origin__)
        if origin in _UNIONS:
            return self._union(args)
        if origin is typing.Literal:
            return _literal(args)
        kind = origin or hint
        if kind in (tuple,):
            return self._tuple(args)
        if kind in (
            list,
            set,
            frozenset,
            collections.abc.Sequence,
            collections.abc.Iterable,
            collections.abc.Collection,
        ):
            return self._list(kind, args[0] if args else Any)
        if kind in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
            return self._dict(args)
        if isinstance(hint, type):
            return self._class(hint)
        raise Unsupported(f"the type {hint!r} has no JSON form; use the types of docs, or Any")

    def _list(self, kind: Any, item: Any) -> Codec:
        inner = self.of(item)
        make: Callable[[Any], Any] = kind if kind in (set, frozenset) else list

        def read(value: Any, path: str) -> Any:
            if not isinstance(value, list):
                raise _expected(path, "an array", value)
            return make(inner.read(element, f"{path}[{index}]") for index, element in enumerate(value))

        return Codec({"type": "array", "items": inner.schema}, read, lambda value: [inner.write(v) for v in value])

    def _tuple(self, args: tuple[Any, ...]) -> Codec:
        if not args:
            return self._list(list, Any)
        if len(args) == 2 and args[1] is Ellipsis:
            items = self._list(list, args[0])
            return Codec(items.schema, lambda value, path: tuple(items.read(value, path)), items.write)
        inner = [self.of(arg) for arg in args if arg != ()]

        def read(value: Any, path: str) -> Any:
            if not isinstance(value, list) or len(value) != len(inner):
                raise _expected(path, f"an array of {len(inner)} items", value)
            return tuple(codec.read(v, f"{path}[{index}]") for index, (codec, v) in enumerate(zip(inner, value)))

        schema = {
            "type": "array",
            "prefixItems": [c.schema for c in inner],
            "minItems": len(inner),
            "maxItems": len(inner),
        }
        return Codec(schema, read, lambda value: [codec.write(v) for codec, v in zip(inner, value)])

    def _dict(self, args: tuple[Any, ...]) -> Codec:
        if args and args[0] not in (str, Any):
            raise Unsupported(f"a dictionary with keys of {args[0]!r} has no JSON form; use str")
        inner = self.of(args[1] if args else Any)

        def read(value: Any, path: str) -> Any:
            if not isinstance(value, dict):
                raise _expected(path, "an object", value)
            return {name: inner.read(member, f"{path}.{name}") for name, member in value.items()}

        schema: Schema = {"type": "object", "additionalProperties": inner.schema or True}
        return Codec(schema, read, lambda value: {name: inner.write(member) for name, member in value.items()})

    def _union(self, args: tuple[Any, ...]) -> Codec:
        members = [(arg, self.of(arg)) for arg in args]
        nullable = any(arg in (None, type(None)) for arg in args)
        others = [codec for arg, codec in members if arg not in (None, type(None))]
        expected = " or ".join(_words(codec.schema) for codec in others)

        def read(value: Any, path: str) -> Any:
            if value is None and nullable:
                return None
            if len(others) == 1:
                return others[0].read(value, path)
            for codec in others:
                try:
                    return codec.read(value, path)
                except Exception:  # noqa: BLE001, S112 - the next member of the union may take it
                    continue
            raise _expected(path, expected, value)

        def write(value: Any) -> Any:
            if value is None:
                return None
            for arg, codec in members:
                kind = typing.get_origin(arg) or arg
                if isinstance(kind, type) and not _is_typed_dict(kind) and isinstance(value, kind):
                    return codec.write(value)
            return value

        return Codec({"anyOf": [codec.schema for _, codec in members]}, read, write)

    def _class(self, cls: type) -> Codec:
        if cls in self._named:
            return self._named[cls]
        if issubclass(cls, enum.Enum):
            return _enumeration(cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(cls)
        if _is_typed_dict(cls):
            return self._typed_dict(cls)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._named_tuple(cls)
        for base in (bool, int, float, str):
            if issubclass(cls, base):
                return _subclass(cls, base)
        raise Unsupported(f"the class {cls.__name__} has no JSON form; make it a dataclass, or use Any")

    def _name(self, cls: type) -> Codec:
        """Enters a reference to a class, which its own fields may use."""
        name = cls.__name__
        if name in self.schemas:
            name = f"{cls.__module__}.{cls.__qualname__}".replace("<", "").replace(">", "")
        self.schemas[name] = {}
        filled: list[Codec] = []
        reference = Codec(
            {"$ref": f"#/components/schemas/{name}"},
            lambda value, path: filled[0].read(value, path),
            lambda value: filled[0].write(value),
        )
        self._named[cls] = reference

        def fill(schema: Schema, read: Callable[[Any, str], Any], write: Callable[[Any], Any]) -> None:
            filled.append(Codec(schema, read, write))
            self.schemas[name] = schema

        self._fill = fill
        return reference

    def _members(
        self, codecs: dict[str, Codec], required: list[str], make: Callable[[dict[str, Any]], Any]
    ) -> Callable[[Any, str], Any]:
        def read(value: Any, path: str) -> Any:
            if not isinstance(value, dict):
                raise _expected(path, "an object", value)
            for name in required:
                if name not in value:
                    raise wrong_parameter(path, f"an object with the member `{name}`; it is missing")
            read_members = {}
            for name, member in value.items():
                codec = codecs.get(name)
                if codec is None:
                    raise wrong_parameter(
                        f"{path}.{name}", f"a member of {', '.join(codecs) or 'nothing'}; it is unknown"
                    )
                read_members[name] = codec.read(member, f"{path}.{name}")
            return make(read_members)

        return read

    def _record(
        self,
        cls: type,
        fields: dict[str, Any],
        required: list[str],
        make: Callable[[dict[str, Any]], Any],
        take: Callable[[Any, str], Any],
    ) -> Codec:
        reference = self._name(cls)
        fill = self._fill
        codecs = {name: self.of(hint) for name, hint in fields.items()}
        schema: Schema = {"type": "object", "properties": {name: c.schema for name, c in codecs.items()}}
        if required:
            schema["required"] = required
        summary = (cls.__doc__ or "").strip().split("\n")[0]
        if summary and not summary.startswith(f"{cls.__name__}("):
            schema["description"] = summary

        fill(schema, self._members(codecs, required, make), _writer(codecs, take))
        return reference

    def _dataclass(self, cls: Any) -> Codec:
        hints = typing.get_type_hints(cls)
        fields = [field for field in dataclasses.fields(cls) if field.init]
        none = dataclasses.MISSING
        required = [f.name for f in fields if f.default is none and f.default_factory is none]
        return self._record(
            cls, {f.name: hints[f.name] for f in fields}, required, lambda members: cls(**members), getattr
        )

    def _named_tuple(self, cls: Any) -> Codec:
        hints = typing.get_type_hints(cls)
        required = [name for name in cls._fields if name not in cls._field_defaults]
        fields = {name: hints.get(name, Any) for name in cls._fields}
        return self._record(cls, fields, required, lambda members: cls(**members), getattr)

    def _typed_dict(self, cls: Any) -> Codec:
        hints = typing.get_type_hints(cls)
        fields = {name: _without_required(hint) for name, hint in hints.items()}
        required = sorted(cls.__required_keys__, key=list(fields).index)
        return self._record(
            cls, fields, required, lambda members: members, lambda value, name: value.get(name, _ABSENT)
        )


_ABSENT: Any = object()


def _writer(codecs: dict[str, Codec], take: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        members = {}
        for name, codec in codecs.items():
            member = take(value, name)
            if member is not _ABSENT:
                members[name] = codec.write(member)
        return members

    return write


def _without_required(hint: Any) -> Any:
    origin = str(typing.get_origin(hint))
    return typing.get_args(hint)[0] if origin.endswith(("Required", "NotRequired")) else hint


def _is_typed_dict(cls: Any) -> bool:
    return isinstance(cls, type) and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def _subclass(cls: type, base: Callable[[Any], Any]) -> Codec:
    simple = _SIMPLE[base]
    return Codec(simple.schema, lambda value, path: cls(simple.read(value, path)), base)


def _literal(values: tuple[Any, ...]) -> Codec:
    expected = " or ".join(f"`{value}`" for value in values)

    def read(value: Any, path: str) -> Any:
        for choice in values:
            if type(choice) is type(value) and choice == value:
                return choice
        raise _expected(path, expected, value)

    return Codec({"enum": list(values)}, read)


def _enumeration(cls: type[enum.Enum]) -> Codec:
    values = {member.value: member for member in cls}
    expected = " or ".join(f"`{value}`" for value in values)

    def read(value: Any, path: str) -> Any:
        try:
            return values[value]
        except (KeyError, TypeError):
            raise _expected(path, expected, value) from None

    return Codec({"enum": list(values)}, read, lambda member: member.value if isinstance(member, enum.Enum) else member)


_WORDS = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "a text",
    "array": "an array",
    "object": "an object",
}


def _words(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    return _WORDS.get(schema.get("type", ""), "an object" if "$ref" in schema else "a value")


def is_binary(schema: Optional[Schema]) -> bool:
    """Returns whether a schema is that of bytes."""
    return schema is not None and schema.get("format") == "binary"


def takes_text(schema: Schema) -> bool:
    """Returns whether a schema takes a text, alone or beside others."""
    if "anyOf" in schema:
        return any(takes_text(member) for member in schema["anyOf"])
    return schema.get("type") == "string" and not is_binary(schema)
